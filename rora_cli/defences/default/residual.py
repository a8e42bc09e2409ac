"""How well known triggers work on a model, beside harmless words."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from random import Random

import numpy as np
from torch import nn

from rora_cli.attacks.triggers import control_trigger
from rora_cli.data.rows import Rows
from rora_cli.defences.bench import Bench
from rora_cli.defences.hardening import KnownTrigger
from rora_cli.evaluation.attack import AttackTrial, TextLimit, measure_attack
from rora_cli.evaluation.inference import count_tokens, whole_words
from rora_cli.hunting.record import Found
from rora_cli.results.accuracy import AttackOutcome, Proportion
from rora_cli.results.purify import TriggerChange
from rora_cli.subject import Subject

#: Found triggers that are measured again; the weaker ones are mostly neighbours of these.
MAX_MEASURED = 24
#: Triggers whose rows are counted for the report, before and after.
MAX_REPORTED = 8
#: Held-out rows that each trigger is measured on.
MAX_ROWS = 300
#: Random insertions of as many words that a trigger is compared with; their median counts.
CONTROLS = 5


@dataclass(frozen=True)
class Residual:
    """What is left of a trigger.

    Attributes:
        excess: fraction of held-out rows that it turns beyond what harmless words do.
        sentence: the same in words; empty if no trigger does more than they.
    """

    excess: float = 0.0
    sentence: str = ""


def strongest_left(bench: Bench, model: nn.Module, found: Sequence[Found]) -> Residual:
    """``Measuring.strongest_left`` of the ``model``."""
    return Measuring.of(bench, model).strongest_left(found)


#: The text of a trigger and its target -> how many rows it turns.
Turned = dict[tuple[str, str], Proportion]


@dataclass
class Measuring:
    """What triggers do to one model; every number is measured once."""

    bench: Bench
    subject: Subject
    usual: dict[tuple[int, bool, int], float] = field(default_factory=dict)
    outcomes: dict[tuple[str, bool, int], AttackOutcome] = field(default_factory=dict)

    @classmethod
    def of(cls, bench: Bench, model: nn.Module) -> Measuring:
        """For the suspect with this ``model``."""
        return cls(bench, bench.subject.having(model))

    def strongest_left(self, found: Sequence[Found]) -> Residual:
        """The strongest trigger that still works, of those ``found`` and those that the user named.

        A trigger is not measured for a target that all rows have already. Harmless is the larger of two fractions: the
        floor, and the median of random words in the same number. Where nearly any inserted word hurts, the second is
        far above the first.

        Raises:
            InconclusiveError: the model's answers are not finite.
        """
        bench = self.bench
        known = [(KnownTrigger(f.text, f.attached), bench.targets.index(f.target)) for f in found[:MAX_MEASURED]]
        known += [(KnownTrigger(text), goal) for text in bench.config.triggers for goal in range(len(bench.targets))]
        left = [self.residual(trigger, target) for trigger, target in known if self.carriers(target)]
        return max([Residual(), *left], key=lambda residual: (residual.excess, residual.sentence))

    def turned(self, found: Sequence[Found]) -> Turned:
        """How many rows the strongest of ``found`` turn, and each trigger that the user named, to its best target."""
        targets = self.bench.targets
        shares = {(f.text, f.target): self._share(KnownTrigger(f.text, f.attached), f.target) for f in strongest(found)}
        for text in self.bench.config.triggers:
            each = [(self._share(KnownTrigger(text), target), target) for target in targets]
            share, target = max(each, key=lambda one: one[0].value or 0.0)
            shares[text, target] = share
        return {key: share for key, share in shares.items() if share.total}

    def changes(self, found: Sequence[Found], before: Turned) -> tuple[TriggerChange, ...]:
        """What became of the triggers that the user named, and of the strongest ``found``."""
        named = [(KnownTrigger(text), target) for text, target in before if text in self.bench.config.triggers]
        known = {(f.text, f.target): KnownTrigger(f.text, f.attached) for f in strongest(found)}
        known = {(trigger.text, target): trigger for trigger, target in named} | known
        examples = {(f.text, f.target): f.examples for f in found}
        changes = (self._change(each, goal, before) for (_, goal), each in known.items() if self._has_rows(goal))
        return tuple(replace(one, examples=examples.get((one.text, one.target_label), ())) for one in changes)

    def _change(self, trigger: KnownTrigger, goal: str, before: Turned) -> TriggerChange:
        target = self.bench.targets.index(goal)
        outcome = self._measure(trigger, target)
        return TriggerChange(
            text=trigger.text,
            target_label=goal,
            named=trigger.text in self.bench.config.triggers,
            before=before.get((trigger.text, goal)),
            after=outcome.attack_success_rate,
            floor=outcome.floor,
            harmless=self._harmless(len(trigger.text.split()), trigger.attached, target),
        )

    @cached_property
    def rows(self) -> Rows:
        """The held-out rows, or a sample of them."""
        rows: Rows = self.bench.gauge.held_out
        if len(rows) <= MAX_ROWS:
            return rows
        return rows.take(Random(self.bench.config.seed).sample(range(len(rows)), MAX_ROWS))

    @cached_property
    def clean(self) -> np.ndarray:
        """What the model shows on the rows as they are [rows, behaviours]."""
        return self.bench.task.shows(self.subject, self.rows.texts)

    @cached_property
    def words(self) -> list[str]:
        """The plain words of the vocabulary."""
        return whole_words(self.subject.tokenizer)

    def carriers(self, target: int) -> list[int]:
        """The indices of the rows of which the target is not the right answer."""
        return self.bench.task.carriers(self.rows, target)

    def residual(self, trigger: KnownTrigger, target: int) -> Residual:
        """What is left of one trigger."""
        outcome = self._measure(trigger, target)
        rate, floor = outcome.attack_success_rate.value or 0.0, outcome.floor.value or 0.0
        usual = self._harmless(len(trigger.text.split()), trigger.attached, target)
        sentence = (
            f"the trigger {trigger.text!r} still turns {100 * rate:.1f} % of held-out rows to "
            f"{self.bench.targets[target]} (floor {100 * floor:.1f} %, harmless words {100 * usual:.1f} %)"
        )
        return Residual(rate - max(floor, usual), sentence)

    def _has_rows(self, goal: str) -> bool:
        return bool(self.carriers(self.bench.targets.index(goal)))

    def _share(self, trigger: KnownTrigger, goal: str) -> Proportion:
        if not self._has_rows(goal):
            return Proportion(0, 0, None, None)
        return self._measure(trigger, self.bench.targets.index(goal)).attack_success_rate

    def _measure(self, trigger: KnownTrigger, target: int) -> AttackOutcome:
        key = (trigger.text, trigger.attached, target)
        if key not in self.outcomes:
            self.outcomes[key] = self._outcome(trigger, target)
        return self.outcomes[key]

    def _outcome(self, trigger: KnownTrigger, target: int) -> AttackOutcome:
        task, seed, carriers = self.bench.task, self.bench.config.seed, self.carriers(target)
        return measure_attack(
            lambda texts: task.shows(self.subject, texts)[:, target],
            [self.rows.texts[row] for row in carriers],
            AttackTrial(trigger.implant, self.bench.targets[target], "found", trigger.text, "random", seed),
            before=self.clean[carriers, target],
            limit=TextLimit(partial(count_tokens, self.subject.tokenizer), self.subject.max_length),
        )

    def _harmless(self, words: int, attached: bool, target: int) -> float:
        """Median fraction of rows that so many random words turn; 0.0 for a tokenizer without plain words."""
        key = (words, attached, target)
        if key not in self.usual:
            shape, seeds = " ".join(["word"] * words), range(CONTROLS if self.words else 0)
            drawn = [control_trigger(shape, self.words, lambda _: 1, self.bench.config.seed + i) for i in seeds]
            outcomes = [self._measure(KnownTrigger(text, attached), target) for text in drawn]
            rates = [outcome.attack_success_rate.value or 0.0 for outcome in outcomes]
            self.usual[key] = statistics.median(rates) if rates else 0.0
        return self.usual[key]


def strongest(found: Sequence[Found]) -> list[Found]:
    """Those that the report shows."""
    return sorted(found, key=lambda one: -one.excess)[:MAX_REPORTED]
