"""A checkpoint written anew tensor by tensor: its files, names and types stay, and only what is to change changes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, LlamaConfig, LlamaForSequenceClassification

from rora_cli.checkpoints.preflight import inspect
from rora_cli.checkpoints.streaming import Change, stored_names, write_changed
from rora_cli.errors import CheckpointError

WEIGHT = "model.layers.1.self_attn.q_proj.weight"


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bfloat16 Llama in several files."""
    directory = tmp_path_factory.mktemp("sharded")
    config = LlamaConfig(
        vocab_size=60, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, num_labels=3, pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    LlamaForSequenceClassification(config).bfloat16().save_pretrained(directory, max_shard_size="5KB")
    return directory


def state(directory: Path) -> dict[str, torch.Tensor]:
    model = AutoModelForSequenceClassification.from_pretrained(directory, dtype="auto", local_files_only=True)
    return dict(model.state_dict())


def test_files_and_types_stay_and_an_update_is_added_in_float32(sharded: Path, tmp_path: Path) -> None:
    before, delta, head = state(sharded), torch.full((16, 16), 1e-3), torch.randn(2, 16)
    change = Change((16, 16), lambda stored: stored + delta)
    source = inspect(sharded, role="model")
    write_changed(source, tmp_path, {WEIGHT: change, "score.weight": Change((2, 16), lambda _: head)})
    (tmp_path / "config.json").write_text(
        json.dumps({**json.loads((sharded / "config.json").read_text()), "id2label": {"0": "a", "1": "b"}})
    )
    files = sorted(path.name for path in sharded.glob("model*"))
    assert len(files) > 3 and sorted(path.name for path in tmp_path.glob("model*")) == files
    assert not inspect(tmp_path, role="model").findings
    after = state(tmp_path)
    assert torch.equal(after[WEIGHT], (before[WEIGHT].float() + delta).bfloat16())
    assert torch.equal(after["score.weight"], head.bfloat16())
    assert all(torch.equal(after[n], w) for n, w in before.items() if n not in (WEIGHT, "score.weight"))


def test_types_change_where_asked_names_are_added_and_left_out(sharded: Path, tmp_path: Path) -> None:
    source = inspect(sharded, role="model")
    added = {"new.weight": Change((3,), lambda stored: torch.ones(3) if stored is None else stored)}
    write_changed(source, tmp_path, added, left_out=[WEIGHT], dtype=torch.float32)
    written = inspect(tmp_path, role="model").tensors
    assert written.keys() == source.tensors.keys() - {WEIGHT} | {"new.weight"}
    assert {tensor.dtype for tensor in written.values()} == {"F32"}


def test_a_value_that_does_not_fit_its_type_is_refused(sharded: Path, tmp_path: Path) -> None:
    change = {WEIGHT: Change((16, 16), lambda stored: stored * 1e39)}
    with pytest.raises(CheckpointError, match=r"the new model.layers.1.* does not fit bfloat16; use --output-dtype"):
        write_changed(inspect(sharded, role="model"), tmp_path, change)


def test_a_weight_that_has_no_tensor_of_its_own_has_no_name(sharded: Path) -> None:
    source = inspect(sharded, role="model")
    assert stored_names(source, {WEIGHT: (16, 16)}) == {WEIGHT: WEIGHT}
    assert stored_names(source, {WEIGHT: (16, 8)}) is None
    assert stored_names(source, {"model.layers.1.qkv.weight": (16, 16)}) is None
