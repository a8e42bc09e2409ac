"""Sequence classifiers as a task: a behaviour is a label, and a model shows the label with the largest logit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from rora_cli.errors import DataError
from rora_cli.kinds import SEQUENCE_CLASSIFIER, ModelKind
from rora_cli.subject import Subject
from rora_cli.tasks.classification.thresholds import CALLS, CLAIMS
from rora_cli.tasks.thresholds import CallThresholds, ClaimThresholds

if TYPE_CHECKING:
    import numpy as np

    from rora_cli.data.rows import Rows
    from rora_cli.progress import Task as Meter
    from rora_cli.results.accuracy import CleanAccuracy
    from rora_cli.tasks.classification.head_bias import HeadBias
    from rora_cli.tasks.reference import Reference, ReferenceRun
    from rora_cli.tasks.task import Scorer
    from rora_cli.training.objective import Objective, RowTransform


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
        """Sequence classifiers."""
        return SEQUENCE_CLASSIFIER

    @property
    def calls(self) -> CallThresholds:
        """When the search calls a candidate a trigger."""
        return CALLS

    @property
    def claims(self) -> ClaimThresholds:
        """When the default recipe may claim that a trigger is gone."""
        return CLAIMS

    @property
    def thresholds(self) -> dict[str, CallThresholds | ClaimThresholds]:
        """Those of ``calls`` and ``claims``."""
        return {"calls": CALLS, "claims": CLAIMS}

    @cached_property
    def behaviours(self) -> tuple[Label, ...]:
        """Giving each label."""
        return tuple(Label(name) for name in self.label_names)

    def carriers(self, rows: Rows, behaviour: int) -> list[int]:
        """The indices of the rows of other labels."""
        return [index for index, label in enumerate(rows.labels) if label != behaviour]

    def lengths(self, subject: Subject, texts: Sequence[str]) -> list[int]:
        """The length of each text in tokens, special tokens included."""
        from rora_cli.evaluation.inference import count_tokens

        return count_tokens(subject.tokenizer, texts)

    def shows(self, subject: Subject, texts: Sequence[str], *, meter: Meter | None = None) -> np.ndarray:
        """Whether each label has the largest logit on each text [n, classes], bool.

        Raises:
            InconclusiveError: a logit is not finite.
        """
        import numpy as np

        from rora_cli.evaluation.inference import logits_of

        logits = logits_of(subject, texts, meter=meter)
        shown: np.ndarray = logits.argmax(axis=1)[:, None] == np.arange(len(self.label_names))
        return shown

    def quality(self, subject: Subject, rows: Rows, *, shown: np.ndarray | None = None) -> CleanAccuracy:
        """Accuracy, overall and of each label; ``shown`` [n, classes] saves asking the subject."""
        from rora_cli.evaluation.accuracy import accuracy_of_predictions

        shown = self.shows(subject, rows.texts) if shown is None else shown
        return accuracy_of_predictions(shown.argmax(axis=1), rows.labels, self.label_names)

    def check(self, rows: Rows) -> None:
        """Raise DataError for rows of a single label: no reference learns a task from them."""
        if len(set(rows.labels)) < 2:
            raise DataError("the clean rows all have one label; a search needs rows of at least two")

    def unknown(self, rows: Rows, behaviour: int) -> str:
        """Why no reference knows the label's honest words: no clean row has the label. They would all look like
        triggers."""
        if behaviour in rows.labels:
            return ""
        return (
            f"no clean row has the label {self.label_names[behaviour]!r}, so no reference can tell its honest words "
            "from triggers: give clean rows of it"
        )

    @property
    def correction(self) -> HeadBias:
        """A shift of the head's bias."""
        from rora_cli.tasks.classification.head_bias import HeadBias

        return HeadBias(self.label_names)

    def objective(
        self, subject: Subject, texts: Sequence[str], answers: Sequence[Any], *, transform: RowTransform | None = None
    ) -> Objective:
        """Cross-entropy; ``answers`` are label ids [n] or probabilities [n, classes]."""
        from rora_cli.tasks.classification.objective import ClassificationObjective

        return ClassificationObjective(subject, texts, answers, transform=transform)

    def logits(self, subject: Subject, texts: Sequence[str]) -> np.ndarray:
        """The logits [n, classes], float32.

        Raises:
            InconclusiveError: a logit is not finite.
        """
        from rora_cli.evaluation.inference import predict_logits

        return predict_logits(subject.model, subject.tokenizer, texts, max_length=subject.max_length)

    def answers(self, subject: Subject, texts: Sequence[str]) -> np.ndarray:
        """The softmax of the logits [n, classes], float64.

        Raises:
            InconclusiveError: a logit is not finite.
        """
        import torch

        from rora_cli.evaluation.inference import logits_of

        logits = logits_of(subject, texts)
        probabilities: np.ndarray = torch.softmax(torch.from_numpy(logits).double(), dim=1).numpy()
        return probabilities

    def scorer(self, subject: Subject) -> Scorer:
        """A scorer of token-id sequences, batched by length without padding."""
        from rora_cli.evaluation.scoring import TorchScorer
        from rora_cli.tasks.classification.scorer import LabelScorer

        return LabelScorer(TorchScorer(subject.model, share=subject.share))

    def reference(self, choice: str, subject: Subject, rows: Rows, run: ReferenceRun) -> Reference:
        """A bag of words, a trusted classifier, or a trusted encoder that is tuned on ``rows``.

        Raises:
            DataError: all rows have one label.
            UsageError: the choice is no checkpoint, or has another number of labels.
            HubError: the hub does not give it.
        """
        from rora_cli.tasks.classification.reference import make_reference

        self.check(rows)
        return make_reference(choice, subject, rows, self.label_names, run)
