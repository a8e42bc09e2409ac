"""``diagnose`` accounts for every tensor: weights replaced whole, rows that moved far, names that nobody reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from rora_cli.commands import check
from rora_cli.commands.diagnose import DiagnoseConfig, run
from rora_cli.commands.diagnose.rows import moved_far, ways_of_rows
from rora_cli.commands.diagnose.run import exit_code
from rora_cli.results.diagnose import Diagnosis
from tests.adapters import edit_config, edit_tensors
from tests.hostile import corpus

ADAPTER, MODEL = "adapter_model.safetensors", "model.safetensors"
PREFIX = "base_model.model."
EMBEDDING = "bert.embeddings.word_embeddings.weight"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    corpus.valid_model(tmp_path / "base")
    return tmp_path / "base"


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    corpus.valid_adapter(tmp_path / "adapter")
    return tmp_path / "adapter"


def diagnosed(path: Path, base: Path | None = None) -> tuple[Diagnosis, int]:
    result = run(DiagnoseConfig(paths=(str(path),), base=None if base is None else str(base), top_k=4))
    return result.adapters[0], int(exit_code(result, "medium"))


def rules(diagnosis: Diagnosis) -> dict[str, Any]:
    return {f.rule_id: f for f in diagnosis.findings}


def replaced(base: Path, name: str, at: tuple[Any, ...], value: float) -> torch.Tensor:
    tensor = load_file(base / MODEL)[name].clone()
    tensor[at] += value
    return tensor


def test_a_planted_row_of_a_replaced_embedding_is_found(base: Path, adapter: Path) -> None:
    edit_config(adapter, modules_to_save=["classifier", "word_embeddings"])
    edit_tensors(adapter, **{PREFIX + EMBEDDING: replaced(base, EMBEDDING, (15,), 4.0)})
    diagnosis, code = diagnosed(adapter, base)
    found = rules(diagnosis)["spectral/embedding-rows"]
    assert rules(diagnosis)["adapter/replaces-embedding"].severity.label == "low"
    assert found.evidence["rows"] == [15] and found.severity.label == "medium" and code == 1
    measured = next(m for m in diagnosis.modules if m.name == EMBEDDING.removesuffix(".weight"))
    assert measured.sigma_max == pytest.approx(4.0 * 8**0.5, rel=1e-4) and measured.format == "difference"


def test_rows_that_move_as_training_moves_them_are_no_finding(base: Path, adapter: Path) -> None:
    edit_config(adapter, modules_to_save=["classifier", "word_embeddings"])
    own = load_file(base / MODEL)[EMBEDDING]
    moved = own + 0.05 * torch.randn(own.shape, generator=torch.Generator().manual_seed(0))
    edit_tensors(adapter, **{PREFIX + EMBEDDING: moved})
    diagnosis, code = diagnosed(adapter, base)
    assert "spectral/embedding-rows" not in rules(diagnosis) and code == 0


@pytest.mark.parametrize(
    ("saved", "name"),
    [
        (["word_embeddings"], EMBEDDING),
        (["pooler"], "bert.pooler.dense.weight"),
        (["dense"], "bert.encoder.layer.0.output.dense.weight"),
    ],
)
def test_a_replaced_weight_is_not_read_without_the_base(base: Path, adapter: Path, saved: list[str], name: str) -> None:
    edit_config(adapter, modules_to_save=["classifier", *saved])
    edit_tensors(adapter, **{PREFIX + name: replaced(base, name, (0,), 0.01)})
    alone, code = diagnosed(adapter)
    is_finding = any(f.severity.label in ("medium", "high") and not f.not_analysed for f in alone.findings)
    assert "give the base model" in alone.unmeasured[PREFIX + name] and code == (1 if is_finding else 3)
    assert is_finding == name.endswith("output.dense.weight")
    beside, _ = diagnosed(adapter, base)
    assert not beside.unmeasured and name.removesuffix(".weight") in {m.name for m in beside.modules}


def test_a_new_head_has_no_base(adapter: Path) -> None:
    diagnosis, code = diagnosed(adapter)
    assert code == 0 and set(diagnosis.set_aside) == {f"{PREFIX}classifier.{p}" for p in ("weight", "bias")}


def test_a_replaced_bias_is_compared(base: Path, adapter: Path) -> None:
    name = "bert.encoder.layer.0.attention.self.query.bias"
    edit_config(adapter, bias="all")
    edit_tensors(adapter, **{PREFIX + name: replaced(base, name, (0,), 0.25)})
    assert diagnosed(adapter)[1] == 3
    diagnosis, code = diagnosed(adapter, base)
    assert "0.25" in diagnosis.set_aside[PREFIX + name] and code == 0


@pytest.mark.parametrize("which", ["all", "half"])
def test_an_adapters_name_left_in_the_names_is_the_reason(base: Path, adapter: Path, which: str) -> None:
    tensors = {
        n.replace(".weight", ".default.weight") if "lora_" in n and (which == "all" or "value" in n) else n: t
        for n, t in load_file(adapter / ADAPTER).items()
    }
    save_file(tensors, adapter / ADAPTER)
    diagnosis, code = diagnosed(adapter, base)
    assert code == 3 and diagnosis.unmeasured.keys() == {n for n in tensors if ".default." in n}
    assert all("'default'" in why for why in diagnosis.unmeasured.values())
    assert check.exit_code(check.run(check.CheckConfig(paths=(str(adapter),))), "medium") == 3, (
        "the names alone tell it"
    )


def test_an_adapter_that_adds_nothing_is_said(adapter: Path) -> None:
    tensors = load_file(adapter / ADAPTER)
    edit_tensors(adapter, **{n: torch.zeros_like(t) for n, t in tensors.items() if "lora_B" in n})
    diagnosis, code = diagnosed(adapter)
    assert "spectral/no-update" in rules(diagnosis) and code == 1
    one = next(n for n in tensors if "lora_B" in n)
    edit_tensors(adapter, **{one: tensors[one]})
    diagnosis, code = diagnosed(adapter)
    assert "spectral/zero-update" in rules(diagnosis) and code == 0


def test_an_adapter_of_empty_tensors_holds_no_update(adapter: Path) -> None:
    empty = {n: torch.zeros(0) if "lora_" in n else t for n, t in load_file(adapter / ADAPTER).items()}
    save_file(empty, adapter / ADAPTER)
    diagnosis, code = diagnosed(adapter)
    found = rules(diagnosis)["adapter/no-update"]
    assert found.severity.label == "medium" and "ZeRO-3" in found.message and code == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"arrow_config": {"top_k": 3}},
        {"use_bdlora": {"nblocks": 2}},
        {"kasa_config": {"beta": 0.1}},
        {"use_some_new_form": True},
        {"new_form_config": {"x": 1}},
        {"init_lora_weights": "brand-new"},
    ],
)
def test_a_variant_that_is_not_read_is_not_measured_as_plain(adapter: Path, fields: dict[str, Any]) -> None:
    edit_config(adapter, **fields)
    diagnosis, code = diagnosed(adapter)
    assert {m.name for m in diagnosis.modules} <= {"classifier"} and code == 3
    assert not [f for f in diagnosis.findings if f.severity.label == "high"]


def test_repeated_layers_are_not_measured_against_the_layer_of_their_number(base: Path, adapter: Path) -> None:
    edit_config(adapter, layer_replication=[[0, 1], [0, 1]])
    diagnosis, code = diagnosed(adapter, base)
    assert {m.name for m in diagnosis.modules} <= {"classifier"} and code == 1
    assert "adapter/replicates-layers" in rules(diagnosis) and not diagnosis.is_complete


@pytest.mark.parametrize("old", ["base", "tuned"])
def test_names_of_the_first_years_and_buffers(base: Path, tmp_path: Path, old: str) -> None:
    corpus.valid_model(tmp_path / "tuned")
    tuned = {n: t + 0.01 for n, t in load_file(base / MODEL).items()}
    renamed = {
        n.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): t
        for n, t in (load_file(base / MODEL) if old == "base" else tuned).items()
    }
    positions = {"bert.embeddings.position_ids": torch.arange(32)[None]}
    save_file(renamed if old == "base" else tuned, (base if old == "base" else tmp_path / "tuned") / MODEL)
    save_file({**(tuned if old == "base" else renamed), **positions}, tmp_path / "tuned" / MODEL)
    diagnosis, _ = diagnosed(tmp_path / "tuned", base)
    assert not diagnosis.unmeasured
    assert "buffer" in diagnosis.set_aside["bert.embeddings.position_ids"]
    norms = [why for name, why in diagnosis.set_aside.items() if "LayerNorm" in name]
    assert len(norms) == 6 and all("0.01" in why for why in norms)


def test_ways_of_rows_are_those_of_the_product() -> None:
    from rora_cli.checkpoints.adapters import Update

    draw = torch.Generator().manual_seed(0)
    A, B = torch.randn(3, 20, generator=draw), torch.randn(6, 3, generator=draw)
    update = Update(A, B, -0.5)
    torch.testing.assert_close(ways_of_rows(update), update.delta_weight(torch.float64).norm(dim=0))
    assert not list(moved_far("e", torch.zeros(0), torch.zeros(0)))


def _moe_base(directory: Path, *, fused: bool) -> dict[str, torch.Tensor]:
    """A Mixtral layer's experts as a file holds them, expert by expert or as one stack; returned as one stack."""
    draw = np.random.default_rng(0)
    stack = {name: draw.normal(0, 1, shape) for name, shape in (("gate_up_proj", (3, 10, 6)), ("down_proj", (3, 6, 5)))}
    path, tensors = "model.layers.0.", {}
    if fused:
        tensors = {f"{path}mlp.experts.{name}": array for name, array in stack.items()}
    else:
        for e in range(3):
            expert = f"{path}block_sparse_moe.experts.{e}."
            gate, up = np.split(stack["gate_up_proj"][e], 2)
            tensors |= {
                f"{expert}w1.weight": gate,
                f"{expert}w3.weight": up,
                f"{expert}w2.weight": stack["down_proj"][e],
            }
    directory.mkdir()
    corpus.write_safetensors(directory / MODEL, tensors)
    corpus.write_json(directory / "config.json", {"model_type": "mixtral"})
    return {name: torch.tensor(array, dtype=torch.float32) for name, array in stack.items()}


def test_fused_experts_are_found_in_a_base_saved_expert_by_expert(tmp_path: Path) -> None:
    stack = _moe_base(tmp_path / "moe", fused=False)
    (tmp_path / "a").mkdir()
    draw, path = np.random.default_rng(1), f"{PREFIX}model.layers.0.mlp.experts."
    tensors = {
        f"{path}lora_A.weight": draw.normal(0, 1, (6, 5)), f"{path}lora_B.weight": draw.normal(0, 1, (6, 6)),
        f"{path}base_layer.lora_A.weight": draw.normal(0, 1, (6, 6)),
        f"{path}base_layer.lora_B.weight": draw.normal(0, 1, (10, 6)),
    }  # fmt: skip
    corpus.write_safetensors(tmp_path / "a" / ADAPTER, tensors)
    targets = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
    config = corpus.adapter_config(task_type="CAUSAL_LM", modules_to_save=None, target_parameters=targets)
    (tmp_path / "a" / "adapter_config.json").write_text(json.dumps(config))
    diagnosis, code = diagnosed(tmp_path / "a", tmp_path / "moe")
    assert code == 0 and len(diagnosis.modules) == 6 and all(m.base_sigma_max for m in diagnosis.modules)
    exact = {float(torch.linalg.matrix_norm(W, 2)) for weights in stack.values() for W in weights}
    assert sorted(m.base_sigma_max or 0 for m in diagnosis.modules) == pytest.approx(sorted(exact), rel=1e-5)


def test_single_experts_are_found_in_a_base_saved_as_one_stack(tmp_path: Path) -> None:
    stack = _moe_base(tmp_path / "moe", fused=True)
    (tmp_path / "a").mkdir()
    draw = np.random.default_rng(1)
    shapes = {"w1": (6, 5), "w3": (6, 5), "w2": (5, 6)}
    tensors = {}
    for name, (d_in, d_out) in shapes.items():
        path = f"{PREFIX}model.layers.0.block_sparse_moe.experts.2.{name}"
        tensors[f"{path}.lora_A.weight"] = draw.normal(0, 1, (2, d_in))
        tensors[f"{path}.lora_B.weight"] = draw.normal(0, 1, (d_out, 2))
    corpus.write_safetensors(tmp_path / "a" / ADAPTER, tensors)
    config = corpus.adapter_config(task_type="CAUSAL_LM", modules_to_save=None, target_modules=list(shapes))
    (tmp_path / "a" / "adapter_config.json").write_text(json.dumps(config))
    diagnosis, code = diagnosed(tmp_path / "a", tmp_path / "moe")
    gate, up = stack["gate_up_proj"][2].chunk(2)
    exact = {"w1": gate, "w3": up, "w2": stack["down_proj"][2]}
    assert code == 0 and len(diagnosis.modules) == 3
    for module in diagnosis.modules:
        expected = float(torch.linalg.matrix_norm(exact[module.name.rpartition(".")[2]], 2))
        assert module.base_sigma_max == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("ties", "found"), [(True, True), (False, False), (None, False)])
def test_a_tied_output_layer_is_the_embedding(tmp_path: Path, ties: bool | None, found: bool) -> None:
    """Llama ties its embeddings only where its config says so."""
    for directory in ("base", "a"):
        (tmp_path / directory).mkdir()
    W = np.random.default_rng(0).normal(0, 1, (12, 6))
    corpus.write_safetensors(tmp_path / "base" / MODEL, {"model.embed_tokens.weight": W})
    said = {} if ties is None else {"tie_word_embeddings": ties}
    corpus.write_json(tmp_path / "base" / "config.json", {"model_type": "llama", **said})
    tensors = {f"{PREFIX}lm_head.lora_A.weight": np.ones((2, 6)), f"{PREFIX}lm_head.lora_B.weight": np.ones((12, 2)),
               f"{PREFIX}lm_head.base_layer.weight": W}  # fmt: skip
    corpus.write_safetensors(tmp_path / "a" / ADAPTER, tensors)
    config = corpus.adapter_config(task_type="CAUSAL_LM", modules_to_save=None, target_modules=["lm_head"])
    corpus.write_json(tmp_path / "a" / "adapter_config.json", config)
    diagnosis, code = diagnosed(tmp_path / "a", tmp_path / "base")
    (module,) = diagnosis.modules
    assert (module.base_sigma_max is not None) == found == (code == 0)
    if found:
        assert module.base_sigma_max == pytest.approx(float(np.linalg.norm(W, 2)), rel=1e-5)
        assert rules(diagnosis).keys() >= {"adapter/equal-copy"}


def test_token_rows_are_measured_and_those_that_moved_far_are_named(base: Path, adapter: Path) -> None:
    own = load_file(base / MODEL)[EMBEDDING]
    rows = f"{PREFIX}bert.embeddings.word_embeddings.token_adapter.trainable_tokens_delta"
    edit_config(adapter, trainable_token_indices={"word_embeddings": [9, 4]})
    assert rules(diagnosed(adapter)[0])["adapter/token-rows-missing"].blocking
    edit_tensors(adapter, **{rows: torch.stack([own[9] + 3, own[4] + 0.001])})
    alone, code = diagnosed(adapter)
    assert "9, 4" in alone.unmeasured[rows] and code == 1 and "adapter/token-rows" in rules(alone)
    diagnosis, code = diagnosed(adapter, base)
    assert rules(diagnosis)["spectral/embedding-rows"].evidence["rows"] == [9] and code == 1
    measured = next(m for m in diagnosis.modules if m.format == "embedding-rows")
    assert measured.sigma_max == pytest.approx(3 * 8**0.5, rel=1e-4)
    edit_tensors(adapter, **{rows: own[:3].clone()})
    assert "names 2 rows" in diagnosed(adapter, base)[0].unmeasured[rows]
