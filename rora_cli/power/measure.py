"""The power of a search: plant, search the copies in the same way, and count what was found."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any, cast

from rora_cli.attacks.registry import make_attack
from rora_cli.errors import RoraError, first_line, is_out_of_memory
from rora_cli.evaluation.intervals import proportion
from rora_cli.free_memory import free_memory
from rora_cli.hunting.case import Case
from rora_cli.hunting.hunt import Known, search_triggers
from rora_cli.power.drawing import Called, Draw, Drawer, Drawn
from rora_cli.power.forms import FORMS, Form
from rora_cli.power.planting import FEWEST_CARRIERS, FEWEST_HELD_OUT, PlantedCopy, Planter, divide
from rora_cli.progress import Progress
from rora_cli.progress import Task as Meter
from rora_cli.results.accuracy import CleanAccuracy, Proportion
from rora_cli.results.hunt import FoundTrigger, HuntResult
from rora_cli.results.power import FalseCall, Power, PowerCopy, StandIn
from rora_cli.training.run import Run

if TYPE_CHECKING:
    from rora_cli.attacks.base import Attack
    from rora_cli.data.rows import Rows
    from rora_cli.tasks.task import Task

#: Stand-ins of one copy: the more there are, the fewer copies are searched, and the more they may hide each other.
PER_COPY = 3
#: Bytes that a copy and its training take, as a multiple of its weights in float32: they themselves, their gradients
#: and AdamW's two moments. What its proof by LoRA puts back is kept where it fits.
_NEEDED_WEIGHTS = 4
#: Of held-out rows of other labels, the fraction that a trigger may turn before it is planted: what turns more is an
#: honest word, which the reference knows as well.
MAX_UNPLANTED = 0.25


class _Reported:
    """Progress of one copy, by its number."""

    def __init__(self, progress: Progress, copy: str) -> None:
        self._progress, self._copy = progress, copy

    @contextmanager
    def phase(self, name: str, total: int | None = None) -> Iterator[Meter]:
        with self._progress.phase(f"{self._copy}: {name}", total) as meter:
            yield meter

    def note(self, message: str) -> None:
        self._progress.note(f"{self._copy}: {message}")

    def warn(self, message: str) -> None:
        self._progress.warn(f"{self._copy}: {message}")


@dataclass(frozen=True)
class Asked:
    """What a measurement is asked for.

    Attributes:
        count: stand-ins to plant.
        called: what searches of the case's subject called.
        known: triggers that the search of the subject was given, and those of the copies are.
        rows: those that copies are trained on, and those that stand-ins are measured on; None divides the case's.
        forms: the forms to plant, by turns.
        per_copy: stand-ins that share a copy.
        enough: asked after each copy whether to plant no more.
    """

    count: int
    called: Sequence[Called] = ()
    known: Known | None = None
    rows: tuple[Rows, Rows] | None = None
    forms: Sequence[Form] = FORMS
    per_copy: int = PER_COPY
    enough: Callable[[Power], bool] = lambda power: False


def measure_power(case: Case, run: Run, asked: Asked) -> Power:
    """What a search of the case's subject would have found: stand-ins in copies of the subject, each copy searched with
    the same rows, reference, budget and seed, for the labels that its stand-ins lead to: the search of one label knows
    nothing of the others.

    The subject is not changed, and no copy is written. Whatever keeps the figure from being measured is its ``reason``,
    or why it ``ended`` early; an interruption (KeyboardInterrupt) of a process that works alone is one.
    """
    measurement = _Measurement(case, run, asked)
    # One process alone may lack the memory, and then none begins.
    if reasons := list(filter(None, case.subject.share.gather(_impossible(case, asked.rows)))):
        return measurement.result(reasons[0])
    try:
        return measurement.run_all()
    except RoraError as error:
        return measurement.result(str(error))
    except KeyboardInterrupt:
        if run.accelerator.num_processes > 1:
            raise
        return measurement.result("it was interrupted")
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return measurement.result(f"memory ran out ({first_line(error)})")


def _impossible(case: Case, rows: tuple[Rows, Rows] | None) -> str | None:
    """Why no stand-in can be planted and measured, with what is needed; None where it can."""
    train, held_out = FEWEST_CARRIERS - FEWEST_HELD_OUT, FEWEST_HELD_OUT
    needs = [(case.rows, FEWEST_CARRIERS, "clean rows", "to plant and to measure")]
    if rows is not None:
        needs = [
            (rows[0], train, "clean rows to train on", "to plant"), (rows[1], held_out, "held-out rows", "to measure"),
        ]  # fmt: skip
    for target in case.targets:
        for each, least, what, why in needs:
            found = len(case.task.carriers(each, target))
            if found < least:
                return (
                    f"{least} {what} of other labels than {case.name(target)} are needed {why}, and there are {found}: "
                    "give more clean rows"
                )
    model = case.subject.model
    needed = _NEEDED_WEIGHTS * 4 * sum(parameter.numel() for parameter in model.parameters())
    free = free_memory(next(model.parameters()).device)
    if needed > free:
        return (
            f"a copy of the model and its training take {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are "
            "free: end other programs, or use a machine with more"
        )
    return None


@dataclass
class _Measurement:
    case: Case
    run: Run
    asked: Asked

    def __post_init__(self) -> None:
        self.rows: tuple[Rows, Rows] | None = None
        self.accuracy: CleanAccuracy | None = None
        self.left_out: dict[str, str] = {}
        self.copies: list[PowerCopy] = []

    def run_all(self) -> Power:
        """Draw, then each copy in turn; a resumed run takes those from its journal that were searched."""
        case, asked = self.case, self.asked
        self.rows = asked.rows or divide(case.rows, case.settings.seed)
        draw = self._draw()
        self.left_out = dict(draw.left_out)
        copies = draw.by_copy(asked.per_copy)
        for number, stand_ins in enumerate(copies, start=1):
            progress = _Reported(case.progress, f"copy {number} of {len(copies)}")
            names = "; ".join(f"{each.form}, {each.attack.shown}, {case.name(each.target)}" for each in stand_ins)
            kept = self.run.recall_together(f"power: {names}", partial(self._copy, stand_ins, progress))
            self.copies.append(PowerCopy.from_json(kept))
            if asked.enough(self.result(None)):
                break
        return self.result(None if any(each.firm for each in self._stand_ins) else self._none_firm())

    @property
    def _stand_ins(self) -> list[StandIn]:
        return [stand_in for copy in self.copies for stand_in in copy.stand_ins]

    def _none_firm(self) -> str:
        if not self.copies:
            return "no stand-in could be drawn for this model"
        return f"none of {len(self._stand_ins)} stand-ins became firm: give more clean rows"

    def _draw(self) -> Draw:
        case = self.case
        self.accuracy = self._planter(case.progress).before
        aims = [behaviour.name for behaviour in case.task.behaviours], case.targets
        drawer = Drawer(case.subject, case.rows, self.asked.called, aims, self._is_unmoved, self.asked.forms)
        return drawer.draw(self.asked.count, case.settings.seed)

    def _is_unmoved(self, attack: Attack, target: int) -> bool:
        """Whether the attack does little in the model itself, without stand-ins."""
        turned = self._planter(self.case.progress).success(self.case.subject.model, attack, target)
        return (turned.value or 0.0) <= MAX_UNPLANTED

    def _planter(self, progress: Progress) -> Planter:
        assert self.rows is not None
        return Planter(self.case.subject, cast("Task", self.case.task), self.rows, self.run, progress)

    def _copy(self, stand_ins: Sequence[Drawn], progress: Progress) -> dict[str, Any]:
        """A ``PowerCopy`` in plain values: planted, and searched for the labels that its stand-ins lead to."""
        case, began = self.case, perf_counter()
        planted = self._planter(progress).plant(stand_ins)
        middle = perf_counter()
        settings = replace(case.settings, targets=tuple(sorted({each.target for each in stand_ins})))
        copied = replace(case, subject=case.subject.having(planted.model), settings=settings, progress=progress)
        found = search_triggers(copied, known=self.asked.known)
        naming = [[each for each in found.called if self._names(each, stand_in)] for stand_in in stand_ins]
        return PowerCopy(
            stand_ins=tuple(self._judged(stand_ins, planted, naming)),
            rounds=planted.rounds,
            accuracy=planted.accuracy,
            kept=planted.kept,
            false_calls=tuple(self._false_calls(naming, found)),
            verdicts={label.target_label: label.verdict for label in found.labels},
            forward_tokens=found.forward_tokens,
            planting_seconds=middle - began,
            search_seconds=perf_counter() - middle,
        ).to_json()

    def _names(self, trigger: FoundTrigger, stand_in: Drawn) -> bool:
        """Whether what a search of a copy called leads to the stand-in: it is a part of it, or holds a token of it and
        does nothing in the model itself, so that the stand-in is why it acts."""
        tokenizer, pieces = self.case.subject.tokenizer, stand_in.pieces
        return pieces.found_in(trigger, tokenizer) or (
            pieces.touched_by(trigger, tokenizer)
            and self._is_unmoved(make_attack("badnet", triggers=(trigger.text,)), stand_in.target)
        )

    def _judged(
        self, stand_ins: Sequence[Drawn], planted: PlantedCopy, naming: Sequence[Sequence[FoundTrigger]]
    ) -> Iterator[StandIn]:
        for number, stand_in in enumerate(stand_ins):
            found = tuple(trigger.text for trigger in naming[number])
            yield StandIn(
                form=stand_in.form,
                trigger=stand_in.attack.shown,
                target_label=self.case.name(stand_in.target),
                poisoned_rows=planted.poisoned[number],
                success=planted.success[number],
                after=planted.after[number],
                firm=planted.is_firm(number),
                found=bool(found),
                found_as=found,
            )

    def _false_calls(self, naming: Sequence[Sequence[FoundTrigger]], hunt: HuntResult) -> Iterator[FalseCall]:
        """What was called and leads to no stand-in, and was not called in the model itself."""
        own = {(each.text, each.target) for each in self.asked.called}
        for trigger in hunt.called:
            named = any(trigger in each for each in naming)
            if not named and (trigger.text, trigger.target_label) not in own:
                yield FalseCall(trigger.text, trigger.target_label)

    def result(self, reason: str | None) -> Power:
        """The figure of the copies that were searched; ``reason`` is why there is none, or why they are not all."""
        planted = self._stand_ins
        found = _share(planted)
        forms = dict.fromkeys(stand_in.form for stand_in in planted)
        return Power(
            asked=self.asked.count,
            accuracy=self.accuracy,
            planted_on=len(self.rows[0]) if self.rows else 0,
            measured_on=len(self.rows[1]) if self.rows else 0,
            copies=tuple(self.copies),
            found=found,
            by_form={form: _share(each for each in planted if each.form == form) for form in forms},
            left_out=self.left_out,
            reason=None if found.total else reason,
            ended=reason if found.total else None,
        )


def _share(stand_ins: Iterable[StandIn]) -> Proportion:
    """Of those that are firm, those found."""
    firm = [stand_in for stand_in in stand_ins if stand_in.firm]
    return proportion(sum(stand_in.found for stand_in in firm), len(firm))
