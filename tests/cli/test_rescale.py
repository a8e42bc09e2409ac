"""``rora rescale`` from the command line, on tiny adapters; what it writes is loaded and measured by PEFT."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from typer.testing import CliRunner, Result

from rora_cli.errors import CheckpointError, OutputError, RoraError, UsageError
from tests.adapters import edit_config, edit_tensors, save_lora, tiny_distilbert, tiny_gpt2
from tests.cli.apps import alone
from tests.reports.schemas import valid

WEIGHTS = "adapter_model.safetensors"
TOP3 = {1, 2, 3}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nn.Module]:
    directory = tmp_path_factory.mktemp("base") / "model"
    return directory, tiny_distilbert(directory)


@pytest.fixture
def adapter(base: tuple[Path, nn.Module], tmp_path: Path) -> Path:
    return save_lora(base[1], tmp_path / "adapter", target_modules=["q_lin", "v_lin"])


def rescale(*arguments: object) -> Result:
    return CliRunner().invoke(alone("rescale"), [str(a) for a in arguments] + ["-q"], catch_exceptions=False)


def updates(model: nn.Module, directory: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """(W, DeltaW) of every adapted module, by PEFT's own merge."""
    merged = peft.PeftModel.from_pretrained(copy.deepcopy(model), str(directory)).merge_and_unload().state_dict()
    original = model.state_dict()
    names = [
        n for n in original if n.endswith(("lin.weight", "c_attn.weight")) and not torch.equal(merged[n], original[n])
    ]
    return {n: (original[n].double(), merged[n].double() - original[n].double()) for n in names}


def sigma(matrix: Tensor) -> float:
    return float(torch.linalg.svdvals(matrix)[0])


def block(name: str) -> int:
    return next(int(part) for part in name.split(".") if part.isdigit())


def test_top_three_blocks_become_as_strong_as_the_base_and_the_others_stay(base, adapter: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = rescale(adapter, "--base", base[0], "-o", out)
    assert result.exit_code == 0
    before, after = updates(base[1], adapter), updates(base[1], out)
    assert len(after) == 8
    for name, (W, delta) in after.items():
        if block(name) in TOP3:
            assert sigma(delta) == pytest.approx(sigma(W), rel=1e-5)
            direction = before[name][1] / sigma(before[name][1])
            assert torch.allclose(delta / sigma(delta), direction, atol=1e-5)
        else:
            assert torch.equal(delta, before[name][1])
    assert "post-condition" in result.stdout and "classifier" in result.stdout
    assert str(out) in result.stdout.replace("\n", "")


def test_it_is_idempotent_to_the_bit(base, adapter: Path, tmp_path: Path) -> None:
    rescale(adapter, "--base", base[0], "-o", tmp_path / "once")
    again = rescale(tmp_path / "once", "--base", base[0], "-o", tmp_path / "twice")
    once, twice = load_file(tmp_path / "once" / WEIGHTS), load_file(tmp_path / "twice" / WEIGHTS)
    assert once.keys() == twice.keys()
    assert all(torch.equal(once[name], twice[name]) for name in once)
    assert "nothing to do" in again.stdout


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_it_is_idempotent_in_half_precision(base, adapter: Path, tmp_path: Path, dtype: str) -> None:
    half = {name: t.to(getattr(torch, dtype)) for name, t in load_file(adapter / WEIGHTS).items()}
    edit_tensors(adapter, **half)
    rescale(adapter, "--base", base[0], "-o", tmp_path / "once")
    rescale(tmp_path / "once", "--base", base[0], "-o", tmp_path / "twice")
    once, twice = load_file(tmp_path / "once" / WEIGHTS), load_file(tmp_path / "twice" / WEIGHTS)
    assert all(once[name].dtype == getattr(torch, dtype) for name in once)
    assert all(torch.equal(once[name], twice[name]) for name in once)


def test_a_fixed_factor_needs_no_base_and_scales_exactly(base, adapter: Path, tmp_path: Path) -> None:
    assert rescale(adapter, "--factor", "0.5", "--layers", "all", "-o", tmp_path / "out").exit_code == 0
    before, after = load_file(adapter / WEIGHTS), load_file(tmp_path / "out" / WEIGHTS)
    for name, tensor in before.items():
        assert torch.equal(after[name], tensor * 0.5 if "lora_B" in name else tensor), name


def test_cap_and_strength(base, adapter: Path, tmp_path: Path) -> None:
    before = updates(base[1], adapter)
    rescale(adapter, "--base", base[0], "--strength", "0.5", "--layers", "3", "-o", tmp_path / "half")
    for name, (W, delta) in updates(base[1], tmp_path / "half").items():
        expected = 0.5 * sigma(W) if block(name) == 3 else sigma(before[name][1])
        assert sigma(delta) == pytest.approx(expected, rel=1e-5)
    needed = min(sigma(W) / sigma(d) for n, (W, d) in before.items() if block(n) == 3)
    capped = rescale(adapter, "--base", base[0], "--cap", needed / 2, "--layers", "3", "-o", tmp_path / "cap")
    for name, (_, delta) in updates(base[1], tmp_path / "cap").items():
        factor = needed / 2 if block(name) == 3 else 1.0
        assert sigma(delta) == pytest.approx(factor * sigma(before[name][1]), rel=1e-5)
    assert "below the factor asked for" in capped.stdout


def test_alpha_pattern_leaves_the_tensors_alone_and_peft_applies_it(base, adapter: Path, tmp_path: Path) -> None:
    # Entries that are there already, one of which matches everything, must neither win nor be lost on the others.
    edit_config(adapter, alpha_pattern={"layer.0.attention.q_lin": 3.0, r".*v_lin": 20})
    folded, patterned = tmp_path / "folded", tmp_path / "patterned"
    rescale(adapter, "--base", base[0], "-o", folded)
    result = rescale(adapter, "--base", base[0], "--via", "alpha-pattern", "-o", patterned)
    before, after = load_file(adapter / WEIGHTS), load_file(patterned / WEIGHTS)
    assert all(torch.equal(before[name], after[name]) for name in before)
    ours, theirs = updates(base[1], patterned), updates(base[1], folded)
    for name in ours:
        assert torch.allclose(ours[name][1], theirs[name][1], rtol=1e-4, atol=1e-6), name
    assert "ignore alpha_pattern" in result.stdout


def test_an_existing_alpha_pattern_can_be_baked_in(base, adapter: Path, tmp_path: Path) -> None:
    edit_config(adapter, alpha_pattern={"q_lin": 3.0})
    kept, baked = tmp_path / "kept", tmp_path / "baked"
    rescale(adapter, "--base", base[0], "-o", kept)
    rescale(adapter, "--base", base[0], "--bake-alpha-pattern", "-o", baked)
    assert json.loads((kept / "adapter_config.json").read_text())["alpha_pattern"] == {"q_lin": 3.0}
    assert json.loads((baked / "adapter_config.json").read_text())["alpha_pattern"] == {}
    one, two = updates(base[1], kept), updates(base[1], baked)
    assert all(torch.allclose(one[name][1], two[name][1], rtol=1e-4, atol=1e-6) for name in one)


def test_dtype_and_heads(base, adapter: Path, tmp_path: Path) -> None:
    rescale(adapter, "--base", base[0], "--dtype", "float16", "-o", tmp_path / "out")
    before, after = load_file(adapter / WEIGHTS), load_file(tmp_path / "out" / WEIGHTS)
    for name, tensor in after.items():
        if "lora_" in name:
            assert tensor.dtype == torch.float16
        else:
            assert torch.equal(tensor, before[name])


def test_conv1d(tmp_path: Path) -> None:
    model = tiny_gpt2(tmp_path / "base")
    save_lora(model, tmp_path / "adapter", target_modules=["c_attn"], fan_in_fan_out=True)
    assert rescale(tmp_path / "adapter", "--base", tmp_path / "base", "-o", tmp_path / "out").exit_code == 0
    after = updates(model, tmp_path / "out")
    assert len(after) == 2
    for W, delta in after.values():
        assert sigma(delta) == pytest.approx(sigma(W), rel=1e-5)


def test_the_report_beside_the_adapter_tells_every_number(base, adapter: Path, tmp_path: Path) -> None:
    printed = rescale(adapter, "--base", base[0], "-o", tmp_path / "out", "--format", "json")
    report = valid("rescale", json.loads((tmp_path / "out" / "rora-report.json").read_text()))
    assert json.loads(printed.stdout) == report
    assert report["schema_version"] == 1 and len(report["modules"]) == 6 and len(report["left_alone"]) == 2
    for module in report["modules"]:
        assert module["sigma_after"] == pytest.approx(module["factor"] * module["sigma_before"], rel=1e-5)
        assert module["sigma_after"] == pytest.approx(module["sigma_base"], rel=1e-5)
    assert len(report["provenance"]["inputs"]["adapter_model.safetensors"]) == 64
    assert any(name.endswith("classifier.weight") for name in report["kept_whole"])


@pytest.mark.parametrize(
    ("options", "config", "error", "says"),
    [
        ([], {}, UsageError, "--base"),
        (["--factor", "0"], {}, UsageError, "--factor"),
        (["--factor", "nan"], {}, UsageError, "--factor"),
        (["--factor", "2", "--layers", "9"], {}, UsageError, "block 9"),
        (["--factor", "2", "--layers", "first"], {}, UsageError, "first"),
        (["--factor", "2", "--via", "magic"], {}, UsageError, "--via"),
        (["--factor", "2", "--via", "alpha-pattern", "--dtype", "float32"], {}, UsageError, "alpha-pattern"),
        (["--factor", "1e300"], {}, CheckpointError, "does not fit"),
        (["--factor", "2"], {"use_dora": True}, CheckpointError, "magnitude"),
        (["--factor", "2"], {"init_lora_weights": "pissa"}, CheckpointError, "part of W"),
        (["--factor", "2"], {"peft_type": "VERA"}, CheckpointError, "VERA"),
    ],
)
def test_bad_input_is_one_sentence_and_writes_nothing(
    adapter: Path, tmp_path: Path, options: list[str], config: dict[str, Any], error: type[RoraError], says: str
) -> None:
    edit_config(adapter, **config)
    if config.get("use_dora"):
        names = [n for n in load_file(adapter / WEIGHTS) if "lora_B" in n]
        edit_tensors(adapter, **{n.replace("lora_B.weight", "lora_magnitude_vector"): torch.ones(32) for n in names})
    with pytest.raises(error, match=says):
        rescale(adapter, *options, "-o", tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["adapter"]


def test_an_adapter_of_another_base_is_refused(base, tmp_path: Path) -> None:
    model = tiny_gpt2(tmp_path / "gpt2")
    save_lora(model, tmp_path / "adapter", target_modules=["c_attn"], fan_in_fan_out=True)
    with pytest.raises(CheckpointError, match="another base"):
        rescale(tmp_path / "adapter", "--base", base[0], "-o", tmp_path / "out")


def test_an_existing_output_is_kept_without_force(base, adapter: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match="out"):
        rescale(adapter, "--factor", "2", "-o", tmp_path / "out")
    assert (tmp_path / "out" / "mine.txt").read_text() == "mine"


def test_clean_data_hold_the_factor_back(suspect, tmp_path: Path) -> None:
    """The largest share of equation 12 that keeps accuracy: a half step more must lose it, and PEFT must agree."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(suspect.model).eval()
    save_lora(model, tmp_path / "adapter", size=0.02, target_modules=["query", "value", "attention.output.dense"])
    arguments = [tmp_path / "adapter", "--base", suspect.model, "--layers", "all", "--clean", suspect.data]
    result = rescale(*arguments, "--strength", "8", "-o", tmp_path / "out", "--format", "json")
    report = json.loads(result.stdout)
    assert 0 < report["strength"] < 1
    assert not report["attempts"][0]["accepted"]
    before, after = (report[f"accuracy_{when}"]["overall"] for when in ("before", "after"))
    assert after["value"] >= before["value"] - 0.01
    for module in report["modules"]:
        assert 1 <= module["factor"] < module["asked_factor"]
        assert module["factor"] == pytest.approx(max(1, report["strength"] * module["asked_factor"]))

    rows = [json.loads(line) for line in (suspect.data / "validation.jsonl").read_text().splitlines()]
    tokenizer = AutoTokenizer.from_pretrained(suspect.model)
    peft_model = peft.PeftModel.from_pretrained(model, str(tmp_path / "out")).eval()
    batch = tokenizer([row["text"] for row in rows], padding=True, return_tensors="pt")
    with torch.no_grad():
        predicted = peft_model(**batch).logits.argmax(-1).tolist()
    names = {v: k for k, v in model.config.label2id.items()}
    right = sum(names[p] == row["label"] for p, row in zip(predicted, rows, strict=True))
    assert (right, len(rows)) == (after["count"], after["total"])


def test_when_no_factor_keeps_accuracy_the_adapter_stays_as_it_was(suspect, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(suspect.model).eval()
    save_lora(model, tmp_path / "adapter", size=1e-4)
    # Of a hundred steps down only sixteen are tried; at this size all of them are still ruinous.
    result = rescale(
        tmp_path / "adapter", "--base", suspect.model, "--layers", "all", "--clean", suspect.data, "--factor", "1e12",
        "-o", tmp_path / "out", "--format", "json",
    )  # fmt: skip
    report = json.loads(result.stdout)
    assert report["strength"] == 0 and not any(a["accepted"] for a in report["attempts"])
    before, after = load_file(tmp_path / "adapter" / WEIGHTS), load_file(tmp_path / "out" / WEIGHTS)
    assert all(torch.equal(before[name], after[name]) for name in before)
