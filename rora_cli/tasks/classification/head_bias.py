"""The correction of a classifier: shift the head's bias so that no class pays for what another one gains.

A poisoned model leans towards its target label, and training against the trigger takes that lean away: overall accuracy
rises while one class falls by more than a user accepts. One number on the head's bias gives it back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from rora_cli.data.rows import Rows
from rora_cli.evaluation.accuracy import clean_accuracy
from rora_cli.evaluation.inference import logits_of
from rora_cli.results.accuracy import CleanAccuracy
from rora_cli.sharded import assign, whole
from rora_cli.subject import Subject
from rora_cli.tasks.correction import Proposal


@dataclass(frozen=True)
class HeadBias:
    """Adds a constant to the logit of one class. ``label_names`` are in the order of the logits."""

    label_names: tuple[str, ...]

    def propose(self, subject: Subject, rows: Rows, before: CleanAccuracy, limit: float) -> Proposal:
        """The smallest shift [classes] of one class that keeps accuracy on ``rows`` (``balancing_shift``).

        A head without a bias, or a frozen one, is proposed to be left as it is.

        Raises:
            InconclusiveError: a logit is not finite.
        """

        def assess(logits: np.ndarray) -> CleanAccuracy:
            return clean_accuracy(logits, rows.labels, self.label_names)

        logits = logits_of(subject, rows.texts)
        if trainable_bias(subject.model, len(self.label_names)) is None:
            return Proposal(assess(logits))
        shift = balancing_shift(logits, rows.labels, assess, before, limit)
        return Proposal(assess(logits + shift), shift if shift.any() else None)

    def make(self, subject: Subject, proposal: Proposal) -> Mapping[str, Any]:
        """Add the shift to the head's bias; returns it by label, rounded."""
        bias, shift = trainable_bias(subject.model, len(self.label_names)), proposal.change
        if bias is None or shift is None:
            return {}
        with torch.no_grad():
            own = whole(bias)
            assign(bias, own + torch.from_numpy(shift).to(own))
        shown = {name: round(float(s), 4) for name, s in zip(self.label_names, shift, strict=True) if s}
        return {"added to the bias": shown}


def balancing_shift(
    logits: np.ndarray,
    labels: Sequence[int],
    assess: Callable[[np.ndarray], CleanAccuracy],
    before: CleanAccuracy,
    limit: float,
) -> np.ndarray:
    """The smallest shift [classes] of one class with which accuracy is kept.

    If no shift keeps it, the one with the smallest loss beyond what is allowed; zeros if accuracy is kept already.

    Args:
        logits: [rows, classes].
        labels: class ids [rows].
        assess: the accuracy that logits [rows, classes] give, its classes in the order of their ids.
        before: the accuracy to keep.
        limit: what may be lost overall, as a fraction. A class should lose no more than that either, and may lose
            ``PER_CLASS_SLACK`` times as much if no shift reaches that.
    """
    none = np.zeros(logits.shape[1])
    after = assess(logits)
    losses = [(before.per_class[n].value or 0.0) - (after.per_class[n].value or 0.0) for n in before.per_class]
    worst = int(np.argmax(losses))
    if losses[worst] <= limit:
        return none
    others = np.delete(logits, worst, axis=1).max(axis=1)
    misread = (others - logits[:, worst])[np.asarray(labels) == worst]
    # Past each misread row in turn, halfway to the next: a shift that just reaches a row would hang on rounding.
    needed = np.sort(misread[misread >= 0])
    steps = (needed + np.append(needed[1:], needed[-1:] + 0.1)) / 2
    shifts = [none + step * np.eye(len(none))[worst] for step in steps]
    lost = [after.loss_beyond(before, limit)]
    for shift in shifts:
        accuracy = assess(logits + shift)
        if accuracy.loss_beyond(before, limit, slack=1.0) == 0:
            return shift
        lost.append(accuracy.loss_beyond(before, limit))
    return [none, *shifts][int(np.argmin(lost))]


def trainable_bias(model: nn.Module, classes: int) -> nn.Parameter | None:
    """The bias [classes] of the classification head; None if the head has none, or is frozen."""
    for module in reversed(list(model.modules())):
        bias = module.bias if isinstance(module, nn.Linear) and module.out_features == classes else None
        if bias is not None and bias.requires_grad:
            return bias
    return None
