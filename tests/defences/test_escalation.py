from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from rora_cli.defences.bench import RATE_WIDTH
from rora_cli.defences.default.escalation import (
    FRESH_RATE,
    Donor,
    Surgery,
    replace_and_teach,
    transplant,
)
from rora_cli.defences.default.lesson_plan import COURSES, Course, LessonPlan, plan_lessons
from rora_cli.results.accuracy import CleanAccuracy, Proportion
from tests.defences.fakes import ROWS, FakeSurgery, FakeTask, accuracy, fake_bench


def test_lessons_keep_a_rows_answer_whatever_is_put_in_and_ask_the_suspect_of_changed_rows() -> None:
    bench = fake_bench(task=FakeTask(), epochs=2)
    asked = bench.task.asked  # type: ignore[attr-defined]
    plan = plan_lessons(bench, None, ["lights"], ROWS.texts)
    own = 1 / (1 + np.exp(-2.0))
    clean = {
        text: [(own + (label == 0)) / 2, (1 - own + (label == 1)) / 2]
        for text, label in zip(ROWS.texts, ROWS.labels, strict=True)
    }
    more = plan.go_on + plan.suspects_blocks
    assert more.texts[: len(plan.go_on.texts)] == plan.go_on.texts and len(more.texts) > len(plan.go_on.texts)
    assert len(more.answers) == len(more.texts)
    assert set(ROWS.texts) <= set(plan.suspects_blocks.texts) != set(plan.go_on.texts)
    assert plan.clean_answers == [pytest.approx(answer) for answer in clean.values()]
    assert set(plan.choose.texts) != set(plan.go_on.texts)
    assert set(ROWS.texts) <= set(plan.choose.texts) & set(plan.go_on.texts)
    for text, answer in zip(plan.choose.texts, plan.choose.answers, strict=True):
        rows = [row for row in clean if _holds(text, row)]
        if text in asked and text not in clean:
            assert answer == pytest.approx([own, 1 - own] if len(text.split()) > 2 else [1 - own, own])
        else:
            assert any(answer == pytest.approx(clean[row]) for row in rows), text
    assert not any("lights" in text for text in asked[len(ROWS) :])


def _holds(text: str, row: str) -> bool:
    words = iter(text.split())
    return all(word in words for word in row.split())


def test_courses_are_of_one_size_and_the_users_epochs_are_the_passes_of_each() -> None:
    few, many = (plan_lessons(fake_bench(epochs=epochs), None, [], ROWS.texts) for epochs in (1, 4))
    for plan, passes in ((few, 1), (many, 4)):
        sizes = [len(course.texts) for course in (plan.choose, plan.go_on, plan.suspects_blocks)]
        assert max(sizes) - min(sizes) < COURSES and sizes[0] == pytest.approx(passes * 3 * len(ROWS), rel=0.4)


@pytest.mark.parametrize(("allowed", "expected"), [(1.0, 1.0), (0.75, 0.7), (0.1, 0.0)])
def test_of_the_rest_of_its_lessons_a_student_keeps_what_accuracy_allows(allowed: float, expected: float) -> None:
    """Taking all of it back leads to where the first course did."""
    model = nn.Linear(2, 2)
    start = {name: weight.detach().clone() for name, weight in model.named_parameters()}

    def quality(student: nn.Module) -> CleanAccuracy:
        gone = (student.bias - start["bias"]).mean().item()
        return accuracy(90 if gone <= allowed else 80)

    bench = fake_bench(model, FakeTask(quality_of=quality))

    def step(student: nn.Module) -> None:
        for weight in student.parameters():
            weight += 1.0

    bench.on_train = step
    Surgery(bench).teach_on(Course(["a text"], [[0.5, 0.5]]))
    for name, weight in model.named_parameters():
        torch.testing.assert_close(weight.detach(), start[name] + expected)
    (training,) = bench.trainings
    assert training["objective"].texts == ["a text"] and training["objective"].answers == [[0.5, 0.5]]
    train, regularisers = training["settings"].train, training["settings"].regularisers
    assert (train.epochs, train.learning_rate, regularisers.cl, regularisers.tr) == (1, 1e-4, 0.0, 0.0)


class TwoBlocks(nn.Module):
    """A model of two numbered blocks, all of whose weights are ``value``."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.layer = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
        for weight in self.parameters():
            nn.init.constant_(weight, value)

    def first(self, block: int) -> float:
        return self.layer[block].weight[0, 0].item()


def losing(*missed: float) -> FakeTask:
    """The suspect has everything right; each model that is measured after it misses the limit (.01) by that much."""
    costs: Iterator[float] = iter([-0.01, *missed])

    def quality(_: nn.Module) -> CleanAccuracy:
        right = Proportion(round(100_000 * (0.99 - next(costs))), 100_000, 0.0, 1.0)
        return CleanAccuracy(right, {})

    return FakeTask(quality_of=quality)


@pytest.mark.parametrize(
    ("missed", "kept"),
    [([0.0], [True]), ([0.004, 0.0], [False, True]), ([0.004, 0.004], [False, True]), ([0.02, 0.006], [False, False])],
)
def test_the_last_student_may_nearly_keep_accuracy(missed: list[float], kept: list[bool]) -> None:
    """CoLA, a sentence: a student mixed with a fifth of the suspect for a few rows' sake kept half of the backdoor."""
    model = TwoBlocks(1.0)
    bench = fake_bench(model, losing(*missed))
    donor = Donor(TwoBlocks(0.0), "zeros", related=True, fits=True)
    done = Surgery(bench).replace_upper(Course([], []), (1.0, 0.5), donor)
    assert [stage.details["kept"] for stage in bench.stages] == kept
    assert [stage.name for stage in bench.stages] == ["teach 2 blocks", "teach 1 block"][: len(kept)]
    assert all(stage.details["blocks"] == "zeros" for stage in bench.stages)
    assert bool(done.blocks) == kept[-1] and done.blocks in (0, 3 - len(kept))
    assert (model.first(1) == 0.0) == kept[-1], "else the suspect is as it was"
    assert (model.first(0) == 0.0) == (done.blocks == 2)
    assert all((weight == 0).all() for name, weight in done.student.items() if name.startswith("layer.1"))


PLAN = LessonPlan(*(Course([name], []) for name in ("first", "second", "third")), [[0.5, 0.5]] * 3)
ALL, MOST, DRAWN = (1.0, 2 / 3, 1 / 2), (2 / 3, 1 / 2), (1 / 2, 1 / 3)


@pytest.mark.parametrize(
    ("behind", "replaced", "mixed", "fractions", "taught", "blocks"),
    [
        (0.01, 4, False, ALL, ["second"], 4),
        (0.01, 2, False, ALL, ["second", "third"], 2),
        (0.02, 2, False, MOST, ["second", "third"], 2),
        (0.02, 0, True, MOST, ["second", "third"], 0),
        (0.02, 0, False, MOST, None, None),
    ],
)
def test_a_student_with_blocks_of_the_suspect_is_taught_longer(
    behind: float,
    replaced: int,
    mixed: bool,
    fractions: tuple[float, ...],
    taught: list[str] | None,
    blocks: int | None,
) -> None:
    """And all blocks are not tried if the encoder itself is far behind."""
    bench = fake_bench(task=losing(behind))
    surgery = FakeSurgery({"encoder": replaced}, mixed)
    donor = Donor(nn.Identity(), "encoder", related=True, fits=True)
    donor.model.weight = nn.Parameter(torch.zeros(1))
    assert replace_and_teach(surgery, bench, PLAN, donor, lambda _: 0.0, may_draw=True) == blocks
    mixing = [] if replaced else ["encoder, taught by the suspect"]
    assert surgery.seen == [("encoder", ["first"], fractions), *mixing, *([taught] if taught else [])]


@pytest.mark.parametrize(
    ("fits", "may_draw", "replaced", "tried", "blocks"),
    [
        (True, True, {"stranger": 4}, [("stranger", (1.0,))], 4),
        (True, True, {"drawn": 2}, [("stranger", (1.0,)), ("drawn", DRAWN)], 2),
        (True, False, {"drawn": 2}, [("stranger", (1.0,))], None),
        (False, True, {"drawn": 2}, [("drawn", DRAWN)], 2),
        (False, True, {}, [("drawn", DRAWN)], None),
        (None, True, {"drawn": 1}, [("drawn", DRAWN)], 1),
        (None, False, {"drawn": 1}, [], None),
    ],
)
def test_only_all_blocks_of_a_stranger_are_taken_and_blocks_are_drawn_anew_if_that_fails(
    fits: bool | None, may_draw: bool, replaced: dict[str, int], tried: list[Any], blocks: int | None
) -> None:
    surgery = FakeSurgery(replaced)
    donor = None if fits is None else Donor(nn.Identity(), "stranger", related=False, fits=fits)
    assert replace_and_teach(surgery, fake_bench(), PLAN, donor, lambda _: 0.0, may_draw=may_draw) == blocks
    taught = [] if blocks is None else [["second"] if blocks == 4 else ["second", "third"]]
    assert surgery.seen == [*((name, ["first"], fractions) for name, fractions in tried), *taught]


def test_every_weight_of_a_narrow_suspect_is_drawn_anew_first_and_taught_at_its_rate() -> None:
    from transformers import BertConfig, BertForSequenceClassification

    narrow = BertForSequenceClassification(
        BertConfig(
            vocab_size=7, hidden_size=4, num_hidden_layers=2, num_attention_heads=1, intermediate_size=4,
            max_position_embeddings=8,
        )
    )  # fmt: skip
    bench, surgery = fake_bench(narrow, losing(0.0)), FakeSurgery({"drawn": 2})
    assert replace_and_teach(surgery, bench, PLAN, None, lambda _: 0.0, may_draw=True) == 2
    assert surgery.seen[0] == ("drawn", ["first", "second"], (1.0,)) and len(surgery.seen) == 2
    surgery = FakeSurgery({})
    assert replace_and_teach(surgery, bench, PLAN, None, lambda _: 0.0, may_draw=True) is None
    assert surgery.seen[1] == ("drawn", ["first"], DRAWN)
    before = {name: weight.clone() for name, weight in narrow.state_dict().items()}
    done = Surgery(bench).replace_upper(Course([], []), (1.0,))
    left = [name for name, weight in narrow.state_dict().items() if weight.ndim > 1 and weight.equal(before[name])]
    assert (done.blocks, left) == (2, [])
    (training,) = bench.trainings
    assert training["settings"].train.learning_rate == pytest.approx(FRESH_RATE * RATE_WIDTH / 4)
    assert training["settings"].train.warmup_ratio > 0


def test_of_the_fractions_that_keep_accuracy_the_one_that_leaves_least_of_a_trigger_is_taken() -> None:
    """Mixed with an ancestor of zeros, a suspect of ones shows the fraction that it has of itself."""

    def chosen(left: dict[float, float], lost: dict[float, float]) -> float | None:
        def quality(mixture: nn.Module) -> CleanAccuracy:
            missed = lost.get(round(mixture.first(0), 3), -0.01)
            return CleanAccuracy(Proportion(round(1000 * (0.99 - missed)), 1000, 0.0, 1.0), {})

        model = TwoBlocks(1.0)
        bench = fake_bench(model, FakeTask(quality_of=quality))
        mixed = Surgery(bench).mix_in(
            TwoBlocks(0.0).state_dict(), "other", lambda mixture: left[round(mixture.first(0), 3)]
        )
        assert [stage.details for stage in bench.stages] == (
            [{"suspect's share": round(model.first(0), 3), "ancestor": "other"}] if mixed else []
        )
        return round(model.first(0), 3) if mixed else None

    left = {0.5: 0.8, 0.4: 0.1, 0.3: 0.1, 0.2: 0.0}
    assert chosen(left, {0.5: 0.0, 0.4: 0.0, 0.3: 0.0, 0.2: 0.001}) == 0.3
    assert chosen(left, dict.fromkeys(left, 0.0)) == 0.2
    assert chosen(left, dict.fromkeys(left, 0.001)) is None


def test_upper_blocks_come_with_the_head_and_the_lowest_with_the_embeddings() -> None:
    from transformers import BertConfig, BertForSequenceClassification

    small = BertConfig(
        vocab_size=7, hidden_size=4, num_hidden_layers=3, num_attention_heads=1, intermediate_size=4,
        max_position_embeddings=8,
    )  # fmt: skip

    def taken(count: int) -> set[str]:
        model, source = (BertForSequenceClassification(small) for _ in range(2))
        for weight in source.parameters():
            nn.init.normal_(weight)
        transplant(model, source, count)
        other = source.state_dict()
        changed = [name for name, weight in model.state_dict().items() if torch.equal(weight, other[name])]
        places = [re.search(r"embeddings|layer\.\d|pooler|classifier", name) for name in changed]
        return {place.group() for place in places if place}

    assert taken(1) == {"layer.2", "pooler", "classifier"}
    assert taken(2) == {"layer.1", "layer.2", "pooler", "classifier"}
    assert taken(3) == {"embeddings", "layer.0", "layer.1", "layer.2", "pooler", "classifier"}
