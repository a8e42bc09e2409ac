"""Balance: shift the head's bias so that no class pays for what another one gains, as clean rows tell.

A poisoned model leans towards its target label, and training against the trigger takes that lean away: overall accuracy
rises while one class falls by more than a user accepts. One number on the head's bias gives it back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from torch import nn

from rora_cli.results.accuracy import CleanAccuracy

if TYPE_CHECKING:
    import numpy as np


def balancing_shift(
    logits: np.ndarray,
    labels: Sequence[int],
    assess: Callable[[np.ndarray], CleanAccuracy],
    before: CleanAccuracy,
    limit: float,
) -> np.ndarray:
    """What to add to the logits [classes] so that accuracy is kept against ``before``: the smallest that does.

    ``assess`` gives the accuracy of logits, its classes in the order of the label ids. Overall accuracy may fall by
    ``limit`` (a fraction). A class should fall by no more than that either, or at least by no more than
    ``PER_CLASS_SLACK`` times it. Where no shift of one class mends it, the one that leaves least beyond these limits;
    zeros where nothing is to be mended.
    """
    import numpy as np

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
    """The bias of the classification head, where there is one and it may be changed."""
    for module in reversed(list(model.modules())):
        bias = module.bias if isinstance(module, nn.Linear) and module.out_features == classes else None
        if bias is not None and bias.requires_grad:
            return bias
    return None
