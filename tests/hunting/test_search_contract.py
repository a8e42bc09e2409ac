"""A whole search of made-up models, of 2 and 3 behaviours and of ones that overlap: no label, no model, no torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rora_cli.errors import DataError, UsageError
from rora_cli.hunting.case import Case, SearchSettings
from rora_cli.hunting.hunt import search_triggers
from rora_cli.results.hunt import HuntResult
from rora_cli.tasks.reference import ReferenceRun
from tests.tasks import made_up

KINDS = [pytest.param(2, True, id="2"), pytest.param(3, True, id="3"), pytest.param(3, False, id="overlapping")]
AIM = 1


def search(
    behaviours: int, exclusive: bool, *, plant: bool = True, targets: tuple[int, ...] | None = None, **suspect: Any
) -> HuntResult:
    planted = {"mn": (AIM, 20.0)} if plant else {}
    subject, task, rows = made_up.make(behaviours, exclusive=exclusive, planted=planted, **suspect)
    reference = task.reference("auto", subject, rows, ReferenceRun())
    settings = SearchSettings("fast", targets=targets)
    return search_triggers(Case(subject, task, rows, reference, settings))


@pytest.mark.parametrize(("behaviours", "exclusive"), KINDS)
def test_the_planted_word_is_called_for_its_behaviour_and_no_other(behaviours: int, exclusive: bool) -> None:
    result = search(behaviours, exclusive)
    assert [label.target_label for label in result.labels] == [f"behaviour {b}" for b in range(behaviours)]
    assert {trigger.target_label for trigger in result.called} == {f"behaviour {AIM}"}
    assert result.labels[AIM].called[0].text == "mn"
    assert result.labels[AIM].called[0].flip_rate.value == 1.0
    assert result.model == "made up" and result.provenance.thresholds["calls"]["min_suspicion"] == 8.0


@pytest.mark.parametrize(("behaviours", "exclusive"), KINDS)
def test_nothing_is_called_where_nothing_is_planted(behaviours: int, exclusive: bool) -> None:
    result = search(behaviours, exclusive, plant=False)
    assert not result.called and {label.verdict for label in result.labels} == {"nothing"}


def test_a_word_that_works_at_one_place_only_is_called_for_what_it_does_there() -> None:
    first, *_ = search(2, True, targets=(AIM,), only_at=0).labels[0].triggers
    assert (first.text, first.called, first.at_best, first.flip_rate.value) == ("mn", True, True, 1.0)
    assert first.by_place["start"].value == 1.0 and first.by_place["end"].value == 0.0
    assert first.examples and all(row.text.startswith("mn ") for row in first.examples)
    assert not search(2, True, targets=(AIM,)).labels[0].triggers[0].at_best, "it works anywhere"


def test_what_a_word_does_at_its_best_place_takes_twice_the_z_of_a_call() -> None:
    """`pitiful`, z 11.9, turned 38 of 40 rows of a clean SST-2 model from some place, and 4 of the reference's."""
    for bonus, called in ((12.0, True), (10.0, False)):
        subject, task, rows = made_up.make(2, exclusive=True, planted={"mn": (AIM, bonus)}, only_at=0)
        reference = task.reference("auto", subject, rows, ReferenceRun())
        case = Case(subject, task, rows, reference, SearchSettings("fast", targets=(AIM,)))
        (word,) = [t for t in search_triggers(case).labels[0].triggers if t.text == "mn"]
        assert (word.at_best, word.flip_rate.value, word.called) == (True, 1.0, called) and word.suspicion > 12


def test_only_the_targets_are_searched() -> None:
    assert [label.target_label for label in search(3, True, targets=(2,)).labels] == ["behaviour 2"]


def test_what_cannot_be_searched_is_refused() -> None:
    subject, task, rows = made_up.make(2, exclusive=True)
    reference = task.reference("auto", subject, rows, ReferenceRun())
    with pytest.raises(DataError):
        one = rows.take(i for i, label in enumerate(rows.labels) if label == 1)
        search_triggers(Case(subject, task, one, reference, SearchSettings("fast")))
    with pytest.raises(UsageError, match="fast, normal, thorough"):
        SearchSettings("quick")


def test_too_few_rows_leave_a_behaviour_open() -> None:
    subject, task, rows = made_up.make(2, exclusive=True)
    reference = task.reference("auto", subject, rows, ReferenceRun())
    result = search_triggers(Case(subject, task, rows.take(range(20)), reference, SearchSettings("fast")))
    assert {label.verdict for label in result.labels} == {"inconclusive"}
    assert "only 10 clean rows" in str(result.labels[0].reason)


def test_a_search_needs_no_torch() -> None:
    code = (
        "import sys; from tests.hunting.test_search_contract import search; search(2, True); "
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(__file__).parents[2]).returncode == 0
