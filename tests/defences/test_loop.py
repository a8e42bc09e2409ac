from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn

from rora_cli.data.rows import Rows
from rora_cli.defences.default.escalation import Surgery
from rora_cli.defences.default.loop import STUDENT_RATE, Loop, _limits, round_settings, rows_to_search, shown
from rora_cli.hunting.record import Found, SearchRecord, Word
from rora_cli.results.findings import Severity
from rora_cli.tasks.reference import Reference
from tests.defences.fakes import ROWS, FakeBench, FakeSurgery, FakeTask, fake_bench


def found(text: str, flip_rate: float = 1.0) -> Found:
    return Found(text, False, "yes", flip_rate, 0.0, 0.5, ())


def loop_of(bench: FakeBench, *records: SearchRecord) -> Loop:
    reference: Any = SimpleNamespace(model=None, description="words")
    loop = Loop(bench, reference, Surgery(bench))
    for number, record in enumerate(records, 1):
        loop.memory.add(record, number)
    return loop


@pytest.mark.parametrize(
    ("rows", "student", "number", "given", "epochs", "rate"),
    [
        (640, False, 1, {}, 14, 5e-4),
        (160, False, 1, {}, 20, 5e-4),
        (32 * 100, False, 1, {}, 3, 5e-4),
        (32 * 56, False, 2, {}, 5, 5e-4),
        (32 * 56, True, 1, {}, 1, STUDENT_RATE),
        (32 * 8, True, 1, {}, 4, STUDENT_RATE),
        (32 * 56, True, 2, {}, 5, STUDENT_RATE),
        (3, True, 1, {"epochs": 7, "learning_rate": 1e-3}, 7, 1e-3),
        (3, False, 2, {"epochs": 7, "learning_rate": 1e-3}, 7, 1e-3),
    ],
)
def test_a_round_has_enough_steps_and_after_a_student_it_trains_more_slowly(
    rows: int, student: bool, number: int, given: dict[str, Any], epochs: int, rate: float
) -> None:
    bench = fake_bench(rows=Rows(("a film",) * rows, (0,) * rows), **given)
    train = round_settings(bench, number, student=student).train
    assert (train.epochs, train.learning_rate) == (epochs, rate)


def test_a_round_is_short_where_cl_was_left_out_for_the_harm_that_it_does() -> None:
    rows = Rows(("a film",) * 640, (0,) * 640)
    left_out, asked = fake_bench(rows=rows), fake_bench(rows=rows, cl=0.0)
    left_out.settings = left_out.settings.having(cl=0.0)
    assert round_settings(left_out, 1, student=False).train.epochs == 3
    assert round_settings(asked, 1, student=False).train.epochs == 14
    narrow = SimpleNamespace(hidden_size=32)
    left_out.subject.model.config = SimpleNamespace(get_text_config=lambda: narrow)
    assert round_settings(left_out, 1, student=False).train.epochs == 14


@pytest.mark.parametrize(("width", "times"), [(32, 12.0), (192, 2.0), (384, 1.0), (4096, 1.0), (None, 1.0)])
def test_a_narrow_model_learns_at_a_larger_rate_unless_the_user_chose_one(width: int | None, times: float) -> None:
    def rate(student: bool, **given: Any) -> float:
        bench = fake_bench(**given)
        text = SimpleNamespace(hidden_size=width) if width else SimpleNamespace()
        bench.subject.model.config = SimpleNamespace(get_text_config=lambda: text)
        return round_settings(bench, 2, student=student).train.learning_rate

    assert rate(False) == pytest.approx(5e-4 * times) and rate(True) == pytest.approx(STUDENT_RATE * times)
    assert rate(False, learning_rate=1e-3) == rate(True, learning_rate=1e-3) == 1e-3


def test_a_round_trains_on_what_a_student_was_taught_with_triggers_put_in() -> None:
    bench = fake_bench()
    loop = loop_of(bench, SearchRecord(found=(found("mn"),)))
    loop.round(nn.Linear(2, 2), [], 1)
    loop.answers = [[0.5, 0.5]] * 3
    loop.round(nn.Linear(2, 2), [], 2)
    first, second = (training["objective"] for training in bench.trainings)
    assert [training["stage"] for training in bench.trainings] == ["train 1", "train 2"]
    assert first.texts == second.texts == ROWS.texts
    assert first.answers == ROWS.labels and second.answers == [[0.5, 0.5]] * 3
    assert any("mn" in first.transform(ROWS.texts[0], 0, epoch) for epoch in range(20))


def test_answers_on_texts_with_a_trigger_a_lead_or_a_word_that_drifted_far_are_not_learned() -> None:
    loop = loop_of(
        fake_bench(),
        SearchRecord(
            found=(found("3d watched"),),
            drifted=(Word("came", False, 6.0), Word("over", False, 4.6), Word("a", True, 17.0)),
            leads=(Word("fins", False, 0.6), Word("b", True, 0.7)),
        ),
    )
    assert loop.memory.avoided(["cf"], loop.bench.task.claims) == ["cf", "3d watched", "came", "fins"]


def test_a_trigger_of_the_first_search_that_still_works_is_trained_against_without_another_search() -> None:
    def still_works(works: str, *records: SearchRecord, **options: Any) -> bool:
        bench = fake_bench(task=FakeTask(says_yes=lambda text: works in text.split()), **options)
        return loop_of(bench, *records).still_works(bench.model)

    first, later = SearchRecord(found=(found("mn"),)), SearchRecord(found=(found("later"),))
    assert still_works("mn", first) and not still_works("other", first)
    assert not still_works("later", first, later), "what only a later search called may be an honest word"
    assert still_works("cf", SearchRecord(), triggers=("cf",)) and not still_works("cf", SearchRecord())


def test_leads_and_drifted_words_are_trained_against_only_where_nothing_was_found() -> None:
    record = SearchRecord(
        companions=("moaned",),
        drifted=(Word("yesterday", False, 13.0), Word("heavier", False, 4.0)),
        leads=(Word("harbour", False, 0.7),),
    )

    def trained(*triggers: Found) -> set[str]:
        hardener = loop_of(fake_bench(), SearchRecord(found=triggers), record).hardener()
        assert hardener is not None
        return {word for i in range(300) for word in hardener("a b", i % 3, i).split()}

    assert {"yesterday", "harbour", "heavier", "moaned"} <= trained()
    assert "harbour" not in trained(found("mn")) and {"mn", "yesterday"} <= trained(found("mn"))
    assert loop_of(fake_bench()).hardener() is None
    named = loop_of(fake_bench(triggers=("cf",))).hardener(1.0)
    assert named is not None and "cf" in named("a b", 0, 0).split()


def test_what_the_last_search_leaves_open_is_trained_against_beside_what_was_found() -> None:
    left = SearchRecord(open_targets=("yes",), leads=(Word("harbour", False, 0.7),))
    loop = loop_of(fake_bench(), SearchRecord(found=(found("mn"),)), left)
    assert [trigger.text for trigger in loop.memory.triggers((), loop.bench.task.claims)] == ["mn", "harbour"]
    loop.memory.add(SearchRecord(leads=left.leads), 3)
    assert not loop.memory.still_open, "a lead that leaves nothing open is an honest word"
    loop.memory.add(replace(left, found=(found("tq"),)), 4)
    assert not loop.memory.still_open, "what was called comes first"


@pytest.mark.parametrize(
    ("options", "searched", "escalates"),
    [
        ({}, SearchRecord(), True),
        ({}, SearchRecord(found=(found("neighbour", 0.9),)), True),
        ({}, SearchRecord(found=(found("mn"),)), False),
        ({}, SearchRecord(found=(found("mn tq"),)), False),
        ({}, SearchRecord(found=(found("mn movie"),)), True),
        ({"triggers": ("cf",)}, SearchRecord(), False),
        ({"adapter_only": True}, SearchRecord(), False),
        ({"escalate": "none"}, SearchRecord(), False),
        ({"escalate": "reference"}, SearchRecord(), False),
    ],
)
def test_the_suspects_weights_are_changed_only_where_no_whole_trigger_is_known(
    options: dict[str, Any], searched: SearchRecord, escalates: bool
) -> None:
    """With a bag of words as the reference, only blocks that are drawn anew can be had."""
    bench = fake_bench(task=FakeTask(), epochs=1, **options)
    loop = loop_of(bench, searched)
    loop.surgery = surgery = FakeSurgery({"drawn": 1})
    loop.escalate()
    assert (len(surgery.seen) == 2) == escalates == loop.changed == loop.forgot
    assert (loop.answers is not None) == escalates
    if escalates:
        assert loop.answers is not None and len(loop.answers) == len(ROWS)


@pytest.mark.parametrize(("width", "linear", "escalates"), [(32, True, True), (32, False, False), (384, True, False)])
def test_a_narrow_suspect_that_a_bag_of_words_explains_is_taught_anew_whatever_was_called(
    width: int, linear: bool, escalates: bool
) -> None:
    bench = fake_bench(task=FakeTask(), epochs=1)
    bench.subject.model.config = SimpleNamespace(get_text_config=lambda: SimpleNamespace(hidden_size=width))
    loop = loop_of(bench, SearchRecord(found=(found("mn"),)))
    loop.reference = SimpleNamespace(model=None, description="words", is_linear=linear)  # type: ignore[assignment]
    loop.surgery = FakeSurgery({"drawn": 1})
    loop.escalate()
    assert loop.changed == escalates


def test_a_search_that_the_journal_has_is_recorded_and_handed_to_the_next_one() -> None:
    bench = fake_bench()
    loop = loop_of(bench)
    record = SearchRecord(found=(replace(found("mn"), token_ids=(7, 8)),), seconds=2.0, trials=10)
    kept = {"search 1": record.to_json()}
    journal: Any = SimpleNamespace(known=kept.get)
    bench.run.state = journal
    assert loop.search(bench.model, 1) == record
    assert loop.memory.token_ids(bench.targets) == {1: [(7, 8)]}
    (stage,) = bench.stages
    assert (stage.name, stage.seconds, stage.details["found"]) == ("search 1", 2.0, ["mn (100 % to yes)"])


def test_held_out_rows_are_searched_if_there_are_enough_of_every_label() -> None:
    bench = fake_bench()
    enough, few = Rows(("a",) * 120, (0, 1) * 60), Rows(("a",) * 120, (0,) * 61 + (1,) * 59)
    for held_out, searched in ((enough, enough), (few, ROWS)):
        bench.gauge.held_out = held_out
        assert rows_to_search(bench) is searched


def test_what_a_search_shows_has_no_empty_part_and_no_calm_where_a_label_stays_open() -> None:
    record = SearchRecord(trials=1000, forward_tokens=10, reference="a bag of words")
    assert shown(record)["found"] == "nothing above the noise" and "trained against all the same" not in shown(record)
    lead = replace(record, leads=(Word("cf", False, 0.8),))
    assert shown(lead)["trained against all the same"] == ["cf"]
    open_ = shown(replace(record, open_targets=("positive",), why_open="'cf' turns 40 of 40 rows"))
    assert open_["found"] == "no trigger, but positive stays open: 'cf' turns 40 of 40 rows"


def test_a_purification_without_a_model_of_the_suspects_line_says_what_that_costs() -> None:
    reference = Reference(None, None, "words", False, limits="a bag of words", advice="pass --reference")  # type: ignore[arg-type]
    (finding,) = _limits(reference)
    assert finding.severity is Severity.INFO and finding.message.startswith("a bag of words; where no whole trigger")
    assert finding.advice == "pass --reference, or --ancestor with it to mix it in"
    assert _limits(replace(reference, limits="", advice="")) == ()
