"""Attacks on one subject, measured on the same rows: clean accuracy, floor, control and success."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import TYPE_CHECKING

from rora_cli.attacks.base import Attack
from rora_cli.progress import SILENT, Progress
from rora_cli.results.accuracy import AttackOutcome, CleanAccuracy
from rora_cli.subject import Subject
from rora_cli.tasks.task import MeasuredTask

if TYPE_CHECKING:
    import numpy as np

    from rora_cli.data.rows import Rows
    from rora_cli.evaluation.attack import TextLimit


#: The position of attacks that rewrite the text as a whole.
WHOLE_TEXT = "whole text"


@dataclass(frozen=True)
class AttackBench:
    """A subject and clean rows to measure attacks on. The subject is asked about the clean rows once."""

    subject: Subject
    task: MeasuredTask
    rows: Rows
    progress: Progress = SILENT

    def _shows(self, phase: str, texts: Sequence[str]) -> np.ndarray:
        """Whether the subject shows each behaviour on each text [n, b], bool."""
        with self.progress.phase(phase, len(texts)) as meter:
            return self.task.shows(self.subject, texts, meter=meter)

    @cached_property
    def clean_shows(self) -> np.ndarray:
        """Whether the subject shows each behaviour on each clean row [n, b], bool."""
        return self._shows("clean rows", self.rows.texts)

    @cached_property
    def clean_accuracy(self) -> CleanAccuracy:
        """How well the subject does its task on the rows as they are."""
        return self.task.quality(self.subject, self.rows, shown=self.clean_shows)

    @cached_property
    def vocabulary(self) -> list[str]:
        """Whole words of the subject's tokenizer: control triggers are drawn from them."""
        from rora_cli.evaluation.inference import whole_words

        return whole_words(self.subject.tokenizer)

    @cached_property
    def _limit(self) -> TextLimit:
        from rora_cli.evaluation.attack import TextLimit

        return TextLimit(lambda texts: self.task.lengths(self.subject, texts), self.subject.max_length)

    def measure(self, attack: Attack, target: int, seed: int, *, role: str = "attack") -> AttackOutcome:
        """Measure one attack under one seed.

        ``target`` is the index of a behaviour; ``role`` is ``attack``, ``control`` or ``decoy`` (a text that looks like
        the trigger and must not set it off).

        Raises:
            DataError: the target is the right answer of every row.
        """
        from rora_cli.evaluation.attack import AttackTrial, measure_attack

        position = attack.position if attack.positioned else WHOLE_TEXT
        decoy = role == "decoy"
        trial = AttackTrial(
            implant=(lambda text, rng: attack.decoy(text, rng) or text) if decoy else attack.implant,
            target=self.task.behaviours[target].name,
            name=attack.name,
            trigger=f"decoy of {attack.shown}" if decoy else attack.shown,
            position=position,
            seed=seed,
            is_control=role != "attack",
        )
        phase = f"{attack.name if role == 'attack' else role}, {position}, seed {seed}"
        carriers = self.task.carriers(self.rows, target)
        return measure_attack(
            lambda texts: self._shows(phase, texts)[:, target],
            [self.rows.texts[row] for row in carriers],
            trial,
            before=self.clean_shows[carriers, target],
            limit=self._limit,
        )

    def measure_all(
        self, attacks: Iterable[Attack], seeds: Sequence[int], target: int, *, control: bool = True
    ) -> Iterator[AttackOutcome]:
        """Every attack's variants under every seed, each followed by its control and its decoy, where it has them.

        An attack that no seed can change (a fixed place, one trigger) is measured under the first seed only; its
        control, which is drawn at random, under all.
        """
        chosen = [variant for attack in attacks for variant in attack.variants()]
        taken = {word.lower() for attack in chosen for trigger in attack.triggers for word in trigger.split()}
        vocabulary = [word for word in self.vocabulary if word.lower() not in taken] if control else []
        for attack in chosen:
            for number, seed in enumerate(seeds):
                if number == 0 or _is_random(attack):
                    yield self.measure(attack, target, seed)
                if not control:
                    continue
                if (drawn := attack.control(vocabulary, self.pieces, seed)) is not None:
                    yield self.measure(drawn, target, seed, role="control")
                if attack.decoy("any text", Random(0)) is not None:
                    yield self.measure(attack, target, seed, role="decoy")

    def pieces(self, word: str) -> int:
        """How many tokens the word is."""
        return len(self.subject.tokenizer(word, add_special_tokens=False)["input_ids"])


def _is_random(attack: Attack) -> bool:
    return not attack.positioned or attack.position == "random" or len(attack.triggers) > 1
