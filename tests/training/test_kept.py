"""Copies that somebody goes back to: in memory, or in a file without a name, with the same values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from rora_cli import free_memory
from rora_cli.kinds import CAUSAL_LM, SEQUENCE_CLASSIFIER
from rora_cli.training import kept
from rora_cli.training.adapters import attach
from rora_cli.training.kept import Kept, as_it_was
from rora_cli.training.specs import AdapterSpec
from tests.causal import tiny_config
from tests.training.test_adapters import build


@pytest.mark.parametrize("room", [1 << 40, 0])
def test_what_is_kept_comes_back_bit_by_bit(room: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(kept, "free_memory", lambda device: room)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    weight = torch.randn(3, 5)
    tensors = {
        "a": weight, "tied": weight, "turned": weight.T, "half": torch.randn(7).bfloat16(), "flag": torch.tensor(True),
        "none": torch.zeros(0, 4), "count": torch.tensor(3),
    }  # fmt: skip
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    copies = Kept(tensors)
    for name in ("a", "half", "flag", "count"):
        tensors[name].zero_()
    assert list(copies) == list(before)
    for name, value in before.items():
        assert copies[name].dtype == value.dtype and torch.equal(copies[name], value), name
    copies.put_back(tensors)
    assert all(torch.equal(tensors[name], value) for name, value in before.items())
    assert list(tmp_path.iterdir()) == [], "the file has no name any more"


def llama() -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_config(tiny_config("llama"))


def learn(model: Any) -> None:
    for _ in range(2):
        model(input_ids=torch.arange(3, 11).reshape(2, 4)).logits.square().sum().backward()
    weights = [weight for weight in model.parameters() if weight.grad is not None]
    assert weights
    with torch.no_grad():
        for weight in weights:
            weight.sub_(weight.grad.sign(), alpha=0.05)
            weight.grad = None


@pytest.mark.parametrize("room", [1 << 40, 0], ids=["in memory", "on disk"])
@pytest.mark.parametrize("adapted", [False, True], ids=["whole model", "adapter"])
@pytest.mark.parametrize("proof", ["full", "lora"])
@pytest.mark.parametrize("made", [llama, lambda: build("bert")], ids=["llama", "bert"])
def test_a_model_that_is_trained_inside_is_as_it_was(
    made: Callable[[], Any], proof: str, adapted: bool, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "free_memory", lambda device: room)
    torch.manual_seed(0)
    bare = made().eval()
    kind, spec = (CAUSAL_LM if made is llama else SEQUENCE_CLASSIFIER), AdapterSpec(rank=2, target_modules=())
    model = attach(bare, spec, kind)[0].eval() if adapted else bare
    learn(model)  # an adapter that does nothing yet would hide that it was lost
    ids = torch.arange(3, 11).reshape(2, 4)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modules = list(model.named_modules())
    trained, answer = [weight.requires_grad for weight in model.parameters()], model(input_ids=ids).logits
    with as_it_was(model):
        inner = model.merge_and_unload() if adapted else model
        if proof == "lora":
            inner, _ = attach(inner, spec, kind)
        else:
            inner.requires_grad_(True)
        learn(inner)
        assert not torch.equal(inner(input_ids=ids).logits, answer)
    after = model.state_dict()
    assert after.keys() == before.keys() and all(torch.equal(after[name], value) for name, value in before.items())
    assert list(model.named_modules()) == modules
    assert [weight.requires_grad for weight in model.parameters()] == trained
    assert torch.equal(model(input_ids=ids).logits, answer)
    if adapted:
        assert torch.allclose(model.merge_and_unload()(input_ids=ids).logits, answer, atol=1e-4)


def test_a_container_s_limit_counts_and_read_files_do_not(tmp_path: Path) -> None:
    assert free_memory._left_in_container(tmp_path) is None
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 100\ninactive_file 200\n")
    (tmp_path / "memory.max").write_text("1000\n")
    assert free_memory._left_in_container(tmp_path) == 500
    (tmp_path / "memory.max").write_text("max\n")
    assert free_memory._left_in_container(tmp_path) is None
    assert free_memory.free_memory() > 0
