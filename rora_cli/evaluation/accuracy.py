"""Clean accuracy, overall and per class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rora_cli.evaluation.intervals import proportion
from rora_cli.results.accuracy import CleanAccuracy

if TYPE_CHECKING:
    import numpy as np


def clean_accuracy(logits: np.ndarray, labels: Sequence[int], label_names: Sequence[str]) -> CleanAccuracy:
    """Accuracy of ``logits`` [n, classes] on ``labels`` [n], overall and for every class in ``label_names``.

    A class without rows has an empty proportion, so that "not measured" never reads as 0 or as 1.
    """
    return accuracy_of_predictions(logits.argmax(axis=1), labels, label_names)


def accuracy_of_predictions(
    predictions: np.ndarray, labels: Sequence[int], label_names: Sequence[str]
) -> CleanAccuracy:
    """As ``clean_accuracy``, from predicted label ids [n]."""
    import numpy as np

    truth = np.asarray(labels, dtype=np.int64)
    if predictions.shape != truth.shape:
        raise ValueError(f"{predictions.shape[0]} predictions for {truth.shape[0]} labels")
    right = predictions == truth
    per_class = {
        name: proportion(int(right[truth == index].sum()), int((truth == index).sum()))
        for index, name in enumerate(label_names)
    }
    return CleanAccuracy(proportion(int(right.sum()), len(truth)), per_class)
