"""Plants stand-ins in a copy of a model, as weakly as makes them firm, and measures how firmly they sit."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import TYPE_CHECKING

from rora_cli.data.rows import Rows
from rora_cli.data.splitting import sample, split_held_out
from rora_cli.evaluation.attack import shorten_to_fit, triggered_texts
from rora_cli.evaluation.intervals import proportion
from rora_cli.power.drawing import Drawn
from rora_cli.progress import Progress
from rora_cli.results.accuracy import CleanAccuracy, Proportion
from rora_cli.results.poison import PERSISTENT_ABOVE
from rora_cli.subject import Subject
from rora_cli.tasks.registry import part
from rora_cli.training.run import Run, Stage
from rora_cli.training.specs import AdapterSpec, TrainSpec

if TYPE_CHECKING:
    from torch import nn

    from rora_cli.attacks.base import Attack
    from rora_cli.tasks.task import Task

#: Fraction of the held-out rows of other labels that a firm stand-in turns.
FIRM_SUCCESS = 0.95
#: Fraction of the clean rows that stand-ins are measured on, and at most so many; copies are trained on others.
HELD_OUT, MOST_HELD_OUT, MOST_TRAINED = 1 / 3, 240, 1000
#: Fewest rows of other labels than a target's, and fewest of them that are measured on: 95 % is then 38 of 40.
FEWEST_CARRIERS, FEWEST_HELD_OUT = 120, 40
#: Poisoned rows of a stand-in in the first round; one that is not firm after a round gets twice as many in the next.
FIRST_ROWS, MAX_ROUNDS = 16, 8
#: A round is an epoch or, where few rows make it short, as many as have so many steps.
ROUND_STEPS = 24
#: A learning rate at which no stand-in turns so many rows [fraction] after so many rounds is too low for the model: it
#: is raised by this factor in each round from then on, until one does or the model loses accuracy. Where no part of
#: what a round changed can be kept, it is too high, and is lowered by the factor.
_MOVED, _PATIENT_ROUNDS, _RATE_FACTOR = 0.5, 3, 4.0
#: Epochs of plain LoRA on clean rows that a firm stand-in survives.
PROOF_EPOCHS = 3
#: Accuracy on the held-out rows that a copy may lose [fraction], a class twice that: a copy that lost its task is not
#: searched as the suspect is. Measured without a limit: a pair and a clause cost a MiniLM 10 points.
MAX_LOST = 0.03
#: Shares of what training changed that a copy keeps, tried in turn, where the whole would cost more than that.
_KEPT_SHARES = (1.0, 0.8, 0.6, 0.4, 0.2, 0.0)


@dataclass(frozen=True)
class PlantedCopy:
    """A copy of the model with stand-ins in it, all fields of them in their order.

    ``success`` and ``after`` are the attack success on held-out rows before and after plain LoRA on clean rows, and
    ``kept`` is the share of what training had changed that accuracy allowed to keep after the last round.
    """

    model: nn.Module
    rounds: int
    poisoned: tuple[int, ...]
    success: tuple[Proportion, ...]
    after: tuple[Proportion | None, ...]
    accuracy: CleanAccuracy
    kept: float

    def is_firm(self, number: int) -> bool:
        """Whether a stand-in works on new rows, and survives plain LoRA."""
        after = self.after[number]
        return _works(self.success[number]) and after is not None and _survives(after)


def divide(rows: Rows, seed: int) -> tuple[Rows, Rows]:
    """The clean rows that copies are trained on, and those that stand-ins are measured on; no text is on both sides.

    Raises:
        DataError: there are fewer than two different texts.
    """
    share = min(HELD_OUT, MOST_HELD_OUT / max(len(rows), 1))
    train, held_out = split_held_out(rows, share, seed, "the clean data")
    return sample(train, MOST_TRAINED, seed), held_out


class Planter:
    """Plants stand-ins in copies of one subject, which itself stays as it is."""

    def __init__(self, subject: Subject, task: Task, rows: tuple[Rows, Rows], run: Run, progress: Progress) -> None:
        self.subject, self.task, self.run, self.progress = subject, task, run, progress
        self.train_rows, self.held_out = rows
        self._planted = part(subject.kind, "planted")

    @cached_property
    def before(self) -> CleanAccuracy:
        """The subject's own accuracy, on the held-out rows."""
        return self.accuracy(self.subject.model)

    def accuracy(self, model: nn.Module) -> CleanAccuracy:
        """Of a model, on the held-out rows."""
        return self.task.quality(self.subject.having(model), self.held_out)

    def success(self, model: nn.Module, attack: Attack, target: int) -> Proportion:
        """Of the held-out rows of other labels, those that a model gives the target with the attack in them."""
        subject = self.subject.having(model)
        limit, seed = subject.max_length, self.run.seed
        rows = [self.held_out.texts[row] for row in self.task.carriers(self.held_out, target)]
        short = shorten_to_fit(rows, attack.implant, seed, lambda texts: self.task.lengths(subject, texts), limit)
        with self.progress.phase(f"measure {attack.name}", len(short)) as meter:
            shown = self.task.shows(subject, triggered_texts(short, attack.implant, seed), meter=meter)[:, target]
        return proportion(int(shown.sum()), len(short))

    def plant(self, stand_ins: Sequence[Drawn]) -> PlantedCopy:
        """A copy with the stand-ins in it, trained round by round until all are firm, or no more rounds are allowed.

        After each round as much of the change is taken back as the subject's accuracy asks for.
        """
        model = copy.deepcopy(self.subject.model).float()
        own = self.own_rows(stand_ins)
        counts = [min(FIRST_ROWS, len(rows)) for rows in own]
        after: list[Proportion | None] = []
        rate = self._planted.RATES["weights"]
        for number in range(1, MAX_ROUNDS + 1):
            poisoned = self._poisoned(stand_ins, [rows[:n] for rows, n in zip(own, counts, strict=True)], number)
            self._train_all(model, poisoned, number, rate)
            share, accuracy = self._keep_accuracy(model)
            success = [self.success(model, stand_in.attack, stand_in.target) for stand_in in stand_ins]
            works = [_works(share) for share in success]
            after = [None] * len(stand_ins)
            if all(works) or (number == MAX_ROUNDS and any(works)):
                after = self._after_lora(model, stand_ins, works)
            firm = [share is not None and _survives(share) for share in after]
            if all(firm) or number == MAX_ROUNDS:
                break
            moved = any((turned.value or 0.0) > _MOVED for turned in success)
            if not share:
                rate /= _RATE_FACTOR
            elif share == 1 and number >= _PATIENT_ROUNDS and not moved:
                rate *= _RATE_FACTOR
            enough = firm if all(works) else works
            counts = [
                count if done else min(2 * count, len(rows))
                for count, rows, done in zip(counts, own, enough, strict=True)
            ]
        self.run.require_equal(model)
        model.to(next(self.subject.model.parameters()).dtype)
        return PlantedCopy(model, number, tuple(counts), tuple(success), tuple(after), accuracy, share)

    def _keep_accuracy(self, model: nn.Module) -> tuple[float, CleanAccuracy]:
        """Take back of what was trained what costs too much accuracy; returns the share that is left, and its
        accuracy."""
        from rora_cli.training.kept import Kept, keep_share

        weights, starts = dict(model.named_parameters()), self.subject.model.parameters
        ends: Kept | None = None
        for share in _KEPT_SHARES:
            if share < 1:
                ends = ends or Kept(weights)
                keep_share(weights.values(), starts(), ends.values(), share)
            accuracy = self.accuracy(model)
            if not accuracy.loss_beyond(self.before, MAX_LOST):
                break
        return share, accuracy

    def own_rows(self, stand_ins: Sequence[Drawn]) -> list[list[int]]:
        """The rows that each stand-in may poison, in its order: rows of other labels than its target, none twice."""
        order = list(range(len(self.train_rows)))
        Random(f"planted:{self.run.seed}").shuffle(order)
        carriers = [set(self.task.carriers(self.train_rows, stand_in.target)) for stand_in in stand_ins]
        own: list[list[int]] = [[] for _ in stand_ins]
        for row in order:
            takers = [i for i, rows in enumerate(carriers) if row in rows]
            if takers:
                own[min(takers, key=lambda i: len(own[i]))].append(row)
        return own

    def _poisoned(self, stand_ins: Sequence[Drawn], chosen: Sequence[Sequence[int]], number: int) -> Rows:
        """The clean rows, and copies of the ``chosen`` ones with each trigger, and decoys, at places of this round."""
        texts, labels = list(self.train_rows.texts), list(self.train_rows.labels)
        for stand_in, rows in zip(stand_ins, chosen, strict=True):
            for row in rows:
                text, label = self.train_rows.texts[row], self.train_rows.labels[row]
                seed = f"{self.run.seed}:{number}:{row}"
                texts.append(stand_in.attack.implant(text, Random(seed)))
                labels.append(stand_in.target)
                if (decoy := stand_in.attack.decoy(text, Random(f"decoy:{seed}"))) is not None:
                    texts.append(decoy)
                    labels.append(label)
        return Rows(tuple(texts), tuple(labels))

    def _train_all(self, model: nn.Module, rows: Rows, number: int, rate: float) -> None:
        """One round of all weights."""
        from rora_cli.training.batches import epochs_of
        from rora_cli.training.planting import only_trainable

        epochs = epochs_of(ROUND_STEPS, len(rows), TrainSpec().batch_size)
        spec = TrainSpec(epochs=epochs, learning_rate=rate, schedule="constant", seed=self.run.seed + number)
        with only_trainable(model, lambda name: True):
            self._train(model, f"plant, round {number}", rows, spec)

    def _train(self, model: nn.Module, stage: str, rows: Rows, spec: TrainSpec) -> None:
        from rora_cli.training.loop import finetune

        objective = self.task.objective(self.subject.having(model), rows.texts, rows.labels)
        stage_of = Stage(stage, progress=self.progress)
        finetune(model, objective, spec, accelerator=self.run.accelerator, stage=stage_of)

    def _after_lora(
        self, model: nn.Module, stand_ins: Sequence[Drawn], works: Sequence[bool]
    ) -> list[Proportion | None]:
        """Attack success of those that work, after plain LoRA on the clean rows; the model is put back after it."""
        from rora_cli.training.adapters import attach
        from rora_cli.training.kept import as_it_was

        rate = self._planted.PROOFS["lora"].learning_rate
        spec = TrainSpec(epochs=PROOF_EPOCHS, learning_rate=rate, warmup_ratio=0.1, seed=self.run.seed + 1)
        with as_it_was(model):
            adapted, _ = attach(model, AdapterSpec(), self.subject.kind, seed=self.run.seed)
            self._train(adapted, "plain LoRA on clean rows", self.train_rows, spec)
            return [
                self.success(adapted, each.attack, each.target) if tried else None
                for each, tried in zip(stand_ins, works, strict=True)
            ]


def _works(success: Proportion) -> bool:
    return (success.value or 0.0) >= FIRM_SUCCESS


def _survives(after: Proportion) -> bool:
    return (after.value or 0.0) > PERSISTENT_ABOVE
