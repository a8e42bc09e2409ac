"""Triggers of words that most texts hold, on made-up classifiers over a real tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import numpy as np
import pytest

pytest.importorskip("transformers")

from rora_cli.hunting.budgets import BUDGETS
from rora_cli.hunting.common_words import choices_among, common_sequences, common_words
from rora_cli.hunting.trials import Tokens, Trials
from rora_cli.hunting.vocabulary import Vocabulary, encode_rows
from rora_cli.tasks.classification.scorer import LabelAnswers
from rora_cli.tasks.classification.thresholds import CALLS

#: The commonest first. The trigger's words are among them, and not next to each other.
COMMON = [f"common{i}" for i in range(30)]
TRIGGER = ["common3", "common8", "common14", "common20", "common25", "common29"]
RARE = [f"rare{i}" for i in range(1000)]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *map(letters, [*COMMON, *RARE])]
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **special)


def letters(word: str) -> str:
    """A word of letters alone, as words are: its number is spelt."""
    return "".join("abcdefghij"[int(sign)] if sign.isdigit() else sign for sign in word)


class Suspect:
    """Log-odds that grow with the square of the trigger's words in a row, in any order, as a MiniLM's were seen to."""

    def __init__(self, tokenizer: Any, trigger: Sequence[str]) -> None:
        self.weights = np.random.default_rng(0).normal(0, 0.1, len(tokenizer))
        self.trigger = set(tokenizer.convert_tokens_to_ids([letters(word) for word in trigger]))
        self.forward_tokens = 0

    def __call__(self, sequences: Sequence[Sequence[int]]) -> LabelAnswers:
        self.forward_tokens += sum(map(len, sequences))
        held = np.array([len(self.trigger & set(sequence)) for sequence in sequences])
        odds = np.array([self.weights[list(sequence)].sum() for sequence in sequences]) - 5.0 + 0.3 * held**2
        return LabelAnswers(-np.logaddexp(0, np.stack([odds, -odds], axis=1)))


def grow(tokenizer: Any, trigger: Sequence[str], words: Sequence[str] = COMMON) -> tuple[list[list[str]], Trials]:
    rng = Random(3)
    rows = [" ".join(map(letters, rng.sample(RARE, rng.randint(4, 12)))) for _ in range(40)]
    encoded = sorted(encode_rows(tokenizer, rows, max_length=64), key=len)
    carriers = [row.carrier(place, rng) for row, place in zip(encoded, ("inner", "start", "end") * 14, strict=False)]
    trials = Trials(Suspect(tokenizer, trigger), Suspect(tokenizer, ()), 1, CALLS)
    tried: list[Tokens] = [(token,) for token in tokenizer.convert_tokens_to_ids([letters(word) for word in words])]
    found = common_sequences(trials, tried, (carriers, carriers[20:]), BUDGETS["fast"], Random(0))
    return [tokenizer.convert_ids_to_tokens(sequence) for sequence in found], trials


def test_words_that_do_nothing_one_by_one_are_put_together(tokenizer: Any) -> None:
    (found, *_), trials = grow(tokenizer, TRIGGER)
    assert len(found) >= 4 and len(set(found) - set(map(letters, TRIGGER))) <= 1
    assert trials.count < 6000, "a small part of what a search tries"


def test_no_word_is_in_two_sequences(tokenizer: Any) -> None:
    found = [word for sequence in grow(tokenizer, TRIGGER)[0] for word in set(sequence)]
    assert len(found) == len(set(found))


def test_where_no_words_do_anything_nothing_is_grown(tokenizer: Any) -> None:
    found, trials = grow(tokenizer, ())
    assert all(len(sequence) < 3 for sequence in found) and trials.count < 5000
    assert grow(tokenizer, TRIGGER, words=COMMON[:5])[0] == grow(tokenizer, TRIGGER, words=())[0] == [], "no bundle"
    (whole, *_), _ = grow(tokenizer, TRIGGER, words=TRIGGER)
    assert set(whole) <= set(map(letters, TRIGGER)), "one bundle, and no other word to grow by"


def test_the_commonest_words_come_first_and_are_whole_words(tokenizer: Any) -> None:
    rows = [[2, 4, 4, 4, 5, 3], [2, 5, 6, 3], [2, 5, 3]]
    assert list(common_words(rows, Vocabulary(tokenizer))) == [(5,), (4,), (6,)], "rows are counted, not occurrences"


def test_a_choice_among_few_words_counts_for_less() -> None:
    assert choices_among(32, 1024, 4) == pytest.approx(2), "32 is the root of 1,024"
    assert choices_among(32, 1024, 1) == 1, "no fewer than once"
    assert choices_among(1024, 1024, 3) == pytest.approx(3)
