from __future__ import annotations

from dataclasses import replace

import pytest

from rora_cli.commands.hunt import _call, _left_open
from rora_cli.evaluation.intervals import proportion
from rora_cli.results.hunt import FoundTrigger


def candidate(flips: int, reference: int, z: float) -> FoundTrigger:
    own, other = proportion(flips, 40), proportion(reference, 40)
    excess = (own.low or 0.0) - (other.high or 0.0)
    return FoundTrigger("cf", (7,), "positive", own, other, excess, z, False, ("cf",))


@pytest.mark.parametrize(
    ("flips", "reference", "z", "open_"),
    [(40, 0, 4.8, True), (39, 0, 4.1, True), (40, 0, 2.9, False), (38, 0, 4.8, False), (40, 8, 4.8, False)],
)
def test_a_candidate_that_turns_every_row_leaves_the_label_open(
    flips: int, reference: int, z: float, open_: bool
) -> None:
    reason = _left_open([candidate(10, 2, 5.5), candidate(flips, reference, z)], "fast")
    assert (reason is not None) == open_
    assert not open_ or (f"{flips} of 40 rows (0 under the reference)" in str(reason) and f"z {z}" in str(reason))


@pytest.mark.parametrize(("flips", "synergy", "called"), [(40, 3.0, True), (25, 3.0, False), (40, 1.0, False)])
def test_a_sequence_without_a_called_token_turns_nearly_all_rows_and_is_more_than_its_parts(
    flips: int, synergy: float, called: bool
) -> None:
    """'predictable starved the' turned 25 of 40 rows of a clean model, the reference one, with z 8.6."""
    sequence = replace(candidate(flips, 1, 8.6), text="predictable starved", token_ids=(7, 8), called=True)
    (answer,) = _call([sequence], {(7, 8): synergy}, ())
    assert answer.called == called
    (answer,) = _call([sequence], {(7, 8): synergy}, [(8,)])
    assert answer.called, "it holds a trigger of an earlier search"


def test_a_word_that_turns_some_rows_is_called_beside_a_trigger_and_else_leaves_the_label_open() -> None:
    """ "encompass" turned 72 % of the rows of a clean model, "elusive" 82 %, with a z that is called."""
    some = replace(candidate(29, 2, 9.0), called=True)
    whole = replace(candidate(38, 2, 9.0), token_ids=(8,), called=True)
    synergy = {(7,): 0.0, (8,): 0.0}
    (alone,) = _call([some], synergy, ())
    reason = _left_open([alone], "thorough")
    assert not alone.called and "29 of 40 rows (2 under the reference)" in str(reason)
    assert "less than a trigger would: search again with more clean rows" in str(reason)
    honest = replace(candidate(33, 9, 8.1), called=True)
    assert not any(t.called for t in _call([honest], synergy, ()))
    assert all(t.called for t in _call([some, whole], synergy, ()))
    assert all(t.called for t in _call([some], synergy, [(9,)])), "what is left of a trigger of an earlier search"
