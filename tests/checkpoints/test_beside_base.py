"""Tensors of an adapter that only the base can tell: copies of its weights, and names that it has or has not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from rora_cli.checkpoints.beside_base import with_base
from rora_cli.checkpoints.loading import load_classifier
from rora_cli.checkpoints.preflight import Inspection, inspect
from rora_cli.errors import CheckpointError
from rora_cli.results.findings import Severity
from tests.adapters import edit_config, edit_tensors, save_lora
from tests.hostile import corpus

WEIGHTS = "adapter_model.safetensors"
EMBEDDING = "bert.embeddings.word_embeddings"
COPY = f"base_model.model.{EMBEDDING}.base_layer.weight"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    corpus.valid_model(tmp_path / "base")
    return tmp_path / "base"


@pytest.fixture
def adapter(base: Path, tmp_path: Path) -> Path:
    """A LoRA on the embedding and the queries, with the copy of the embedding that PEFT saves beside it."""
    pytest.importorskip("peft")
    model = load_classifier(base).model
    path = save_lora(model, tmp_path / "adapter", target_modules=["word_embeddings", "query"])
    edit_tensors(path, **{COPY: load_file(base / "model.safetensors")[f"{EMBEDDING}.weight"]})
    return path


def _rules(inspection: Inspection) -> set[str]:
    return {f.rule_id for f in inspection.findings}


def test_a_copy_that_equals_the_base_is_said_and_merged(base: Path, adapter: Path) -> None:
    alone = inspect(adapter)
    assert alone.roles[COPY] == "embedding-copy" and max(f.severity for f in alone.findings) is Severity.LOW
    beside = with_base(alone, inspect(base))
    assert beside.roles[COPY] == "copy" and _rules(beside) == {"adapter/equal-copy"}
    merged = load_classifier(base, adapter=adapter).model.state_dict()
    tensors = load_file(adapter / WEIGHTS)
    A, B = (tensors[f"base_model.model.{EMBEDDING}.lora_embedding_{x}"] for x in "AB")
    original = load_file(base / "model.safetensors")[f"{EMBEDDING}.weight"]
    torch.testing.assert_close(merged[f"{EMBEDDING}.weight"], original + 2 * (B @ A).T)


def test_a_copy_in_half_precision_equals_the_base_as_rounded(base: Path, adapter: Path) -> None:
    edit_tensors(adapter, **{COPY: load_file(adapter / WEIGHTS)[COPY].bfloat16()})
    assert with_base(inspect(adapter), inspect(base)).roles[COPY] == "copy"


@pytest.mark.parametrize("change", ["one entry", "another shape"])
def test_a_copy_that_differs_is_a_hidden_weight(base: Path, adapter: Path, change: str) -> None:
    copy = load_file(adapter / WEIGHTS)[COPY]
    copy[3, 2] += 1e-3
    edit_tensors(adapter, **{COPY: copy if change == "one entry" else copy[:-1].contiguous()})
    (found,) = with_base(inspect(adapter), inspect(base)).findings
    assert (found.rule_id, found.severity) == ("adapter/hidden-base-tensor", Severity.HIGH)
    with pytest.raises(CheckpointError, match="overwrite"):
        load_classifier(base, adapter=adapter)


def test_a_copy_of_what_is_not_targeted_is_hidden(base: Path, adapter: Path) -> None:
    edit_config(adapter, target_modules=["query"])
    assert "adapter/hidden-base-tensor" in _rules(inspect(adapter))
    edit_config(adapter, target_modules={"word_embeddings": 1})
    assert "adapter/hidden-base-tensor" in _rules(inspect(adapter))


def test_a_name_is_judged_by_what_the_base_has(base: Path, adapter: Path) -> None:
    known = "base_model.model.bert.encoder.layer.0.output.dense.weight"
    strange = "base_model.model.bert.encoder.layer.7.output.dense.weight"
    edit_tensors(adapter, **{known: torch.ones(8, 16), strange: torch.ones(8, 16), "x.gate_values": torch.ones(2)})
    alone, beside = inspect(adapter), with_base(inspect(adapter), inspect(base))
    assert [alone.roles[n] for n in (known, strange, "x.gate_values")] == ["base", "base", "unknown"]
    assert [beside.roles[n] for n in (known, strange, "x.gate_values")] == ["base", "unknown", "unknown"]
    assert _rules(beside) == {"adapter/equal-copy", "adapter/hidden-base-tensor", "adapter/unknown-tensor"}


def test_old_names_of_the_base_are_its_own(base: Path, adapter: Path) -> None:
    """PEFT's names are those in memory: LayerNorm.weight, where an old file has LayerNorm.gamma."""
    tensors = load_file(base / "model.safetensors")
    old = {n.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): t.numpy()
           for n, t in tensors.items()}  # fmt: skip
    corpus.write_safetensors(base / "model.safetensors", old)
    name = "base_model.model.bert.embeddings.LayerNorm.weight"
    edit_tensors(adapter, **{name: torch.ones(8)})
    assert with_base(inspect(adapter), inspect(base)).roles[name] == "base"
    edit_tensors(adapter, **{name: tensors["bert.embeddings.LayerNorm.weight"]})
    assert with_base(inspect(adapter), inspect(base)).roles[name] == "copy"
