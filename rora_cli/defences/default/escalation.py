"""Weaken what no search finds, in the suspect's own weights: replace its upper blocks, and teach the whole anew.

Training takes the effect of what was found, and of little else. What is done here acts on a trigger that nobody named.
A student is the suspect with its upper blocks from a trusted encoder, or drawn anew. It learns the task from clean
rows, from the suspect's answers on such rows changed, and that words put into a row change nothing
(``defences.lessons``); nobody tells it what the suspect does with a trigger. Clean accuracy on held-out rows decides
which student is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from rora_cli.checkpoints.ancestry import descends, different_shape
from rora_cli.defences.bench import Bench, faster
from rora_cli.defences.corrections import KEPT_FRACTIONS_OR_NONE, Trained, shrink
from rora_cli.defences.default.lesson_plan import Course, LessonPlan
from rora_cli.defences.mix import blocks_of, mix
from rora_cli.defences.recipes import FULL
from rora_cli.defences.reinit import draw_all, reinitialise
from rora_cli.defences.shares import share_of
from rora_cli.tasks.reference import Reference
from rora_cli.training.kept import Kept

#: Fractions that the suspect has of every weight when an ancestor, or a student, is mixed in; all are tried.
SUSPECT_FRACTIONS = (0.5, 0.4, 0.3, 0.2)
#: Fractions of the blocks, from the top, that a related encoder's replace, tried in this order.
REPLACED_FRACTIONS = (1.0, 2 / 3, 1 / 2)
#: Fractions of the blocks, from the top, that are drawn anew, tried in this order.
DRAWN_FRACTIONS = (1 / 2, 1 / 3)
#: Accuracy [fraction] that the last student may lose beyond the user's limit. The round after it moves accuracy by as
#: much, and mixing the suspect in instead brings the trigger back.
LAST_STUDENT_SLACK = 0.005
#: Peak learning rate of a student of ``RATE_WIDTH``, every weight of which is trained.
TEACHING_RATE = 1e-4
#: The same of a student in which nothing is the suspect's or an encoder's, and its share of steps with a rising rate.
FRESH_RATE, FRESH_WARMUP = 5e-4, 0.1
#: Accuracy [fraction] beyond the user's limit; an encoder that loses more, tuned on the clean rows, cannot give all
#: blocks. Measured: 0 to .010 on SST-2 and CR, where students of all blocks met the limit; .016 to .049 on CoLA, where
#: none did.
MAX_BEHIND = 0.015


@dataclass(frozen=True)
class Donor:
    """A trusted encoder, tuned on the clean rows, whose blocks can take the place of the suspect's.

    Attributes:
        model: its weights.
        name: as the report calls it.
        related: whether the suspect was trained from it: then some of its blocks work beside the suspect's others.
        fits: whether its weights have the suspect's shapes.
    """

    model: nn.Module
    name: str
    related: bool
    fits: bool


@dataclass(frozen=True)
class Replaced:
    """How many upper ``blocks`` were replaced; 0 if no student was kept.

    ``student``: the weights of the last one; ``share``: the fraction of them that was the suspect's.
    """

    blocks: int
    student: Mapping[str, Tensor]
    share: float = 0.0


def donor_of(bench: Bench, reference: Reference) -> Donor | None:
    """The encoder behind the reference; None for a bag of words."""
    source = reference.model
    if source is None:
        return None
    related = descends(bench.model, source)
    return Donor(source, reference.description, related, related or not different_shape(bench.model, source))


class Surgery:
    """The changes of the suspect's own weights. Every process calls the methods, in the same order.

    Attributes:
        share: the fraction of the model's weights that are the suspect's, trained further or not.
    """

    share: float = 1.0

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    def count_blocks(self) -> int:
        """How many blocks there are to replace."""
        return len(set(blocks_of(self._bench.model).values()))

    def replace_upper(self, course: Course, fractions: Sequence[float], donor: Donor | None = None) -> Replaced:
        """Take the upper blocks and the head from the donor, or draw them anew, and teach the whole model ``course``.

        With all blocks come the embeddings. The ``fractions`` of the blocks are tried in turn until clean accuracy
        keeps to the user's limit; the last of them may lose ``LAST_STUDENT_SLACK`` more. If none keeps to it, the
        suspect is as it was.

        Raises:
            TrainingError: a loss is not finite.
        """
        bench, blocks = self._bench, self.count_blocks()
        original = Kept(bench.model.state_dict())
        counts = list(dict.fromkeys(max(round(fraction * blocks), 1) for fraction in fractions))
        for count in counts:
            original.put_back(bench.model.state_dict())
            torch.manual_seed(bench.config.seed)
            fresh = donor is None and count == blocks
            if donor is not None:
                transplant(bench.model, donor.model, count)
            elif fresh:
                draw_all(bench.model)
            else:
                reinitialise(bench.model, count)
            share = share_of(original, bench.model)
            stage = f"teach {count} block{'s' if count > 1 else ''}{', drawn anew' if donor is None else ''}"
            self._teach(bench.model, course, stage, fresh=fresh)
            kept = bench.gauge.beyond(bench.model) <= (LAST_STUDENT_SLACK if count == counts[-1] else 0.0)
            details = {"blocks": donor.name if donor else "drawn anew", "kept": kept}
            bench.run.stages[-1] = replace(bench.run.stages[-1], details=details)
            if kept:
                self.share = share
                return Replaced(count, bench.model.state_dict(), share)
        student = Kept(bench.model.state_dict())
        original.put_back(bench.model.state_dict())
        return Replaced(0, student, share)

    def teach_on(self, course: Course) -> None:
        """Teach the student that was kept the rest of its lessons, and keep as much as clean accuracy allows.

        Raises:
            TrainingError: a loss is not finite.
        """
        bench = self._bench
        start = Kept(bench.model.state_dict())
        self._teach(bench.model, course, "teach on")
        trained = [Trained(weight, partial(start.__getitem__, n)) for n, weight in bench.model.named_parameters()]
        shrink(bench.gauge, bench.model, trained, stage="shrink, teach on", fractions=KEPT_FRACTIONS_OR_NONE)

    def mix_in(
        self, ancestor: Mapping[str, Tensor], name: str, excess_left: Callable[[nn.Module], float], share: float = 0.0
    ) -> bool:
        """Mix an ancestor's weights into the suspect, if clean accuracy allows it.

        ``share`` is the fraction of the ancestor's weights that are the suspect's own.

        ``excess_left(model)`` is the excess [fraction of rows] of the strongest known trigger. Among the mixtures that
        keep to the user's limit, the one in which it is smallest is taken; on a tie, the one with the smallest fraction
        of the suspect. Returns whether one was.
        """
        bench = self._bench
        fraction = self._best_fraction(ancestor, excess_left)
        if fraction is None:
            return False
        mix(bench.model, ancestor, fraction)
        self.share = fraction + (1 - fraction) * share
        bench.run.record("mix", details={"suspect's share": fraction, "ancestor": name})
        return True

    def _best_fraction(self, ancestor: Mapping[str, Tensor], excess_left: Callable[[nn.Module], float]) -> float | None:
        bench = self._bench
        original = Kept(bench.model.state_dict())
        left: dict[float, float] = {}
        for fraction in SUSPECT_FRACTIONS:
            original.put_back(bench.model.state_dict())
            mix(bench.model, ancestor, fraction)
            if bench.gauge.beyond(bench.model) <= 0:
                left[fraction] = excess_left(bench.model)
        original.put_back(bench.model.state_dict())
        return min(left, key=lambda fraction: (left[fraction], fraction), default=None)

    def _teach(self, student: nn.Module, course: Course, stage: str, *, fresh: bool = False) -> None:
        """Train every weight of ``student`` on ``course``; a ``fresh`` one knows nothing yet."""
        bench = self._bench
        student.requires_grad_(True)
        rate, warmup = (FRESH_RATE, FRESH_WARMUP) if fresh else (TEACHING_RATE, 0.0)
        rates = {"epochs": 1, "learning_rate": rate * faster(bench.model), "warmup_ratio": warmup}
        settings = bench.settings.having(**{**FULL, "cl": 0.0, "tr": 0.0, **rates})
        objective = bench.task.objective(bench.subject, course.texts, course.answers)
        bench.train(student, [], stage=stage, objective=objective, settings=settings)


def replace_and_teach(
    surgery: Surgery,
    bench: Bench,
    plan: LessonPlan,
    donor: Donor | None,
    excess_left: Callable[[nn.Module], float],
    *,
    may_draw: bool,
) -> int | None:
    """Make a student of the suspect; returns the number of blocks replaced, or None if nothing could be done.

    If the suspect was trained from the donor, all blocks or the upper ones are replaced. If even that costs too much
    accuracy, the student that has most of the suspect is mixed into it, and 0 is returned. From any other donor only
    all blocks can be taken. If that fails, or there is no donor, and ``may_draw``, blocks are drawn anew: of a suspect
    narrower than ``RATE_WIDTH`` all, with the embeddings, which a few hundred steps may teach from nothing; if that
    costs too much accuracy, or of any other, upper ones.
    """
    blocks = 0
    if donor is not None and donor.related:
        far = bench.gauge.beyond(donor.model) > MAX_BEHIND
        done = surgery.replace_upper(plan.choose, REPLACED_FRACTIONS[1:] if far else REPLACED_FRACTIONS, donor)
        blocks = done.blocks
        taught = f"{donor.name}, taught by the suspect"
        if not blocks and not surgery.mix_in(done.student, taught, excess_left, done.share):
            return None
    else:
        if donor is not None and donor.fits:
            blocks = surgery.replace_upper(plan.choose, (1.0,), donor).blocks
        if not blocks and may_draw and faster(bench.model) > 1:
            blocks = surgery.replace_upper(plan.choose + plan.go_on, (1.0,)).blocks
        if not blocks and may_draw:
            blocks = surgery.replace_upper(plan.choose, DRAWN_FRACTIONS).blocks
        if not blocks:
            return None
    surgery.teach_on(plan.go_on if blocks == surgery.count_blocks() else plan.go_on + plan.suspects_blocks)
    return blocks


def transplant(model: nn.Module, source: nn.Module, count: int) -> None:
    """Copy the last ``count`` blocks of ``source``, a model of the same shape, and what stands above them.

    The embeddings come with the first block.
    """
    blocks = blocks_of(model)
    upper = sorted(set(blocks.values()))[-count:]
    taken = {name: weight for name, weight in source.state_dict().items() if blocks[name] in upper}
    model.load_state_dict({**model.state_dict(), **taken})
