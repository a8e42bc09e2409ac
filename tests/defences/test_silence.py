"""How much of the last search's power is measured, and of what."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn

from rora_cli.data.rows import Rows
from rora_cli.defences.default import silence
from rora_cli.evaluation.intervals import proportion
from rora_cli.hunting.case import Case, SearchSettings
from rora_cli.hunting.record import Found
from rora_cli.power.covering import covering, fewest
from rora_cli.power.measure import Asked
from rora_cli.results.power import Power
from tests.defences.fakes import fake_bench

ROWS = Rows(tuple(f"text {n}" for n in range(2000)), (0, 1) * 1000)
FOUND = Found("mn", False, "yes", 1.0, 0.0, 0.5, (7,))


def power_of(**by_form: tuple[int, int]) -> Power:
    """(found, firm) of each form, written with _ for a space."""
    shares = {form.replace("_", " "): proportion(*counts) for form, counts in by_form.items()}
    together = proportion(sum(s.count for s in shares.values()), sum(s.total for s in shares.values()))
    return Power(12, None, 1, 1, (), together, shares, {})


def asked(monkeypatch: pytest.MonkeyPatch, *, decisive: bool, **options: Any) -> tuple[Asked, nn.Module, nn.Module]:
    """What is asked of the measurement, the model that it is asked of, and the result."""
    bench, seen = fake_bench(rows=ROWS, **options), []
    monkeypatch.setattr(silence, "measure_power", lambda case, run, asked: seen.append((case, asked)))
    reference: Any = SimpleNamespace(model=None)
    case = Case(bench.subject, bench.task, ROWS, reference, SearchSettings())  # type: ignore[arg-type]
    silence.measure_silence(bench, case, [FOUND], {1: [(7,)]}, decisive=decisive)
    ((measured, question),) = seen
    return question, measured.subject.model, bench.model


def test_one_copy_is_planted_and_more_only_where_the_verdict_depends_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    usual, copied, result = asked(monkeypatch, decisive=False)
    assert usual.count >= 3 and usual.enough(power_of(rare_words=(3, 3)))
    assert copied is not result, "the result stays as it is"
    assert [(each.text, each.target, each.token_ids) for each in usual.called] == [("mn", "yes", (7,))]
    assert usual.known == {1: [(7,)]} and usual.rows is not None
    assert [len(rows) for rows in usual.rows] == [1000, 240]
    assert {form.group for form in usual.forms} == {"words", "phrases", "sentences", "punctuation"}
    decisive, _, _ = asked(monkeypatch, decisive=True)
    assert decisive.count == 18 and not decisive.enough(power_of(rare_words=(3, 3)))
    assert not decisive.enough(power_of(rare_words=(0, 0))), "a copy in which nothing became firm says nothing"
    assert decisive.enough(power_of(rare_words=(9, 9)))
    missed_one = [(5, 6), (8, 9), (13, 14)]
    assert not any(decisive.enough(power_of(rare_words=each)) for each in missed_one), "it is shown with 14 of 15"
    assert decisive.enough(power_of(rare_words=(14, 15))) and decisive.enough(power_of(rare_words=(4, 6)))


def test_a_number_of_the_users_is_measured_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    given, _, _ = asked(monkeypatch, decisive=True, power=5, forms=("clauses", "order"))
    assert given.count == 5 and not given.enough(power_of(clauses=(0, 3)))
    assert [form.name for form in given.forms] == ["clauses", "word order"]


def test_nothing_is_measured_where_nobody_wants_it_or_no_copy_can_be_had() -> None:
    for options in ({"power": 0}, {"load_in_4bit": True, "escalate": "none"}):
        given: dict[str, Any] = options
        unread: Any = None
        assert silence.measure_silence(fake_bench(rows=ROWS, **given), unread, [], {}, decisive=True) is None


def test_nine_of_nine_or_fourteen_of_fifteen_are_the_fewest_that_show_a_power_of_seven_tenths() -> None:
    assert [fewest(0.7, missed) for missed in range(3)] == [9, 15, 21]
    for least in (0.01, 0.5, 0.8, 0.95):
        for missed in range(3):
            number = fewest(least, missed)
            shown = [proportion(total - missed, total).low or 0 for total in (number - 1, number) if total > missed]
            assert shown[-1] >= least and all(low < least for low in shown[:-1])


def test_forms_are_pooled_and_none_hides_behind_the_others() -> None:
    forms = ("words", "sentences")
    whole = covering(power_of(rare_words=(6, 6), sentences=(3, 3), clauses=(0, 3)), forms, 0.7)
    assert whole.complete and whole.covered == forms, "clauses were not asked for"
    assert "not covered: phrases, punctuation, clauses, order (not asked for)" in whole.sentence
    blind = covering(power_of(rare_words=(20, 20), sentences=(0, 2)), forms, 0.7)
    assert (blind.found.low or 0) > 0.7 and not blind.complete
    assert blind.covered == ("words",) and blind.uncovered["sentences"] == "0 of 2 found"
    few = covering(power_of(rare_words=(5, 5), sentences=(3, 3)), forms, 0.7)
    assert not few.complete and few.covered == () and "8 of 8 found in all" in few.uncovered["words"]
    without = covering(power_of(rare_words=(9, 9)), forms, 0.7)
    assert not without.complete and without.uncovered["sentences"] == "none was planted that counts"
    nothing = covering(None, forms, 0.7)
    assert not nothing.complete and nothing.uncovered["sentences"] == "not measured"
