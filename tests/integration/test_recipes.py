"""One contract for every recipe, and what is particular to the controls."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

import rora_cli
from rora_cli.defences.recipes import RECIPES, WITHOUT_ADAPTER
from rora_cli.errors import UsageError
from tests.conftest import build_tiny_classifier, tiny_rows

OPTIONS: dict[str, Any] = {"device": "cpu", "epochs": 1, "batch_size": 16, "tr_k": 8, "keep_failed": True}
NEEDS: dict[str, dict[str, Any]] = {
    "default": {"search_budget": "fast", "reference": "bag-of-words", "max_rounds": 1, "escalate": "none"},
    "reinit": {"reinit_blocks": 1},
}


@pytest.fixture(scope="module")
def ancestor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_classifier(tmp_path_factory.mktemp("ancestor") / "model", seed=7)


def _load(directory: Path) -> Any:
    from transformers import AutoModelForSequenceClassification

    return AutoModelForSequenceClassification.from_pretrained(directory, local_files_only=True).eval()


def _state(directory: Path) -> dict[str, torch.Tensor]:
    return dict(_load(directory).state_dict())


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe(trained: Path, clean: Path, ancestor: Path, tmp_path: Path, recipe: str) -> None:
    """A model that others load and that gives what was measured, a report, a verdict that claims no more than it knows;
    the same seed gives the same bytes."""
    from transformers import AutoTokenizer

    options = {**OPTIONS, **NEEDS.get(recipe, {}), **({"ancestor": str(ancestor)} if recipe == "mix" else {})}
    out = tmp_path / "out"
    result = rora_cli.purify(trained, clean=clean, output=str(out), recipe=recipe, **options)
    rows = [json.loads(line) for line in (clean / "validation.jsonl").read_text().splitlines()]
    batch = AutoTokenizer.from_pretrained(out)([row["text"] for row in rows], padding=True, return_tensors="pt")
    with torch.inference_mode():
        predicted = _load(out)(**batch).logits.argmax(-1)
    right = int((predicted == torch.tensor([row["label"] for row in rows])).sum())
    assert right == result.accuracy_after.overall.count
    assert (out / "adapter").exists() == (recipe not in WITHOUT_ADAPTER)
    assert result.recipe == recipe and result.stages
    assert result.verdict in ({"pass", "fail", "inconclusive"} if recipe == "default" else {"not assessed", "fail"})
    changed = [name for name, weight in _state(out).items() if not torch.equal(weight, _state(trained)[name])]
    assert changed, "the recipe does nothing"
    if recipe == "default":  # its searches take a while; that they are deterministic is a test of their own
        return
    again = tmp_path / "again"
    rora_cli.purify(trained, clean=clean, output=str(again), recipe=recipe, **options)
    assert (again / "model.safetensors").read_bytes() == (out / "model.safetensors").read_bytes()


@pytest.mark.parametrize(("profile", "shares"), [("even", (0.4, 0.4)), ("lower", (0.6, 0.2)), ("upper", (0.2, 0.6))])
def test_mix_is_the_weighted_mean(trained: Path, ancestor: Path, profile: str, shares: tuple[float, float]) -> None:
    from rora_cli.defences.mix import mix

    suspect, other, mixed = _load(trained), _load(ancestor), _load(trained)
    mix(mixed, other.state_dict(), 0.4, profile)
    expected = {"embeddings": shares[0], "layer.0": shares[0], "layer.3": shares[1], "classifier": shares[1]}
    for part, share in expected.items():
        names = [name for name in mixed.state_dict() if part in name and mixed.state_dict()[name].is_floating_point()]
        assert names
        for name in names:
            wanted = share * suspect.state_dict()[name] + (1 - share) * other.state_dict()[name]
            torch.testing.assert_close(mixed.state_dict()[name], wanted)


def test_an_ancestor_of_another_shape_is_refused(trained: Path, clean: Path, tmp_path: Path) -> None:
    other = build_tiny_classifier(tmp_path / "other", width=48)
    with pytest.raises(UsageError, match=r"is no ancestor of the suspect: .* has the shape"):
        rora_cli.purify(
            trained, clean=clean, output=str(tmp_path / "out"), recipe="mix", ancestor=str(other), **OPTIONS
        )
    with pytest.raises(UsageError, match="needs --ancestor"):
        rora_cli.purify(trained, clean=clean, recipe="mix", **OPTIONS)
    assert not (tmp_path / "out").exists()


def test_reinit_forgets_the_top_and_the_head_only(trained: Path) -> None:
    from rora_cli.defences.reinit import reinitialise

    model, before = _load(trained), _state(trained)
    torch.manual_seed(0)
    reinitialise(model, 1)
    for name, weight in model.state_dict().items():
        forgotten = "layer.3." in name or name.startswith(("classifier", "bert.pooler"))
        if weight.ndim > 1:
            assert torch.equal(weight, before[name]) != forgotten, name
            if forgotten:
                assert abs(float(weight.std()) / model.config.initializer_range - 1) < 0.3, name
    assert float(model.state_dict()["bert.encoder.layer.3.output.LayerNorm.weight"].min()) == 1.0
    with pytest.raises(UsageError, match="more than the 4 blocks"):
        reinitialise(model, 5)


def test_crow_is_the_consistency_under_the_worst_small_shift(trained: Path) -> None:
    from transformers import AutoTokenizer

    from rora_cli.defences.crow import consistency

    model = _load(trained)
    batch = AutoTokenizer.from_pretrained(trained)(tiny_rows(6, seed=2)[0], padding=True, return_tensors="pt")
    mask = batch["attention_mask"].float()

    def apart(states: tuple[torch.Tensor, ...]) -> float:
        pairs = [1 - functional.cosine_similarity(a, b, dim=-1) for a, b in pairwise(states)]
        return float((torch.stack(pairs) * mask).sum() / (len(pairs) * mask.sum()))

    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    model.train()
    with torch.no_grad():
        plain = apart(model(**batch, output_hidden_states=True).hidden_states)
    with consistency(model, 2.0, 0.0) as penalty:
        model(**batch)
        assert float(penalty().detach()) == pytest.approx(2 * plain, rel=1e-5)
    with consistency(model, 2.0, 0.02) as penalty:
        model(**batch)
        loss = penalty()
        assert float(loss.detach()) > 2 * plain * 1.001, "the shift makes neighbours less alike"
        loss.backward()
    assert float(model.bert.encoder.layer[0].output.dense.weight.grad.abs().sum()) > 0
    with torch.inference_mode():
        after = apart(model(**batch, output_hidden_states=True).hidden_states)
    assert after == pytest.approx(plain, rel=1e-5), "the hooks are gone"


def test_pruned_neurons_stay_cut_through_training(trained: Path, clean: Path, tmp_path: Path) -> None:
    options = {**OPTIONS, "max_accuracy_drop": 100.0, "prune": 0.5, "epochs": 2}
    rora_cli.purify(trained, clean=clean, output=str(tmp_path / "out"), recipe="fine-pruning", **options)
    for block in range(4):
        weight = _state(tmp_path / "out")[f"bert.encoder.layer.{block}.output.dense.weight"]
        dead = (weight == 0).all(dim=0)
        assert float(dead.float().mean()) == pytest.approx(0.5, abs=0.02)
    activity = _activity(trained, clean)
    weight = _state(tmp_path / "out")["bert.encoder.layer.0.output.dense.weight"]
    dead = (weight == 0).all(dim=0).numpy()
    assert activity[dead].max() <= activity[~dead].min() * 1.001, "the least excited are cut"


def _activity(model_path: Path, clean: Path) -> np.ndarray:
    """Mean absolute input of block 0's way down over the training rows, without padding and by hand."""
    from transformers import AutoTokenizer

    model, tokenizer = _load(model_path), AutoTokenizer.from_pretrained(model_path)
    seen: list[torch.Tensor] = []
    model.bert.encoder.layer[0].output.dense.register_forward_pre_hook(
        lambda _m, inputs: seen.append(inputs[0].abs().sum((0, 1)))
    )
    with torch.inference_mode():
        for line in (clean / "train.jsonl").read_text().splitlines():
            model(**tokenizer(json.loads(line)["text"], return_tensors="pt"))
    return torch.stack(seen).sum(0).numpy()


def test_default_mixes_a_named_ancestor_in(trained: Path, clean: Path, tmp_path: Path) -> None:
    """The share is one that keeps clean accuracy; what is written is the whole mixed and hardened model."""
    options = {**OPTIONS, **NEEDS["default"], "max_accuracy_drop": 50.0, "triggers": ("cf",)}
    out = tmp_path / "out"
    result = rora_cli.purify(trained, clean=clean, output=str(out), ancestor=str(trained), **options)
    assert [stage.name for stage in result.stages][:3] == ["search 1", "ancestor", "mix"]
    assert result.stages[2].details["suspect's share"] in (0.5, 0.4, 0.3, 0.2)
    assert not (out / "adapter").exists() and (out / "model.safetensors").exists()
    embeddings = "bert.embeddings.word_embeddings.weight"
    assert not torch.equal(_state(out)[embeddings], _state(trained)[embeddings]), "the tuned ancestor is mixed in"
    with pytest.raises(UsageError, match="--adapter-only has nothing to write"):
        rora_cli.purify(trained, clean=clean, ancestor=str(trained), adapter_only=True, **options)
    with pytest.raises(UsageError, match="no meaning for the recipe lora"):
        rora_cli.purify(trained, clean=clean, ancestor=str(trained), recipe="lora", **OPTIONS)


def test_blocks_of_the_references_encoder_take_the_place_of_the_suspects_where_nothing_was_found(
    trained: Path, ancestor: Path, clean: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rora_cli.defences.gauge import Gauge

    options = {**OPTIONS, "max_rounds": 1, "max_accuracy_drop": 100.0}

    def stages(reference: Path, name: str, **more: Any) -> dict[str, Any]:
        result = rora_cli.purify(
            trained, clean=clean, output=str(tmp_path / name), reference=str(reference), **options, **more
        )
        assert result.verdict == "inconclusive"
        return {stage.name: stage.details for stage in result.stages}

    related = stages(trained, "related")
    assert list(related)[:4] == ["search 1", "teach 4 blocks", "teach on", "train 1"]
    assert related["teach 4 blocks"]["kept"]
    assert not (tmp_path / "related" / "adapter").exists(), "an adapter would belong to weights that nobody has"
    for name, more in (("adapter", {"adapter_only": True}), ("kept", {"escalate": "none"})):
        assert list(stages(trained, name, **more))[1] == "train 1"
    monkeypatch.setattr(Gauge, "beyond", lambda *_: 0.1)
    tried = ["search 1", "teach 3 blocks", "teach 2 blocks", "train 1"]
    assert list(stages(trained, "costly"))[:4] == tried, "the encoder is far behind; no share of a student will do"
    stranger = stages(ancestor, "stranger", escalate="reference")
    tried = ["search 1", "teach 4 blocks", "train 1"]
    assert list(stranger)[:3] == tried, "drawn from another seed: only the whole makes sense"


@pytest.mark.slow
def test_two_processes_tune_the_reference_and_teach_its_student_together(
    trained: Path, ancestor: Path, clean: Path, tmp_path: Path
) -> None:
    from transformers import AutoModel, AutoTokenizer

    encoder = tmp_path / "encoder"
    AutoModel.from_pretrained(ancestor, local_files_only=True).save_pretrained(encoder)
    AutoTokenizer.from_pretrained(ancestor, local_files_only=True).save_pretrained(encoder)
    options = {**OPTIONS, "max_rounds": 1, "max_accuracy_drop": 100.0, "reference": str(encoder), "num_processes": 2}
    result = rora_cli.purify(trained, clean=clean, output=str(tmp_path / "out"), **options)
    assert result.provenance.config["processes"] == 2
    assert [stage.name for stage in result.stages][:4] == ["search 1", "teach 4 blocks", "teach on", "train 1"]
    assert "fine-tuned on the" in result.stages[1].details["blocks"]


def test_without_an_ancestor_blocks_are_forgotten_where_accuracy_allows(
    trained: Path, clean: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rora_cli.defences.gauge import Gauge

    options = {**OPTIONS, "max_rounds": 1, "reference": "bag-of-words", "max_accuracy_drop": 100.0}
    block = "bert.encoder.layer.3.attention.self.query.weight"

    def forgotten(name: str) -> dict[str, bool]:
        result = rora_cli.purify(trained, clean=clean, output=str(tmp_path / name), **options)
        drawn = [stage for stage in result.stages if stage.details.get("blocks") == "drawn anew"]
        return {stage.name: stage.details["kept"] for stage in drawn}

    def likeness(name: str) -> float:
        pair = [_state(path)[block].flatten() for path in (trained, tmp_path / name)]
        return float(torch.corrcoef(torch.stack(pair))[0, 1])

    assert forgotten("anew") == {"teach 4 blocks, drawn anew": True}, "it is narrow: nothing of it need be left"
    assert likeness("anew") < 0.5 and not (tmp_path / "anew" / "adapter").exists()
    monkeypatch.setattr(Gauge, "beyond", lambda *_: 1.0)
    tried = ("teach 4 blocks", "teach 2 blocks", "teach 1 block")
    assert forgotten("back") == {f"{stage}, drawn anew": False for stage in tried}
    assert likeness("back") > 0.9 and (tmp_path / "back" / "adapter").exists(), "the suspect's own weights again"
