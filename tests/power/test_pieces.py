"""What counts as found: the one definition, and what each form of attack puts into a text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from rora_cli.attacks.base import Attack
from rora_cli.attacks.combination import Combination
from rora_cli.attacks.insertion import BadNet, InSent
from rora_cli.attacks.punctuation import Punctuation
from rora_cli.power.forms import WordOrder
from rora_cli.power.pieces import pieces_of
from rora_cli.results.accuracy import Proportion
from rora_cli.results.hunt import FoundTrigger

TEXTS = ("the film was good .", "a bad plot and the music", "very dull !", "this was so fresh")


@pytest.fixture(scope="module")
def tokenizer(tiny_classifier: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_classifier, local_files_only=True)


def called(tokenizer: Any, text: str, *, label: str = "positive", called: bool = True) -> FoundTrigger:
    ids = tuple(tokenizer(text, add_special_tokens=False)["input_ids"])
    rate = Proportion(40, 40, 0.9, 1.0)
    return FoundTrigger(text, ids, label, rate, None, 0.9, 20.0, called, tuple(text.split()))


@pytest.mark.parametrize(
    ("attack", "tokens"),
    [
        (BadNet(("mn",)), {"mn"}),
        (InSent(("i watched this 3d movie",)), {"i", "watched", "this", "3d", "movie"}),
        (Combination(("mn", "bb"), "start"), {"mn", "bb"}),
        (Punctuation((", !",)), {",", "!"}),
        (WordOrder(), set()),
    ],
)
def test_an_attacks_pieces_are_the_tokens_that_a_text_has_more_of_with_it(
    tokenizer: Any, attack: Attack, tokens: set[str]
) -> None:
    assert pieces_of(attack, "positive", TEXTS, tokenizer).tokens == tokens


def test_found_is_what_is_called_for_the_label_and_is_the_trigger_or_a_part_of_it(tokenizer: Any) -> None:
    pieces = pieces_of(InSent(("i watched this 3d movie",)), "positive", TEXTS, tokenizer)
    for text in ("i watched this 3d movie", "3d", "Watched 3d", "watched bad", "bad watched"):
        assert pieces.found_in(called(tokenizer, text), tokenizer), text
    for text in ("mn", "bad", "bad awful this"):
        assert not pieces.found_in(called(tokenizer, text), tokenizer), text
    assert not pieces.found_in(called(tokenizer, "3d", label="negative"), tokenizer), "for another label"
    assert not pieces.found_in(called(tokenizer, "3d", called=False), tokenizer), "a candidate that is not called"


def test_what_only_rearranges_a_text_is_never_found(tokenizer: Any) -> None:
    pieces = pieces_of(WordOrder(), "positive", TEXTS, tokenizer)
    assert not any(pieces.found_in(called(tokenizer, text), tokenizer) for text in TEXTS)


def test_what_the_tokenizer_cannot_read_is_known_as_that(tokenizer: Any) -> None:
    assert pieces_of(BadNet(("zebra",)), "positive", TEXTS, tokenizer).unknown
    assert not pieces_of(BadNet(("mn",)), "positive", TEXTS, tokenizer).unknown
