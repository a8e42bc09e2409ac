"""The reference of a classifier: a bag of words, a classifier that the user trusts, or a trusted encoder, tuned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rora_cli.errors import UsageError
from rora_cli.subject import Subject
from rora_cli.tasks.classification.linear_reference import TokenWeights, bag_of_embeddings, bag_of_words
from rora_cli.tasks.classification.scorer import LabelProbabilities, LabelScorer
from rora_cli.tasks.reference import (
    AUTO,
    STRANGER,
    WORDS_ALONE,
    Reference,
    ReferenceRun,
    TrustedCheckpoint,
    advice,
    chosen_checkpoint,
)
from rora_cli.tokens import same_word, special_ids, token_counts

if TYPE_CHECKING:
    import numpy as np

    from rora_cli.data.rows import Rows

#: Passes over the clean rows that tune an encoder, and their learning rate.
EPOCHS, LEARNING_RATE = 2, 1e-4
#: How often a reference that misreads most rows of a label is trained anew, with twice the epochs.
MAX_DOUBLINGS = 2
#: Fraction of each label's rows that a reference must read rightly, else it is trained anew.
MIN_LABEL_ACCURACY = 0.5


def make_reference(
    choice: str, subject: Subject, rows: Rows, label_names: Sequence[str], run: ReferenceRun
) -> Reference:
    """The reference that ``choice`` names (``SearchTask.reference``).

    A checkpoint with a classification head is used as it is. An encoder is fine-tuned on ``rows``: compared with a
    linear model of its embeddings, honest words looked like triggers. It is trained anew with twice the epochs while it
    misreads most of the rows of some label, since it could explain nothing there. Where nobody named it and it reads
    the rows as text, a bag of words takes its place if it still does: it may not know their language.

    Raises:
        UsageError: the choice is no checkpoint, or has another number of labels.
        HubError: the hub does not give it.
    """
    trusted = chosen_checkpoint(choice, subject, allow_download=run.allow_download)
    maker = _Maker(subject, rows, tuple(label_names), run)
    reference = None if trusted is None else maker.trusted(trusted, named=choice != AUTO)
    return reference or maker.bag_of_words()


@dataclass(frozen=True)
class _Maker:
    subject: Subject
    rows: Rows
    label_names: tuple[str, ...]
    run: ReferenceRun

    def bag_of_words(self) -> Reference:
        linear = LabelScorer(self._bag_of_words(self._encoded()))
        words = f"a linear model of words from the {len(self.rows)} clean rows"
        return Reference(linear, linear, words, False, limits=WORDS_ALONE, advice=advice(self.subject))

    def trusted(self, checkpoint: TrustedCheckpoint, *, named: bool) -> Reference | None:
        """What stands behind ``checkpoint``; None if the user did not name it and it cannot read the rows."""
        from rora_cli.checkpoints.ancestry import descends
        from rora_cli.evaluation.scoring import RememberingScorer, Retokenised

        encoded = self._encoded()
        loaded = self._load(checkpoint)
        same = loaded.tokenizer.get_vocab() == self.subject.tokenizer.get_vocab()
        table = _embeddings(loaded.model) if same else None
        linear = self._bag_of_words(encoded) if table is None else self._bag_of_embeddings(encoded, table)
        trained = "as it stands"
        if loaded.new_head:
            loaded, epochs, knows = self._tuned(checkpoint, loaded)
            if not (knows or named or same):
                return None
            trained = f"fine-tuned on the {len(self.rows)} clean rows, {epochs} epochs"
        own, length = RememberingScorer(loaded.model, share=self.subject.share), self.subject.max_length
        scorer: LabelProbabilities = own
        if not same:
            scorer = Retokenised(own, self.subject.tokenizer, loaded.tokenizer, max_length=length)
        stranger = not descends(self.subject.model, loaded.model)
        return Reference(
            scorer=LabelScorer(scorer),
            linear=LabelScorer(linear),
            description=f"the trusted checkpoint {checkpoint.name}, {trained}",
            trusted_encoder=True,
            model=loaded.model,
            embeddings=table,
            rows_with=None if table is None else _rows_with(encoded, len(table)),
            limits=STRANGER if stranger else "",
            advice=advice(self.subject) if stranger else "",
        )

    def _encoded(self) -> list[list[int]]:
        """The clean rows as token ids of the subject's tokenizer."""
        limit = self.subject.max_length
        encoded: list[list[int]] = self.subject.tokenizer(list(self.rows.texts), truncation=True, max_length=limit)[
            "input_ids"
        ]
        return encoded

    def _bag_of_words(self, encoded: list[list[int]]) -> TokenWeights:
        return bag_of_words(encoded, self.rows.labels, same_word(self.subject.tokenizer), classes=len(self.label_names))

    def _bag_of_embeddings(self, encoded: list[list[int]], table: np.ndarray) -> TokenWeights:
        ignored = sorted(special_ids(self.subject.tokenizer))
        return bag_of_embeddings(encoded, self.rows.labels, table, classes=len(self.label_names), ignored=ignored)

    def _load(self, checkpoint: TrustedCheckpoint) -> Any:
        """The checkpoint, with a new head where it has none.

        Raises:
            UsageError: its number of labels is not the subject's.
        """
        import torch

        from rora_cli.checkpoints.loading import load_classifier

        torch.manual_seed(self.run.seed)
        loaded = load_classifier(checkpoint.path, new_head=self.label_names)
        if len(loaded.label_names) != len(self.label_names):
            raise UsageError(
                f"the reference {checkpoint.path} has {len(loaded.label_names)} labels, the suspect "
                f"{len(self.label_names)}; name an encoder without a head, or a classifier of the same task"
            )
        return loaded

    def _tuned(self, checkpoint: TrustedCheckpoint, loaded: Any) -> tuple[Any, int, bool]:
        """The encoder, fine-tuned, its epochs, and whether it knows every label; ``loaded`` is trained first."""
        epochs, knows = EPOCHS, False
        for trial in range(MAX_DOUBLINGS + 1):
            if trial:
                epochs *= 2
                loaded = self._load(checkpoint)
            self._finetune(loaded, epochs)
            knows = _knows_every_label(self._as_subject(loaded), self.rows, loaded.label_names)
            if knows:
                break
        return loaded, epochs, knows

    def _finetune(self, loaded: Any, epochs: int) -> None:
        from rora_cli.tasks.classification.objective import ClassificationObjective
        from rora_cli.training.loop import finetune
        from rora_cli.training.run import Stage
        from rora_cli.training.specs import TrainSpec

        finetune(
            loaded.model,
            ClassificationObjective(self._as_subject(loaded), self.rows.texts, self.rows.labels),
            TrainSpec(epochs=epochs, learning_rate=LEARNING_RATE, seed=self.run.seed),
            accelerator=self.run.accelerator,
            stage=Stage("reference", progress=self.run.progress),
        )

    def _as_subject(self, loaded: Any) -> Subject:
        """The reference, given as many tokens as the subject, and asked by the same processes."""
        return replace(self.subject, model=loaded.model, tokenizer=loaded.tokenizer)


def _embeddings(model: Any) -> np.ndarray:
    """A copy of the model's table of input embeddings [tokens, width], float32: training goes on in the same memory."""
    from rora_cli.evaluation.scoring import embeddings_of

    return embeddings_of(model).copy()


def _rows_with(encoded: list[list[int]], vocabulary: int) -> np.ndarray:
    """How many rows hold each token [vocabulary]."""
    import numpy as np

    counts: np.ndarray = np.asarray(token_counts([sorted(set(row)) for row in encoded], vocabulary).sum(axis=0)).ravel()
    return counts


def _knows_every_label(subject: Subject, rows: Rows, label_names: Sequence[str]) -> bool:
    """Whether the model reads at least half of each label's rows rightly; they are those it was trained on."""
    from rora_cli.evaluation.accuracy import clean_accuracy
    from rora_cli.evaluation.inference import logits_of

    accuracy = clean_accuracy(logits_of(subject, rows.texts), rows.labels, label_names)
    return all(share.value is None or share.value >= MIN_LABEL_ACCURACY for share in accuracy.per_class.values())
