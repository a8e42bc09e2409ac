"""The correction of a classifier: shift one logit so that no class pays for what another one gains.

A poisoned model leans towards its target label, and training against the trigger takes that lean away: overall accuracy
rises while one class falls by more than a user accepts. One number on the head's bias gives it back. The heads of
decoders have no bias, but the states that they read have much in common: a step along their mean shifts a logit by
about the same in every row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from rora_cli.data.rows import Rows
from rora_cli.evaluation.accuracy import clean_accuracy
from rora_cli.evaluation.inference import logits_of
from rora_cli.results.accuracy import CleanAccuracy
from rora_cli.sharded import assign, is_sharded, whole
from rora_cli.subject import Subject
from rora_cli.tasks.correction import Proposal

#: The least squared length of a mean state: of states that have nothing in common, no direction is one.
_LEAST_LENGTH = 1e-12


@dataclass(frozen=True)
class Shift:
    """What is added to the logits: ``by`` [classes], one of which is not 0.

    Attributes:
        along: where the head has no bias, the direction [width] in the states that it reads, along which the weights of
            a class move; None for the bias.
    """

    by: np.ndarray
    along: np.ndarray | None = None


@dataclass(frozen=True)
class HeadBias:
    """Adds a constant to the logit of one class. ``label_names`` are in the order of the logits."""

    label_names: tuple[str, ...]

    def propose(self, subject: Subject, rows: Rows, before: CleanAccuracy, limit: float) -> Proposal:
        """The smallest shift [classes] of one class that keeps accuracy on ``rows`` (``balancing_shift``).

        A frozen head, or one without a bias of a model that several processes hold in parts, is proposed to be left as
        it is.

        Raises:
            InconclusiveError: a logit is not finite.
        """

        def assess(logits: np.ndarray) -> CleanAccuracy:
            return clean_accuracy(logits, rows.labels, self.label_names)

        model, reach, along = subject.model, np.ones(len(rows)), None
        path = trainable_head(model, len(self.label_names))
        head: Any = None if path is None else model.get_submodule(path)
        if path is None or head.bias is not None or is_sharded(model):
            logits = logits_of(subject, rows.texts)
        else:
            with _replaced(model, path, nn.Identity()):
                states = logits_of(subject, rows.texts)
            logits = states @ head.weight.detach().float().cpu().numpy().T
            along = in_common(states, rows.labels)
            reach = states @ along
        if head is None or (head.bias is None and along is None):
            return Proposal(assess(logits))
        by = balancing_shift(logits, rows.labels, assess, before, limit, reach=reach)
        return Proposal(assess(logits + np.outer(reach, by)), Shift(by, along) if by.any() else None)

    def make(self, subject: Subject, proposal: Proposal) -> Mapping[str, Any]:
        """Add the shift to the head's bias, or to its weights; returns it by label, rounded."""
        path, shift = trainable_head(subject.model, len(self.label_names)), proposal.change
        if path is None or shift is None:
            return {}
        head: Any = subject.model.get_submodule(path)
        changed = head.bias if shift.along is None else head.weight
        added = shift.by if shift.along is None else np.outer(shift.by, shift.along)
        with torch.no_grad():
            own = whole(changed)
            assign(changed, own + torch.from_numpy(added).to(own))
        shown = {name: round(float(s), 4) for name, s in zip(self.label_names, shift.by, strict=True) if s}
        return {"added to the bias" if shift.along is None else "added along the mean state": shown}


def in_common(states: np.ndarray, labels: Sequence[int]) -> np.ndarray:
    """The direction [width] along which a step of 1 adds about 1 in every row of ``states`` [rows, width].

    It is the mean of the states, each class of ``labels`` counted alike, so that it leans towards none.
    """
    of = np.asarray(labels)
    mean = np.mean([states[of == label].mean(axis=0) for label in sorted(set(labels))], axis=0)
    direction: np.ndarray = mean / max(float(mean @ mean), _LEAST_LENGTH)
    return direction


def balancing_shift(
    logits: np.ndarray,
    labels: Sequence[int],
    assess: Callable[[np.ndarray], CleanAccuracy],
    before: CleanAccuracy,
    limit: float,
    *,
    reach: np.ndarray,
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
        reach: how much a shift of 1 adds to the logit in each row [rows]; rows where it adds nothing or takes away are
            not counted on.
    """
    none = np.zeros(logits.shape[1])
    after = assess(logits)
    losses = [(before.per_class[n].value or 0.0) - (after.per_class[n].value or 0.0) for n in before.per_class]
    worst = int(np.argmax(losses))
    if losses[worst] <= limit:
        return none
    others = np.delete(logits, worst, axis=1).max(axis=1)
    reached = (np.asarray(labels) == worst) & (reach > 0)
    misread = (others - logits[:, worst])[reached] / reach[reached]
    # Past each misread row in turn, halfway to the next: a shift that just reaches a row would hang on rounding.
    needed = np.sort(misread[misread >= 0])
    steps = (needed + np.append(needed[1:], needed[-1:] + 0.1)) / 2
    shifts = [none + step * np.eye(len(none))[worst] for step in steps]
    lost = [after.loss_beyond(before, limit)]
    for shift in shifts:
        accuracy = assess(logits + np.outer(reach, shift))
        if accuracy.loss_beyond(before, limit, slack=1.0) == 0:
            return shift
        lost.append(accuracy.loss_beyond(before, limit))
    return [none, *shifts][int(np.argmin(lost))]


def trainable_head(model: nn.Module, classes: int) -> str | None:
    """The path of the classification head, a linear layer; None if there is none, or it is frozen."""
    for path, module in reversed(list(model.named_modules())):
        # An adapter's factor of as many rows as there are classes is no head, where the head is frozen.
        fits = isinstance(module, nn.Linear) and module.out_features == classes and ".lora_" not in path
        if fits and module.weight.requires_grad:
            return path
    return None


@contextmanager
def _replaced(model: nn.Module, path: str, module: nn.Module) -> Iterator[None]:
    """Inside, ``module`` stands at ``path``: without its head, a decoder answers with the state that the head reads."""
    own = model.get_submodule(path)
    model.set_submodule(path, module)
    try:
        yield
    finally:
        model.set_submodule(path, own)
