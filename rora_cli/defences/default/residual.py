"""How well known triggers still work on a model, beside harmless words."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
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
from rora_cli.results.accuracy import AttackOutcome
from rora_cli.subject import Subject

#: Found triggers that are measured again; the weaker ones are mostly neighbours of these.
MAX_MEASURED = 24
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
    """The strongest trigger that still works, of those ``found`` and those that the user named.

    A trigger is not measured for a target that all rows have already. Harmless is the larger of two fractions: the
    floor, and the median of random words in the same number. Where nearly any inserted word hurts, the second is far
    above the first.

    Raises:
        InconclusiveError: the model's answers are not finite.
    """
    measuring = _Measuring(bench, bench.subject.having(model))
    known = [(KnownTrigger(f.text, f.attached), bench.targets.index(f.target)) for f in found[:MAX_MEASURED]]
    known += [(KnownTrigger(text), target) for text in bench.config.triggers for target in range(len(bench.targets))]
    left = [measuring.residual(trigger, target) for trigger, target in known if measuring.carriers(target)]
    return max([Residual(), *left], key=lambda residual: (residual.excess, residual.sentence))


@dataclass
class _Measuring:
    bench: Bench
    subject: Subject
    usual: dict[tuple[int, bool, int], float] = field(default_factory=dict)

    @cached_property
    def rows(self) -> Rows:
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
        return whole_words(self.subject.tokenizer)

    def carriers(self, target: int) -> list[int]:
        """The indices of the rows of which the target is not the right answer."""
        return self.bench.task.carriers(self.rows, target)

    def residual(self, trigger: KnownTrigger, target: int) -> Residual:
        outcome = self._measure(trigger, target)
        rate, floor = outcome.attack_success_rate.value or 0.0, outcome.floor.value or 0.0
        usual = self._harmless(len(trigger.text.split()), trigger.attached, target)
        sentence = (
            f"the trigger {trigger.text!r} still turns {100 * rate:.1f} % of held-out rows to "
            f"{self.bench.targets[target]} (floor {100 * floor:.1f} %, harmless words {100 * usual:.1f} %)"
        )
        return Residual(rate - max(floor, usual), sentence)

    def _measure(self, trigger: KnownTrigger, target: int) -> AttackOutcome:
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
