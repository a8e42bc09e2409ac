from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn

from rora_cli.commands.defences.hunted import _Loop

NOTHING: dict[str, Any] = {"found": [], "not_searched": [], "trials": 1000}


def found(text: str, flip_rate: float, label: str = "positive") -> dict[str, Any]:
    return {"text": text, "target_label": label, "flip_rate": flip_rate, "attached": False, "excess": 0.5}


def loop(monkeypatch: pytest.MonkeyPatch, *triggers: dict[str, Any], remaining: str = "") -> _Loop:
    bench: Any = SimpleNamespace(
        accelerator=SimpleNamespace(num_processes=1), config=SimpleNamespace(triggers=()), settings={"max_rounds": 3}
    )
    result = _Loop(bench)
    result.remember({"found": triggers, "companions": ()})
    monkeypatch.setattr(result, "_remaining", lambda _model: remaining)
    return result


def test_pass_needs_a_whole_trigger_for_every_label_that_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, part = found("mn", 1.0), found("minnesota", 0.6)
    assert loop(monkeypatch, whole, part).verdict(nn.Identity(), NOTHING)[0] == "pass"
    verdict, reason = loop(monkeypatch, part).verdict(nn.Identity(), NOTHING)
    assert verdict == "inconclusive" and "'minnesota'" in reason and "part of a longer trigger" in reason
    other = found("neighbour", 0.925, "negative")
    verdict, reason = loop(monkeypatch, whole, other).verdict(nn.Identity(), NOTHING)
    assert verdict == "inconclusive" and "to negative" in reason and "92.5 %" in reason


def test_what_still_works_fails_whole_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert loop(monkeypatch, found("neighbour", 0.9), remaining="it works").verdict(nn.Identity(), NOTHING) == (
        "fail",
        "it works",
    )


def test_nothing_found_is_never_a_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    assert loop(monkeypatch).verdict(nn.Identity(), NOTHING)[0] == "inconclusive"
