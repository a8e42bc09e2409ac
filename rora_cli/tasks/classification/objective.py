"""Training a classifier: summed cross-entropy of texts with the answers that they should get."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from rora_cli.subject import Subject
from rora_cli.training.objective import RowTransform
from rora_cli.training.tokenised import ROWS_AT_A_TIME, TokenRows


class ClassificationObjective:
    """Cross-entropy of a subject's logits. Longer texts are cut to the subject's ``max_length`` [tokens].

    Args:
        subject: the model's tokenizer and length limit; the model that is trained is the loop's.
        texts: [n].
        answers: label ids [n], or the probabilities [n, classes] that the model should give.
        transform: changes each text anew in each epoch; the answers stay.
    """

    def __init__(
        self,
        subject: Subject,
        texts: Sequence[str],
        answers: Sequence[int] | Sequence[Sequence[float]],
        *,
        transform: RowTransform | None = None,
    ) -> None:
        self._subject, self._texts, self._answers, self._transform = subject, texts, answers, transform
        self._encoded = TokenRows(())

    def __len__(self) -> int:
        return len(self._texts)

    def start_epoch(self, epoch: int) -> list[int]:
        """Tokenise the texts, transformed, without padding; returns their lengths [n]. Equal texts are not redone."""
        if not len(self._encoded) or self._transform is not None:
            self._encoded = TokenRows(self._encode(epoch))
        return self._encoded.lengths

    def _encode(self, epoch: int) -> Iterator[list[int]]:
        for start in range(0, len(self._texts), ROWS_AT_A_TIME):
            texts = list(self._texts[start : start + ROWS_AT_A_TIME])
            if self._transform is not None:
                texts = [self._transform(text, start + place, epoch) for place, text in enumerate(texts)]
            yield from self._subject.tokenizer(
                texts, truncation=True, max_length=self._subject.max_length, return_attention_mask=False
            )["input_ids"]

    def units(self, rows: Sequence[int]) -> int:
        """How many rows: each counts as one."""
        return len(rows)

    def loss(self, model: nn.Module, rows: Sequence[int]) -> Tensor:
        """Summed cross-entropy [nats] of some rows; without rows, 0 times that of the first."""
        used = rows or [0]
        device = next(model.parameters()).device
        logits = model(**self._batch(used, device)).logits.float()
        wanted = torch.tensor([self._answers[row] for row in used], device=device)
        total = functional.cross_entropy(logits, wanted, reduction="sum")
        return total if rows else total * 0.0

    def _batch(self, rows: Sequence[int], device: torch.device) -> Mapping[str, Tensor]:
        """The tokenizer's inputs of some rows, padded to the longest of them [rows, tokens]."""
        encoded = {"input_ids": [self._encoded[row] for row in rows]}
        padded = self._subject.tokenizer.pad(encoded, padding="longest", return_tensors="pt")
        return {name: value.to(device) for name, value in padded.items()}
