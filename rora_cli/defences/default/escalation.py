"""Weaken what no search finds, in the suspect's own weights: replace its upper blocks, and teach the whole anew.

Training takes the effect of what was found, and of little else. What is done here acts on a trigger that nobody named.
A student, the suspect with its upper blocks from a trusted encoder or drawn anew, learns the task from clean rows and
from the suspect's answers on such rows changed, and that words put into a row change nothing (``defences.lessons``):
what the suspect does with a trigger it is never told. What of it keeps clean accuracy is chosen on held-out clean rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from random import Random

import numpy as np
import torch
from torch import Tensor, nn

from rora_cli.defences.bench import SHRUNK_AWAY, Workbench
from rora_cli.defences.hardening import Hardener
from rora_cli.defences.lessons import PER_ROW, make_lessons
from rora_cli.defences.mix import blocks_of, mix
from rora_cli.defences.recipes import FULL
from rora_cli.defences.reinit import reinitialise
from rora_cli.evaluation.inference import predict_logits, whole_words
from rora_cli.results.purify import StageRecord
from rora_cli.training.run import on_main

#: Shares of the suspect that are tried where an ancestor, or a student that keeps too little accuracy, is mixed in.
SUSPECT_SHARES = (0.5, 0.4, 0.3, 0.2)
#: Shares of the blocks, from the top, that are tried: of an encoder that the suspect was trained from, and drawn anew.
REPLACED_SHARES, DRAWN_SHARES = (1.0, 2 / 3, 1 / 2), (1 / 2, 1 / 3)
#: Accuracy (a fraction) by which the last student may miss the user's limit. The round after it moves accuracy by as
#: much, and to mix the suspect in instead brings the trigger back.
NEARLY = 0.005
#: Lessons that a student is given where the rows allow it in so many passes, lessons at most, and the learning rate.
FEWEST_LESSONS, MOST_PASSES, MOST_LESSONS, LEARNING_RATE = 12_800, 6, 51_200, 1e-4
#: How many ``Courses`` there are.
COURSES = 3
#: An encoder that misses the user's limit by more (a fraction), tuned on the clean rows, cannot give all blocks.
#: Measured: 0 to .010 on SST-2 and CR, where students of all blocks met the limit, .016 to .049 on CoLA: none did.
FAR_BEHIND = 0.015
#: How much of a clean row's answer is its label; the rest is the suspect's.
LABEL_SHARE = 0.5


@dataclass(frozen=True)
class Course:
    """``texts`` for a student, and the ``answers`` [n, classes] that it should give."""

    texts: list[str]
    answers: list[list[float]]

    def __add__(self, other: Course) -> Course:
        return Course(self.texts + other.texts, self.answers + other.answers)


@dataclass(frozen=True)
class Courses:
    """What students are taught: the same rows, other texts in each course. ``rows`` are the answers to clean rows.

    A student is chosen by the ``first``; the chosen one is taught the ``second``, and with it the ``third`` where it
    has blocks of the suspect.
    """

    first: Course
    second: Course
    third: Course
    rows: list[list[float]]


@dataclass(frozen=True)
class Replaced:
    """How many upper ``blocks`` the ``student`` replaced; where it was not kept, 0."""

    blocks: int
    student: nn.Module


def lessons(bench: Workbench, hardener: Hardener | None, avoided: Sequence[str], roomy: Sequence[str]) -> Courses:
    """The courses of lessons; the suspect is asked here.

    ``avoided`` are triggers and what may be one, ``roomy`` the clean texts as words are put into them. The main process
    makes them, all get them.
    """

    def make() -> Courses:
        rows, tokenizer = bench.train_rows, bench.tokenizer
        passes = bench.config.epochs or min(-(-FEWEST_LESSONS // (PER_ROW * len(rows))), MOST_PASSES)
        made = make_lessons(
            rows.texts,
            whole_words(tokenizer),
            hardener=hardener,
            avoided=[trigger.lower().split() for trigger in avoided],
            passes=COURSES * passes,
            seed=bench.config.seed,
            roomy=roomy,
        )
        if len(made) > COURSES * MOST_LESSONS:
            made = Random(bench.config.seed).sample(made, COURSES * MOST_LESSONS)
        texts = [*rows.texts, *(lesson.text for lesson in made if lesson.asked)]
        logits = predict_logits(bench.model.to(bench.accelerator.device), tokenizer, texts, max_length=bench.max_length)
        answers = torch.softmax(torch.from_numpy(logits).double(), dim=1).numpy()
        labels = np.eye(len(bench.label_names))[list(rows.labels)]
        clean = LABEL_SHARE * labels + (1 - LABEL_SHARE) * answers[: len(rows)]
        asked = iter(answers[len(rows) :])
        wanted = [(next(asked) if lesson.asked else clean[lesson.row]).tolist() for lesson in made]
        a_course = len(made) // COURSES
        first, second, third = (
            Course([lesson.text for lesson in made[part]], wanted[part])
            for part in (slice(a_course), slice(a_course, 2 * a_course), slice(2 * a_course, None))
        )
        return Courses(first, second, third, clean.tolist())

    courses: Courses = on_main(bench.accelerator, make)
    return courses


def beyond_limit(bench: Workbench, model: nn.Module) -> float:
    """The accuracy (a fraction) that ``model`` loses beyond the user's limit, once balanced as after a training.

    Measured by the main process, which must have the model, and known to all.
    """
    missed: float = on_main(bench.accelerator, lambda: _beyond_limit_here(bench, model))
    return missed


def teach(bench: Workbench, student: nn.Module, course: Course, *, stage: str) -> None:
    """Train every weight of ``student`` on ``course``."""
    student.requires_grad_(True)
    settings = {**FULL, "cl": 0.0, "tr": 0.0, "epochs": 1, "learning_rate": LEARNING_RATE}
    bench.train(student, [], stage=stage, rows=(course.texts, course.answers), overrides=settings)


def teach_on(bench: Workbench, course: Course) -> None:
    """Teach a student that was kept the rest of its lessons, as far as clean accuracy allows."""
    start = _copy(bench.model)
    teach(bench, bench.model, course, stage="teach on")
    moved = [(weight, start[name]) for name, weight in bench.model.named_parameters()]
    bench.shrink(bench.model, moved, stage="shrink, teach on", shares=SHRUNK_AWAY)


def replace_upper(
    bench: Workbench,
    course: Course,
    shares: Sequence[float],
    source: nn.Module | None = None,
    name: str = "drawn anew",
) -> Replaced:
    """Take the upper blocks and the head from ``source``, or draw them anew, and teach the whole model.

    ``shares`` of the blocks are tried in turn until clean accuracy is within the user's limit, for the last of them
    ``NEARLY``. Otherwise the suspect is as it was.
    """
    blocks = count_blocks(bench.model)
    original = _copy(bench.model)
    counts = list(dict.fromkeys(max(round(share * blocks), 1) for share in shares))
    for count in counts:
        bench.model.load_state_dict(original)
        torch.manual_seed(bench.config.seed)
        if source is None:
            reinitialise(bench.model, count)
        else:
            transplant(bench.model, source, count)
        stage = f"teach {count} block{'s' if count > 1 else ''}{', drawn anew' if source is None else ''}"
        teach(bench, bench.model, course, stage=stage)
        missed = beyond_limit(bench, bench.model)
        kept = missed <= (NEARLY if count == counts[-1] else 0.0)
        bench.stages[-1] = replace(bench.stages[-1], details={"blocks": name, "kept": kept})
        if kept:
            return Replaced(count, bench.model)
    student = deepcopy(bench.model)
    bench.model.load_state_dict(original)
    return Replaced(0, student)


def count_blocks(model: nn.Module) -> int:
    """How many blocks there are to replace."""
    return len(set(blocks_of(model).values()))


def transplant(model: nn.Module, source: nn.Module, count: int) -> None:
    """Copy the last ``count`` blocks of ``source``, a model of the same shape, and what stands above them.

    The embeddings come with the first block.
    """
    blocks = blocks_of(model)
    upper = sorted(set(blocks.values()))[-count:]
    taken = {name: weight for name, weight in source.state_dict().items() if blocks[name] in upper}
    model.load_state_dict({**model.state_dict(), **taken})


def mix_in(bench: Workbench, ancestor: nn.Module, name: str, worst: Callable[[nn.Module], float]) -> bool:
    """Mix ``ancestor``, which the main process has, into the suspect; whether clean accuracy allowed it.

    ``worst`` is by how much the found trigger that works best exceeds its floor: the share that leaves it least is
    taken. Where that tells no difference the ancestor gets most of the say.
    """
    share = on_main(bench.accelerator, lambda: _best_share(bench, ancestor, worst))
    if share is None:
        return False
    mix(bench.model, ancestor.to(bench.accelerator.device), share)
    bench.stages.append(StageRecord("mix", 0.0, details={"suspect's share": share, "ancestor": name}))
    return True


def _best_share(bench: Workbench, ancestor: nn.Module, worst: Callable[[nn.Module], float]) -> float | None:
    original = _copy(bench.model)
    tried: dict[float, float] = {}
    for share in SUSPECT_SHARES:
        bench.model.load_state_dict(original)
        mix(bench.model, ancestor.to(bench.accelerator.device), share)
        if _beyond_limit_here(bench, bench.model) <= 0:
            tried[share] = worst(bench.model)
    bench.model.load_state_dict(original)
    return min(tried, key=lambda share: (tried[share], share), default=None)


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {name: weight.clone() for name, weight in model.state_dict().items()}


def _beyond_limit_here(bench: Workbench, model: nn.Module) -> float:
    """The same, measured by the process that calls it."""
    before = bench.before or bench.measure_here()
    _, after = bench.balancing_shift(model)
    return after.loss_beyond(before, bench.config.allowed_drop)
