"""Sequence classifiers as a task: a behaviour is a label, and a model shows the label with the largest logit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from rora_cli.kinds import SEQUENCE_CLASSIFIER, ModelKind
from rora_cli.subject import Subject

if TYPE_CHECKING:
    import numpy as np

    from rora_cli.data.rows import Rows
    from rora_cli.progress import Task as Meter
    from rora_cli.results.accuracy import CleanAccuracy


@dataclass(frozen=True)
class Label:
    """Giving one label."""

    name: str


@dataclass(frozen=True)
class Classification:
    """``label_names`` are in the order of the model's logits: label ``i`` is behaviour ``i``."""

    label_names: tuple[str, ...]

    @property
    def kind(self) -> ModelKind:
        return SEQUENCE_CLASSIFIER

    @cached_property
    def behaviours(self) -> tuple[Label, ...]:
        return tuple(Label(name) for name in self.label_names)

    def carriers(self, rows: Rows, behaviour: int) -> list[int]:
        """The indices of the rows of other labels."""
        return [index for index, label in enumerate(rows.labels) if label != behaviour]

    def shows(self, subject: Subject, texts: Sequence[str], *, meter: Meter | None = None) -> np.ndarray:
        """Whether each label has the largest logit on each text [n, classes], bool.

        Raises:
            InconclusiveError: a logit is not finite.
        """
        import numpy as np

        from rora_cli.evaluation.inference import predict_logits

        logits = predict_logits(subject.model, subject.tokenizer, texts, max_length=subject.max_length, task=meter)
        shown: np.ndarray = logits.argmax(axis=1)[:, None] == np.arange(len(self.label_names))
        return shown

    def quality(self, subject: Subject, rows: Rows, *, shown: np.ndarray | None = None) -> CleanAccuracy:
        """Accuracy, overall and of each label."""
        from rora_cli.evaluation.accuracy import accuracy_of_predictions

        shown = self.shows(subject, rows.texts) if shown is None else shown
        return accuracy_of_predictions(shown.argmax(axis=1), rows.labels, self.label_names)
