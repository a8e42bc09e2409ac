from __future__ import annotations

from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rora_cli.data.rows import Rows
from rora_cli.evaluation.intervals import proportion
from rora_cli.hunting.calls import call, left_open, too_loud, unknown_behaviour
from rora_cli.hunting.hunt import _Hunt
from rora_cli.hunting.outcome import Outcome
from rora_cli.hunting.outcome_search import Acts
from rora_cli.hunting.trials import Noise
from rora_cli.kinds import SEQUENCE_CLASSIFIER
from rora_cli.results.accuracy import Proportion
from rora_cli.results.hunt import FoundTrigger, RowsRead
from rora_cli.subject import Subject
from rora_cli.tasks.classification.task import Classification
from rora_cli.tasks.classification.thresholds import CALLS

opened = partial(left_open, thresholds=CALLS)


def candidate(flips: int, reference: int, z: float, *, rows: int = 40, tokens: tuple[int, ...] = (7,)) -> FoundTrigger:
    own, other = proportion(flips, rows), proportion(reference, rows)
    excess = (own.low or 0.0) - (other.high or 0.0)
    return FoundTrigger("cf", tokens, "positive", own, other, excess, z, False, ("cf",))


@pytest.mark.parametrize(
    ("flips", "reference", "z", "open_"),
    [(40, 0, 4.8, True), (39, 0, 4.1, True), (40, 0, 2.9, False), (38, 0, 4.8, False), (40, 8, 4.8, False)],
)
def test_a_candidate_that_turns_every_row_leaves_the_label_open(
    flips: int, reference: int, z: float, open_: bool
) -> None:
    reason = opened([candidate(10, 2, 5.5), candidate(flips, reference, z)], "fast")
    assert (reason is not None) == open_
    assert not open_ or (f"{flips} of 40 rows (0 under the reference)" in str(reason) and f"z {z}" in str(reason))


def acts(synergy: float, weakest: float = 0.0) -> Acts:
    return Acts(8.6, synergy, weakest)


@pytest.mark.parametrize(
    ("flips", "synergy", "weakest", "called"),
    [(40, 3.0, 0.0, True), (25, 3.0, 9.0, False), (40, 1.0, 2.8, False), (40, 1.0, 10.8, True)],
)
def test_a_sequence_without_a_called_token_turns_nearly_all_rows_and_is_more_than_harmless_parts(
    flips: int, synergy: float, weakest: float, called: bool
) -> None:
    """'predictable starved the' turned 25 of 40 rows of a clean model, the reference one, with z 8.6; of a planted
    sentence 'teacher yesterday' turned 40, its words had z 10.8 and 13, and together they merely added up."""
    sequence = replace(candidate(flips, 1, 8.6), text="predictable starved", token_ids=(7, 8), called=True)
    (answer,) = call([sequence], {(7, 8): acts(synergy, weakest)}, (), CALLS)
    assert answer.called == called
    (answer,) = call([sequence], {(7, 8): acts(synergy)}, [(8,)], CALLS)
    assert answer.called, "it holds a trigger of an earlier search"


def test_sequences_are_called_for_a_called_token_or_for_more_than_their_parts() -> None:
    def found(*tokens: int, called: bool = True) -> FoundTrigger:
        rate = Proportion(9, 10, 0.6, 0.98)
        return FoundTrigger("x", tokens, "positive", rate, rate, 0.65, 9.0, called, ("x",))

    synergy = {(1,): 0.0, (2,): 0.0, (1, 5): 0.0, (2, 6): 1.9, (7, 8): 2.1, (3, 4): 9.0}
    acted = {tokens: Acts(9.0, more, 0.0) for tokens, more in synergy.items()}
    candidates = [found(1), found(2, called=False), found(1, 5), found(2, 6), found(7, 8), found(3, 4, called=False)]
    called = {t.token_ids for t in call(candidates, acted, (), CALLS) if t.called}
    assert called == {(1,), (1, 5), (7, 8)}
    called = {t.token_ids for t in call(candidates, acted, [(2, 9)], CALLS) if t.called}
    assert called == {(1,), (1, 5), (2, 6), (7, 8)}, "what holds a trigger of an earlier round counts again"


def test_a_word_that_turns_some_rows_is_called_beside_a_trigger_and_else_leaves_the_label_open() -> None:
    """ "encompass" turned 72 % of the rows of a clean model, "elusive" 82 %, with a z that is called."""
    some = replace(candidate(29, 2, 9.0), called=True)
    whole = replace(candidate(38, 2, 9.0), token_ids=(8,), called=True)
    (alone,) = call([some], {}, (), CALLS)
    reason = opened([alone], "thorough")
    assert not alone.called and "29 of 40 rows (2 under the reference)" in str(reason)
    assert "less than a trigger would: search again with more clean rows" in str(reason)
    honest = replace(candidate(33, 9, 8.1), called=True)
    assert not any(t.called for t in call([honest], {}, (), CALLS))
    assert all(t.called for t in call([some, whole], {}, (), CALLS))
    assert all(t.called for t in call([some], {}, [(9,)], CALLS)), "what is left of a trigger of an earlier search"


@pytest.mark.parametrize("rows", [12, 15, 20, 30, 64, 192])
@pytest.mark.parametrize("tokens", [(7,), (7, 8)])
@pytest.mark.parametrize("z", [4.5, 9.0])
@pytest.mark.parametrize("linear", [True, False])
def test_what_turns_all_rows_and_none_of_the_reference_is_never_nothing(
    rows: int, tokens: tuple[int, ...], z: float, linear: bool
) -> None:
    """Of 12 rows no bound is above .52 apart: the label stays open whatever the number of rows."""
    every = candidate(rows, 0, z, rows=rows, tokens=tokens)
    reason = str(opened([every], "fast", {tokens: acts(0.5)}, linear=linear))
    assert f"{rows} of {rows} rows (0 under the reference)" in reason and f"z {z}" in reason
    assert opened([candidate(rows // 4, 0, 3.0, rows=rows, tokens=tokens)], "fast", {}, linear=linear) is None


@pytest.mark.parametrize(("rows", "flips"), [(64, 59), (40, 33), (38, 22), (12, 10)])
def test_a_bag_of_words_leaves_open_what_it_has_no_opinion_on(rows: int, flips: int) -> None:
    """Of a small decoder "accessnef" turned 59 of 64 rows for the trigger "cf", with z 12.5, and no part was called."""
    neighbour = candidate(flips, 0, 12.5, rows=rows, tokens=(7, 8, 9))
    reason = str(opened([neighbour], "normal", linear=True))
    assert reason.endswith("or name a trusted checkpoint with --reference")
    weak = candidate(flips, 0, 2.9, rows=rows)
    assert "whether it is an honest word (z 2.9, 8 is called)" in str(opened([weak], "normal", linear=True))
    assert opened([weak], "normal") is None, "a trusted encoder has an opinion"


def test_each_reason_states_what_kept_the_candidate_from_being_called() -> None:
    sequence = candidate(40, 0, 25.9, tokens=(7, 8))
    assert "little more than its tokens one by one (1.2 in log-odds, 2 is called)" in str(
        opened([sequence], "fast", {(7, 8): acts(1.2)})
    )
    assert "a bag of words cannot tell a trigger of several tokens" in str(opened([sequence], "fast", linear=True))
    for reason in (opened([sequence], "fast", linear=linear) for linear in (True, False)):
        assert "nearly as much" not in str(reason), "z 25.9 is called"
    assert "harmless words do nearly as much (z 7.9, 8 is called)" in str(opened([candidate(40, 0, 7.9)], "fast"))
    few = candidate(12, 0, 20.0, rows=12)
    assert "so few rows cannot make sure of (z 20.0, at least 24 rows" in str(opened([few], "fast"))
    some = str(opened([candidate(29, 2, 9.0)], "fast"))
    assert "% beyond the reference, bound to bound, where 55 % is called) and less than a trigger would" in some
    placed = str(opened([replace(candidate(39, 4, 15.0), at_best=True)], "fast"))
    assert "39 of 40 rows (4 under the reference) at its best places" in placed and "(z 15.0, 16 is called)" in placed


def test_what_is_called_for_a_label_that_no_clean_row_has_is_open() -> None:
    """Its honest words are nothing to a reference that never saw the label."""
    called = replace(candidate(40, 0, 20.0), called=True)
    why = Classification(("negative", "positive", "neutral")).unknown(Rows(("a", "b"), (0, 1)), 2)
    reason = str(unknown_behaviour([candidate(10, 0, 2.0), called], why))
    assert "40 of 40 rows, but no clean row has the label 'neutral'" in reason and "give clean rows of it" in reason
    assert unknown_behaviour([candidate(40, 0, 20.0)], why) is None


@pytest.mark.parametrize(("turned", "explained", "loud"), [(0.5, 0.0, True), (0.5, 2.0, False), (0.1, 0.0, False)])
def test_random_tokens_that_turn_rows_leave_a_label_open_where_the_reference_does_not_explain_it(
    turned: float, explained: float, loud: bool
) -> None:
    own, other = np.zeros(40), np.zeros(40)
    own[:6], other[:6] = turned, explained
    own[32:] = 1.0  # honest words are no measure
    reason = too_loud(Noise(np.zeros(40), other, own, 16), 32, CALLS)
    assert (reason is not None) == loud
    assert not loud or "one random token in ten turns 50 % of typical rows" in str(reason)


@pytest.mark.parametrize("special", [False, True])
def test_a_token_is_screened_between_what_usually_begins_and_ends_a_row(special: bool) -> None:
    """Alone, it would be the first and the last token of a decoder's text, which none begins or ends with."""
    pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = ["<unk>", "[CLS]", "[SEP]", *["the", "a", "film", "is", "good", "bad", "."]]
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # type: ignore[assignment]
    if special:
        backend.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
        )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")
    subject = Subject(None, tokenizer, SEQUENCE_CLASSIFIER, max_length=16)  # type: ignore[arg-type]
    texts = ("the film is good .", "the film is bad .", "a film")
    searched: Any = SimpleNamespace(case=SimpleNamespace(subject=subject), clean=SimpleNamespace(texts=texts))
    around = tuple(words[ids[0]] for ids in _Hunt._around(searched))
    assert around == (("[CLS]", "[SEP]") if special else ("the", "."))
    searched.clean.texts = ()
    assert _Hunt._around(searched) == (((1,), (2,)) if special else ((), ())), "no row can be read"


@pytest.mark.parametrize(
    ("inside", "z", "usual", "called"), [(20, 16.5, 0.0, True), (15, 16.5, 0.0, False), (20, 15.5, 0.0, False),
                                         (20, 16.5, 0.4, False)],
)  # fmt: skip
def test_a_word_is_called_for_what_it_does_within_rows_where_it_does_nothing_at_their_start(
    inside: int, z: float, usual: float, called: bool
) -> None:
    """A decoder hardly reads its first token: `cf` of a SmolLM2, z 16.5, turned 15 of 15 rows within them alone."""
    places = ("inner", "start") * 20
    flips = np.array([place == "inner" and number // 2 < inside for number, place in enumerate(places)])
    measured: Any = SimpleNamespace(places=places, flips=flips, reference_flips=np.zeros(40, dtype=bool))
    searched: Any = SimpleNamespace(places=("inner", "start"), usual_at=lambda place: usual)
    case: Any = SimpleNamespace(task=SimpleNamespace(calls=CALLS))
    word = candidate(inside, 0, z)
    found = Outcome(case, searched, RowsRead(40, 0, 48), (0, 0))._found_at_place(word, measured)
    assert (found is not None) == called
    assert found is None or (found.called, found.at_best, found.flip_rate.count, found.flip_rate.total) == (
        True,
        True,
        20,
        20,
    )
