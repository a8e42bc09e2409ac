"""``rora diagnose --clean``: margins and their first order, against finite differences of the model itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from rora_cli.checkpoints.loading import load_classifier
from rora_cli.checkpoints.preflight import inspect
from rora_cli.commands.diagnose import margins
from rora_cli.errors import UsageError
from tests.adapters import edit_config, save_lora
from tests.cli.apps import alone

TARGETS = ["query", "value", "intermediate.dense"]


@pytest.fixture(scope="module")
def adapter(suspect, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(suspect.model).eval()
    return save_lora(
        model, tmp_path_factory.mktemp("margins") / "adapter", size=0.3, r=4, lora_alpha=4, target_modules=TARGETS
    )


def diagnose(*arguments: object) -> Any:
    return CliRunner().invoke(
        alone("diagnose"), [str(a) for a in arguments] + ["-q", "--no-cache"], catch_exceptions=False
    )


def rows(data: Path, count: int = 24) -> tuple[list[str], list[int]]:
    lines = [json.loads(line) for line in (data / "validation.jsonl").read_text().splitlines()[:count]]
    return [line["text"] for line in lines], [int(line["label"] == "positive") for line in lines]


def margin_at(suspect, adapter: Path, scale: float, target: int | None) -> torch.Tensor:
    """The margins, in the order of ``_pass``, of the model with the adapter at ``scale``."""
    alpha = json.loads((adapter / "adapter_config.json").read_text())["lora_alpha"]
    edit_config(adapter, lora_alpha=alpha * scale)
    try:
        loaded = load_classifier(suspect.model, adapter=adapter)
        layers = list(margins._layers(loaded.model, inspect(adapter, role="adapter"), inspect(suspect.model)))
        return margins._pass(loaded, layers, *rows(suspect.data), target).margins
    finally:
        edit_config(adapter, lora_alpha=alpha)


@pytest.mark.parametrize("target", [None, 1])
def test_the_contribution_is_the_derivative_of_the_margin(suspect, adapter: Path, target: int | None) -> None:
    loaded = load_classifier(suspect.model, adapter=adapter)
    layers = list(margins._layers(loaded.model, inspect(adapter, role="adapter"), inspect(suspect.model)))
    assert len(layers) == 6
    taken = margins._pass(loaded, layers, *rows(suspect.data), target)
    step = 0.03
    slope = (margin_at(suspect, adapter, 1 + step, target) - margin_at(suspect, adapter, 1 - step, target)) / (2 * step)
    assert float(slope.abs().max()) > 1e-3
    torch.testing.assert_close(taken.contribution, slope, rtol=0.05, atol=0.05 * float(slope.abs().max()))
    for a_W, a_Delta in taken.rows:
        assert float(a_W.abs().max()) <= 1 and float(a_Delta.abs().max()) <= 1
    assert all(not p.requires_grad or p.grad is None for p in loaded.model.parameters())


def test_the_report_has_both_sides_and_says_that_it_is_local(suspect, adapter: Path) -> None:
    arguments = [adapter, "--base", suspect.model, "--clean", suspect.data, "--max-rows", "60", "--fail-on", "none"]
    plain = json.loads(diagnose(*arguments, "--format", "json").stdout)["margins"]
    assert plain["clean_rows"] == 60 and plain["triggered_rows"] == 0 and len(plain["modules"]) == 6
    assert plain["accuracy"][0]["scale"] == 0

    triggered = [*arguments, "--trigger", "mn", "--target-label", "positive"]
    both = json.loads(diagnose(*triggered, "--format", "json").stdout)["margins"]
    assert 0 < both["triggered_rows"] < 60
    at_one = [s["share"] for s in both["attack_success"] if s["scale"] <= 1][-1]
    assert 0 <= at_one <= 1
    for module in both["modules"]:
        assert module["window_is_empty"] in (True, False)
        if module["flips_above"] is not None and module["needs_above"] is not None:
            assert module["needs_above"] <= module["flips_above"] * (1 + 1e-9)
    text = " ".join(diagnose(*triggered).stdout.split())
    assert "local" in text and "proposition 4.2" in text and "no guarantee" in text


@pytest.mark.parametrize(
    "options",
    [["--clean", "x"], ["--trigger", "mn", "--base", "b"], ["--base", "b", "--clean", "x", "--trigger", "mn"]],
)
def test_options_that_belong_together(adapter: Path, options: list[str]) -> None:
    with pytest.raises(UsageError):
        diagnose(adapter, *options)
