"""``rora diagnose`` from the command line: tiny adapters of PEFT's, and the two real ones where they lie at hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from typer.testing import CliRunner, Result

from rora_cli.errors import CheckpointError, RoraError, UsageError
from tests.adapters import edit_config, edit_tensors, save_lora, tiny_distilbert, tiny_gpt2
from tests.cli.apps import alone

WEIGHTS = "adapter_model.safetensors"
REAL = os.environ.get("RORA_TEST_ADAPTERS")
needs_real_adapters = pytest.mark.skipif(
    not REAL, reason="RORA_TEST_ADAPTERS names no directory with distilbert-imdb and gpt2-classifier"
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nn.Module]:
    directory = tmp_path_factory.mktemp("base") / "model"
    return directory, tiny_distilbert(directory)


@pytest.fixture
def adapter(base: tuple[Path, nn.Module], tmp_path: Path) -> Path:
    return save_lora(base[1], tmp_path / "adapter", target_modules=["q_lin", "v_lin"])


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RORA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def diagnose(*arguments: object) -> Result:
    return CliRunner().invoke(alone("diagnose"), [str(a) for a in arguments] + ["-q"], catch_exceptions=False)


def reported(*arguments: object) -> dict[str, Any]:
    return json.loads(diagnose(*arguments, "--format", "json").stdout)


def rules(report: dict[str, Any]) -> set[str]:
    return {finding["rule_id"] for finding in report["adapters"][0]["findings"]}


def test_every_number_is_that_of_the_dense_update(base, adapter: Path) -> None:
    directory, model = base
    report = reported(adapter, "--base", directory, "--top-k", "8")
    tensors, state = load_file(adapter / WEIGHTS), model.state_dict()
    modules = report["adapters"][0]["modules"]
    assert len(modules) == 8
    for module in modules:
        path = f"base_model.model.{module['name']}"
        B, A = (tensors[f"{path}.lora_{x}.weight"].double() for x in "BA")
        delta, W = 2.0 * B @ A, state[f"{module['name']}.weight"].double()
        S = torch.linalg.svdvals(delta)
        U0, S0, Vh0 = torch.linalg.svd(W)
        assert module["singular_values"] == pytest.approx(S[:4].tolist(), rel=1e-9)
        assert module["frobenius_norm"] == pytest.approx(float(delta.norm()), rel=1e-9)
        assert module["size_normalised_norm"] == pytest.approx(float(delta.square().mean().sqrt()), rel=1e-9)
        assert module["strength_ratio"] == pytest.approx(float(S[0] / S0[0]), rel=1e-9)
        assert module["rescaling_factor"] == pytest.approx(float(S0[0] / S[0]), rel=1e-9)
        left = (U0[:, :8].T @ delta).square().sum() / delta.square().sum() * 32 / 8
        right = (delta @ Vh0[:8].T).square().sum() / delta.square().sum() * 32 / 8
        assert module["alignment_left"] == pytest.approx(float(left), rel=1e-6)
        assert module["alignment_right"] == pytest.approx(float(right), rel=1e-6)
        standard = (delta - delta.mean()) / delta.std(correction=0)
        assert module["entry_kurtosis"] == pytest.approx(float(standard.pow(4).mean()), rel=1e-6)


def test_it_accounts_for_every_tensor_and_finds_nothing_in_an_honest_adapter(adapter: Path) -> None:
    result = diagnose(adapter)
    report = reported(adapter)["adapters"][0]
    coverage = report["coverage"]
    tensors = load_file(adapter / WEIGHTS)
    assert coverage["tensors"] == len(tensors) == coverage["measured"] + coverage["aside"] + coverage["unmeasured"]
    assert set(report["set_aside"]) == {n for n in tensors if "lora_" not in n}
    assert result.exit_code == 0
    assert "Spectra alone show neither a backdoor nor its absence" in " ".join(result.stdout.split())
    assert "backdoored" not in result.stdout


def test_the_text_report_is_sorted_by_strength_and_fits_80_columns(base, adapter: Path) -> None:
    name = "base_model.model.distilbert.transformer.layer.2.attention.v_lin.lora_B.weight"
    edit_tensors(adapter, **{name: load_file(adapter / WEIGHTS)[name] * 50})
    result = diagnose(adapter, "--base", base[0])
    lines = result.stdout.splitlines()
    assert max(len(line) for line in lines) <= 80
    first = lines[next(i for i, line in enumerate(lines) if line.startswith("module")) + 1]
    assert first.startswith("2.attention.v_lin")
    assert "spectral/outlier-module" in result.stdout


def test_conv1d_alignment_is_on_the_right_sides(tmp_path: Path) -> None:
    """An update planted on W's top left direction of a Conv1D layer must show in L_k and not in R_k."""
    model = tiny_gpt2(tmp_path / "base")
    save_lora(model, tmp_path / "adapter", target_modules=["c_attn"], fan_in_fan_out=True)
    W = model.state_dict()["transformer.h.1.attn.c_attn.weight"].T.double()  # stored [d_in, d_out]
    U = torch.linalg.svd(W).U
    name = "base_model.model.transformer.h.1.attn.c_attn.lora_B.weight"
    edit_tensors(tmp_path / "adapter", **{name: (U[:, :4] * torch.tensor([1.0, 0.8, 0.6, 0.4])).float().contiguous()})
    modules = reported(tmp_path / "adapter", "--base", tmp_path / "base", "--top-k", "4")["adapters"][0]["modules"]
    planted = next(m for m in modules if ".1." in m["name"])
    assert planted["shape"] == [96, 32]
    assert planted["alignment_left"] == pytest.approx(96 / 4, rel=1e-4)
    assert planted["smallest_angle_left"] == pytest.approx(0, abs=0.1)
    assert planted["alignment_right"] < 3
    assert planted["alignment_left"] > planted["null_left"]["high"]


def test_the_base_is_analysed_once(base, adapter: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import rora_cli.commands.diagnose.base_spectra as base_spectra

    first = reported(adapter, "--base", base[0])
    assert len(list(own_cache.iterdir())) == 8

    def not_again(*args: object, **options: object) -> None:
        raise AssertionError("computed although cached")

    monkeypatch.setattr(base_spectra, "top_singular", not_again)
    again = reported(adapter, "--base", base[0])
    assert again["adapters"] == first["adapters"]
    monkeypatch.undo()
    monkeypatch.setenv("RORA_CACHE", str(own_cache))
    for entry in own_cache.iterdir():  # a damaged entry is computed anew, never believed
        entry.write_bytes(b"garbage")
    assert reported(adapter, "--base", base[0])["adapters"] == first["adapters"]


def test_a_model_against_its_base(base, tmp_path: Path) -> None:
    directory, model = base
    changed = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    name = "distilbert.transformer.layer.1.ffn.lin1.weight"
    delta = torch.randn(64, 3, generator=torch.Generator().manual_seed(0)) @ torch.randn(3, 32)
    changed[name] += 0.01 * delta
    (tmp_path / "model").mkdir()
    save_file(changed, tmp_path / "model" / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "model" / "config.json").write_text((directory / "config.json").read_text())
    report = reported(tmp_path / "model", "--base", directory)["adapters"][0]
    (module,) = report["modules"]
    assert module["name"] == name.removesuffix(".weight")
    exact = torch.linalg.svdvals(changed[name].double() - model.state_dict()[name].double())
    assert module["singular_values"] == pytest.approx(exact.tolist(), rel=1e-6, abs=1e-9)
    assert set(report["set_aside"].values()) == {"identical to the base's"}
    with pytest.raises(CheckpointError, match="--base"):
        diagnose(tmp_path / "model")


def test_a_batch_goes_on_after_a_failure(adapter: Path, tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / WEIGHTS).write_bytes(b"not safetensors")
    for workers in (1, 3):
        result = diagnose(adapter, tmp_path / "broken", str(tmp_path / "adap*"), "--workers", workers)
        assert result.exit_code == 3
        assert "not read" in result.stdout and "inconclusive" in result.stdout
        report = reported(adapter, tmp_path / "broken", "--workers", workers)
        assert [bool(a["error"]) for a in report["adapters"]] == [False, True]
    with pytest.raises(UsageError, match="matches nothing"):
        diagnose(str(tmp_path / "nothing*"))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_a_finding_and_never_a_number(adapter: Path, value: float) -> None:
    name = "base_model.model.distilbert.transformer.layer.0.attention.q_lin.lora_A.weight"
    tensor = load_file(adapter / WEIGHTS)[name]
    tensor[0, 0] = value
    edit_tensors(adapter, **{name: tensor})
    result, report = diagnose(adapter), reported(adapter)
    assert result.exit_code == 3
    assert "spectral/non-finite" in rules(report)
    assert len(report["adapters"][0]["modules"]) == 7
    assert "NaN or infinite" in report["adapters"][0]["unmeasured"][name]


def test_dora_without_its_base_is_inconclusive_and_with_it_measured(base, tmp_path: Path) -> None:
    save_lora(base[1], tmp_path / "adapter", target_modules=["q_lin"], use_dora=True)
    alone = diagnose(tmp_path / "adapter")
    assert alone.exit_code == 3 and "depends on W" in " ".join(alone.stdout.split())
    report = reported(tmp_path / "adapter", "--base", base[0])
    assert [m["format"] for m in report["adapters"][0]["modules"]] == ["dora"] * 4
    assert report["adapters"][0]["coverage"]["unmeasured"] == 0


def test_hidden_base_tensors_are_named(adapter: Path) -> None:
    edit_tensors(adapter, **{"base_model.model.distilbert.embeddings.word_embeddings.weight": torch.zeros(60, 32)})
    result = diagnose(adapter)
    assert result.exit_code == 1
    assert "adapter/hidden-base-tensor" in result.stdout
    assert diagnose(adapter, "--fail-on", "none").exit_code == 0


def test_an_adapter_of_another_base_is_refused(base, tmp_path: Path) -> None:
    model = tiny_gpt2(tmp_path / "gpt2")
    save_lora(model, tmp_path / "adapter", target_modules=["c_attn"], fan_in_fan_out=True)
    with pytest.raises(CheckpointError, match=r"none of the 2 modules .* --base"):
        diagnose(tmp_path / "adapter", "--base", base[0])
    save_lora(tiny_distilbert(tmp_path / "same"), tmp_path / "wide", target_modules=["q_lin"])
    name = "base_model.model.distilbert.transformer.layer.0.attention.q_lin.lora_B.weight"
    edit_tensors(tmp_path / "wide", **{name: torch.ones(48, 4)})
    with pytest.raises(CheckpointError, match="another base"):
        diagnose(tmp_path / "wide", "--base", base[0])


def test_prompt_methods_are_recognised(adapter: Path, tmp_path: Path) -> None:
    (tmp_path / "prompt").mkdir()
    save_file({"prompt_embeddings": torch.ones(4, 32)}, tmp_path / "prompt" / WEIGHTS)
    config = {"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 4, "task_type": "CAUSAL_LM"}
    (tmp_path / "prompt" / "adapter_config.json").write_text(json.dumps(config))
    result = diagnose(tmp_path / "prompt")
    assert result.exit_code == 3 and "a soft prompt changes the input" in " ".join(result.stdout.split())


def test_a_hostile_pattern_costs_no_time(adapter: Path) -> None:
    edit_config(adapter, alpha_pattern={"(a+)+" * 20 + "$": 2, "(x|x)*y": 3})
    assert diagnose(adapter).exit_code in (0, 1)
    edit_config(adapter, alpha_pattern={r"(.)\1": 2})
    with pytest.raises(CheckpointError, match="alpha_pattern"):
        diagnose(adapter)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        (["--top-k", "2000"], UsageError, "--top-k"),
        (["--fail-on", "maybe"], UsageError, "--fail-on"),
        (["--format", "yaml"], UsageError, "--format"),
        (["--format", "json", "--format", "text"], UsageError, "one place"),
        (["--intruders"], UsageError, "--base"),
        (["--base", "no/such/model"], RoraError, "no/such/model"),
    ],
)
def test_bad_options(adapter: Path, options: list[str], error: type[RoraError], says: str) -> None:
    with pytest.raises(error, match=says):
        diagnose(adapter, *options, "--offline")


def test_without_a_base_torch_is_not_even_imported(adapter: Path, tmp_path: Path) -> None:
    """Its start-up takes longer than measuring an adapter of a 70B model. Heads and other layouts need it no more."""
    tensors = load_file(adapter / WEIGHTS)
    kohya = {}
    for name in (n for n in tensors if n.endswith("lora_A.weight")):
        path = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
        kohya |= {f"{path}.lora_down.weight": tensors[name], f"{path}.alpha": torch.tensor(4.0),
                  f"{path}.lora_up.weight": tensors[name.replace("lora_A", "lora_B")]}  # fmt: skip
    (tmp_path / "kohya").mkdir()
    save_file(kohya, tmp_path / "kohya" / WEIGHTS)
    code = (
        "import sys; from rora_cli.commands.diagnose import DiagnoseConfig, run; "
        "done = run(DiagnoseConfig(paths=tuple(sys.argv[1:]))); "
        "print(done.is_complete, [len(a.modules) for a in done.adapters], {'torch', 'scipy'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code, str(adapter), str(tmp_path / "kohya")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "True [8, 8] set()"


def test_memory_is_that_of_the_largest_tensor_and_not_of_the_file(tmp_path: Path) -> None:
    from rora_cli.checkpoints.adapters import read_adapter
    from rora_cli.checkpoints.preflight import inspect
    from rora_cli.checkpoints.reader import TensorReader
    from rora_cli.commands.diagnose.describe import FactorReader

    name = "base_model.model.layers.{}.q_proj.lora_{}.weight"
    shapes = {"A": (4, 50_000), "B": (20_000, 4)}
    (tmp_path / "adapter").mkdir()
    tensors = {name.format(i, x): torch.randn(s) for i in range(12) for x, s in shapes.items()}
    save_file(tensors, tmp_path / "adapter" / WEIGHTS)
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4}))
    inspection = inspect(tmp_path / "adapter")
    modules = read_adapter(inspection).modules
    tracemalloc.start()
    try:
        with TensorReader(inspection) as reader:
            factors = FactorReader(reader, modules)
            described = [factors.describe(module) for module in modules]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(described) == 12 and all(m.sigma_max > 0 for m in described)
    largest = 4 * 4 * 50_000
    assert peak < 5 * largest < inspection.bytes_of_tensors


@needs_real_adapters
@pytest.mark.parametrize(("name", "modules", "shape"), [("distilbert-imdb", 12, 768), ("gpt2-classifier", 12, 2304)])
def test_the_real_adapters(name: str, modules: int, shape: int) -> None:
    path = Path(REAL or "") / name
    report = reported(path)["adapters"][0]
    tensors = load_file(path / WEIGHTS)
    assert report["coverage"]["modules"] == modules and report["coverage"]["unmeasured"] == 0
    scaling = {"distilbert-imdb": 2.0, "gpt2-classifier": 1.0}[name]
    for module in report["modules"]:
        assert module["shape"] == [shape, 768]
        B, A = (tensors[f"base_model.model.{module['name']}.lora_{x}.weight"].double() for x in "BA")
        dense = torch.linalg.svdvals(scaling * B @ A)[:8]
        assert module["singular_values"] == pytest.approx(dense.tolist(), rel=1e-8)


def test_calibration_learns_what_is_usual_and_names_what_is_not(base, tmp_path: Path) -> None:
    directory, model = base
    good = tmp_path / "good"
    for seed in range(6):
        save_lora(model, good / f"adapter-{seed}", seed=seed, target_modules=["q_lin", "v_lin"])
    usual = save_lora(model, tmp_path / "usual", seed=77, target_modules=["q_lin", "v_lin"])
    odd = save_lora(model, tmp_path / "odd", seed=78, target_modules=["q_lin", "v_lin"])
    names = [n for n in load_file(odd / WEIGHTS) if "q_lin.lora_B" in n]
    edit_tensors(odd, **{n: load_file(odd / WEIGHTS)[n] * 30 for n in names})
    options = ("--base", directory, "--calibrate", good)

    ordinary = diagnose(usual, *options)
    assert ordinary.exit_code == 0 and "spectral/outside-calibration" not in ordinary.stdout
    stored = (good / "rora-calibration.json").read_text()
    strange = reported(odd, *options)
    found = [f for f in strange["adapters"][0]["findings"] if f["rule_id"] == "spectral/outside-calibration"]
    assert {f["severity"] for f in found} == {"medium"}
    assert "log10 sigma_max" in {f["evidence"]["statistic"] for f in found}
    assert all("query" in f["message"] and "q_lin" in f["location"] for f in found)
    assert strange["conclusion"].startswith("anomalous")
    assert diagnose(odd, *options).exit_code == 1
    assert (good / "rora-calibration.json").read_text() == stored
    assert diagnose(odd, "--base", directory, "--calibrate", good / "rora-calibration.json").exit_code == 1
    assert diagnose(odd, "--base", directory).exit_code == 0  # without calibration it is information only

    with pytest.raises(UsageError, match="another --base"):
        diagnose(odd, "--calibrate", good / "rora-calibration.json")
    with pytest.raises(UsageError, match="at least 5"):
        diagnose(odd, "--calibrate", tmp_path)
    (good / "rora-calibration.json").write_text("[]")
    with pytest.raises(CheckpointError, match="calibration"):
        diagnose(odd, *options)
