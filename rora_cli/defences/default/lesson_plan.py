"""The lessons that a student is taught, in three courses, with the suspect's answers where they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import numpy as np

from rora_cli.defences.bench import Bench
from rora_cli.defences.hardening import Hardener
from rora_cli.defences.lessons import LESSONS_PER_ROW, Lesson, make_lessons
from rora_cli.evaluation.inference import whole_words

#: Courses that the lessons are split into.
COURSES = 3
#: Lessons of a course, if ``MAX_PASSES`` over the rows give as many.
MIN_LESSONS = 12_800
#: Passes over the clean rows for a course, unless the user sets the epochs.
MAX_PASSES = 6
#: Lessons of a course; of more, so many are drawn.
MAX_LESSONS = 51_200
#: Fraction that a clean row's label has in the row's answer; the rest is the suspect's answer.
LABEL_FRACTION = 0.5


@dataclass(frozen=True)
class Course:
    """``texts`` [n] for a student, and the ``answers`` [n, behaviours] that it should give."""

    texts: list[str]
    answers: list[list[float]]

    def __add__(self, other: Course) -> Course:
        return Course(self.texts + other.texts, self.answers + other.answers)


@dataclass(frozen=True)
class LessonPlan:
    """Three equal courses: the same clean rows, other texts made of them in each.

    Attributes:
        choose: every student is taught this one, and one student is chosen by what it learned.
        go_on: the chosen student is taught this one as well.
        suspects_blocks: and this one, if it kept blocks of the suspect, in which a part of the backdoor may stay.
        clean_answers: the answers to the clean rows themselves [rows, behaviours].
    """

    choose: Course
    go_on: Course
    suspects_blocks: Course
    clean_answers: list[list[float]]


def plan_lessons(
    bench: Bench, hardener: Hardener | None, avoided: Sequence[str], shortened: Sequence[str]
) -> LessonPlan:
    """Make the lessons and ask the suspect. Every process makes the same plan.

    Args:
        hardener: puts found triggers into rows.
        avoided: triggers and what may be one: the suspect is not asked about a text that holds one.
        shortened: the clean texts, cut so that inserted words still fit.

    Raises:
        InconclusiveError: the suspect's answers are not finite.
    """
    rows = bench.clean
    passes = bench.config.epochs or min(-(-MIN_LESSONS // (LESSONS_PER_ROW * len(rows))), MAX_PASSES)
    lessons = make_lessons(
        rows.texts,
        whole_words(bench.subject.tokenizer),
        hardener=hardener,
        avoided=[trigger.lower().split() for trigger in avoided],
        passes=COURSES * passes,
        seed=bench.config.seed,
        shortened=shortened,
    )
    if len(lessons) > COURSES * MAX_LESSONS:
        lessons = Random(bench.config.seed).sample(lessons, COURSES * MAX_LESSONS)
    clean, wanted = _answers(bench, lessons)
    third = len(lessons) // COURSES
    choose, go_on, suspects_blocks = (
        Course([lesson.text for lesson in lessons[part]], wanted[part])
        for part in (slice(third), slice(third, 2 * third), slice(2 * third, None))
    )
    return LessonPlan(choose, go_on, suspects_blocks, clean)


def _answers(bench: Bench, lessons: Sequence[Lesson]) -> tuple[list[list[float]], list[list[float]]]:
    """The answers to the clean rows [rows, behaviours], and to the lessons [lessons, behaviours]."""
    rows = bench.clean
    texts = [*rows.texts, *(lesson.text for lesson in lessons if lesson.asked)]
    bench.model.to(bench.run.device)
    with bench.run.rough():
        answers = bench.task.answers(bench.subject, texts)
    labels = np.eye(len(bench.targets))[list(rows.labels)]
    clean = LABEL_FRACTION * labels + (1 - LABEL_FRACTION) * answers[: len(rows)]
    asked = iter(answers[len(rows) :])
    return clean.tolist(), [(next(asked) if lesson.asked else clean[lesson.row]).tolist() for lesson in lessons]
