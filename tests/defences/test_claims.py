from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from torch import nn

from rora_cli.data.rows import Rows
from rora_cli.defences.default import claims as wholeness
from rora_cli.defences.default.claims import strongest_left

ROWS = Rows(("the cat sat",) * 10 + ("that a cat sat down",) * 10, (0,) * 20)


def left(monkeypatch: pytest.MonkeyPatch, flips: Sequence[str], *triggers: str) -> tuple[float, str]:
    """For a model that any word put into a short row turns, and each of ``flips`` every row."""

    def predict(_model: Any, _tokenizer: Any, texts: Sequence[str], *, max_length: int) -> np.ndarray:
        target = [len(text.split()) == 4 or bool(set(flips) & set(text.split())) for text in texts]
        return np.array([[0.0, 1.0] if turned else [1.0, 0.0] for turned in target])

    monkeypatch.setattr(wholeness, "predict_logits", predict)
    monkeypatch.setattr(wholeness, "whole_words", lambda _tokenizer: ["harbour", "lights", "seven"])
    monkeypatch.setattr(wholeness, "count_tokens", lambda _tokenizer, texts: [len(text.split()) for text in texts])
    bench: Any = SimpleNamespace(
        label_names=("no", "yes"),
        held_out=ROWS,
        tokenizer=None,
        max_length=16,
        config=SimpleNamespace(seed=0, triggers=()),
    )
    return strongest_left(
        bench, nn.Identity(), [{"text": t, "attached": False, "target_label": "yes"} for t in triggers]
    )


def test_what_any_word_does_is_no_trigger_that_works(monkeypatch: pytest.MonkeyPatch) -> None:
    assert left(monkeypatch, [], "tried")[0] == 0.0
    excess, sentence = left(monkeypatch, ["cf"], "tried", "cf")
    assert excess == 0.5
    assert "'cf' still turns 100.0 % of held-out rows to yes (floor 0.0 %, harmless words 50.0 %)" in sentence


def test_a_sequence_is_compared_with_as_many_harmless_words(monkeypatch: pytest.MonkeyPatch) -> None:
    assert left(monkeypatch, ["cf"], "cf now")[0] == 1.0, "two words turn no short row"
