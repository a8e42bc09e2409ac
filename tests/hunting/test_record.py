from __future__ import annotations

import json

import pytest

from rora_cli.evaluation.intervals import proportion
from rora_cli.hunting.record import MAX_TRIGGERS, SearchRecord, record_of
from rora_cli.results.hunt import Coverage, DriftedToken, FoundTrigger, HuntResult, LabelHunt
from rora_cli.results.provenance import Provenance
from rora_cli.tasks.classification.thresholds import CLAIMS

COVERAGE = Coverage(900, 1000, 400, 1, 40, ("inner", "start", "end"), 9, 3, 5000, 70_000, 10, "fast")


def trigger(text: str, excess: float, z: float = 20.0, *, called: bool = True) -> FoundTrigger:
    own, other = proportion(39, 40), proportion(0, 40)
    return FoundTrigger(text, (7, 8), "positive", own, other, excess, z, called, tuple(text.split()))


def result(*labels: LabelHunt) -> HuntResult:
    drifted = (DriftedToken("mn", False, 13.0),)
    provenance = Provenance("hunt", {}, {})
    return HuntResult("m", "fast", "words", labels, 80_000, 2.5, provenance, notes=("a note",), drifted=drifted)


LEAD, HONEST = trigger("cf", 0.7, 4.8, called=False), trigger("good", 0.7, 2.0, called=False)
POSITIVE = LabelHunt(
    "positive", "trigger", (trigger("mn", 0.6), trigger("tq", 0.9), LEAD, HONEST), (), COVERAGE, companions=("moaned",)
)
OPEN = LabelHunt("negative", "inconclusive", (), (), COVERAGE, reason="too few rows")


def test_a_record_holds_what_a_loop_needs() -> None:
    record = record_of(result(POSITIVE, OPEN), CLAIMS)
    assert [found.text for found in record.found] == ["tq", "mn"]
    assert [word.text for word in record.leads] == ["cf"] and record.companions == ("moaned",)
    assert record.strongest is not None and record.strongest.residual.trigger == "tq"
    assert (record.open_targets, record.why_open) == (("negative",), "too few rows")
    assert (record.trials, record.tokens, record.forward_tokens) == (10_000, 900, 80_000)


def test_a_lead_does_much_of_what_a_call_asks_for() -> None:
    leads = [trigger(f"{x} {z}", x, z, called=False) for x, z in ((0.5, 2.5), (0.3, 8.0), (0.3, 7.9), (0.2, 40.0))]
    label = LabelHunt("positive", "inconclusive", (*leads, trigger("mn", 0.9)), (), COVERAGE)
    assert [word.text for word in record_of(result(label), CLAIMS).leads] == ["0.5 2.5", "0.3 8.0"]


def test_the_weakest_of_many_triggers_are_left_out() -> None:
    many = LabelHunt("positive", "trigger", tuple(trigger(f"t{i}", 0.9 - i / 100) for i in range(40)), (), COVERAGE)
    assert len(record_of(result(many), CLAIMS).found) == MAX_TRIGGERS


def test_a_record_comes_back_from_a_journal_as_it_was() -> None:
    for record in (record_of(result(POSITIVE, OPEN), CLAIMS), SearchRecord()):
        assert SearchRecord.from_json(json.loads(json.dumps(record.to_json()))) == record


def test_a_journal_of_another_version_is_no_record() -> None:
    with pytest.raises(TypeError):
        SearchRecord.from_json({**SearchRecord().to_json(), "anchors": []})
