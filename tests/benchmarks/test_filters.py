"""ONION and STRIP: what they take out, what they refuse, and what they decide by."""

from __future__ import annotations

from math import exp
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rora_cli.data.rows import Rows
from rora_cli.tasks.classification.task import Classification
from tests.causal import tiny_causal

NAMES = ("negative", "positive")
TEXTS = ("good film cf", "bad film", "so bad plot cf", "lovely cast")
ROWS = Rows(TEXTS, (1, 0, 0, 1))


class Sure(Classification):
    """Reads the opinion words, and the trigger ``cf`` as a sure positive."""

    def answers(self, subject: Any, texts: Any) -> np.ndarray:
        positive = [0.99 if "cf" in t.split() else 0.7 if {"good", "lovely"} & {*t.split()} else 0.3 for t in texts]
        return np.array([[1 - p, p] for p in positive])

    def shows(self, subject: Any, texts: Any, *, meter: Any = None) -> np.ndarray:
        shown: np.ndarray = self.answers(subject, texts).argmax(axis=1)[:, None] == np.arange(2)
        return shown


class Rarity:
    """A text is the less likely the more words it has, by 100 for ``cf`` and by 5 for every other."""

    def of(self, text: str, variants: list[str]) -> list[float]:
        return [sum(100 if word == "cf" else 5 for word in each.split()) for each in [text, *variants]]


@pytest.fixture
def onion() -> Any:
    from filters import Onion

    found = Onion("none", bars=(0, 10, 1000))
    found.__dict__["perplexities"] = Rarity()
    return found


def test_perplexities_of_branches_are_those_of_the_texts_alone(tmp_path: Path) -> None:
    import torch
    from filters import Perplexities

    model, tokenizer = tiny_causal(tmp_path / "model")
    words = tokenizer.decode(list(range(10, 24))).split()[:6]
    text, variants = " ".join(words), [" ".join(words[:n] + words[n + 1 :]) for n in range(len(words))]
    found = Perplexities(model.eval(), tokenizer).of(text, variants)
    for each, perplexity in zip([text, *variants], found, strict=True):
        ids = torch.tensor([tokenizer(each)["input_ids"]])
        with torch.no_grad():
            alone = exp(float(model(input_ids=ids, labels=ids).loss))
        assert perplexity == pytest.approx(alone, rel=1e-4), each


def test_onion_takes_out_what_makes_a_text_unlikely(onion: Any) -> None:
    onion.bar = 10
    assert onion.suspicions("good film cf") == [5, 5, 100]
    assert onion.cleaned("good  film cf") == "good film" and onion.cleaned("cf") == "cf"


def test_onions_bar_is_the_lowest_that_keeps_accuracy(onion: Any) -> None:
    """At 0 every word goes, and with them the opinions; at 10 `cf` alone."""
    from filters import Filtered

    assert onion.fit(None, Sure(NAMES), ROWS) == {"bar": 10, "rows": 4}
    guarded = Filtered(Sure(NAMES), onion)
    assert guarded.label_names == NAMES
    assert guarded.quality(None, ROWS).overall.value == 1.0 and Sure(NAMES).quality(None, ROWS).overall.value == 0.75


def test_strip_refuses_what_stays_sure_and_a_refused_row_is_wrong() -> None:
    from filters import Filtered, Strip

    clean = Rows(tuple(f"{opinion} film number {n}" for n in range(20) for opinion in ("good", "bad")), (1, 0) * 20)
    strip = Strip()
    assert strip.fit(None, Sure(NAMES), clean)["rows"] == 40
    guarded = Filtered(Sure(NAMES), strip)
    trigger = "plot the was a very so cf cf cf cf cf cf"
    shown = guarded.shows(None, ("good film number 3", trigger))
    assert shown.tolist() == [[False, True], [False, False]]
    accuracy = guarded.quality(None, Rows(("good film number 3", trigger), (1, 0)))
    assert (accuracy.overall.count, accuracy.overall.total) == (1, 2)


def test_strip_puts_standing_out_words_of_one_row_in() -> None:
    from random import Random

    from filters import Strip, standing_out

    assert standing_out(["the the plot", "the cast"]) == [["the", "plot"], ["cast", "the"]]
    strip = Strip(replaced=0.5, _standing_out=[["cast", "plot", "music"]])
    changed = strip.changed("a b c d", Random(1)).split()
    assert len(changed) == 4 and {*changed} & {"cast", "plot"} and "music" not in changed
