"""Rows of a task in memory, and the rule by which two texts count as equal."""

from __future__ import annotations

import hashlib
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rora_cli.results.data import DataSummary


@dataclass(frozen=True)
class Rows:
    """``texts[i]`` has the right answer ``labels[i]``: the model's label id, or a prompt's good reply or None."""

    texts: tuple[str, ...]
    labels: tuple[Any, ...]

    def __post_init__(self) -> None:
        if len(self.texts) != len(self.labels):
            raise ValueError(f"{len(self.texts)} texts but {len(self.labels)} labels")

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, indices: Iterable[int]) -> Rows:
        """The rows at ``indices``, in that order."""
        chosen = tuple(indices)
        return Rows(tuple(self.texts[i] for i in chosen), tuple(self.labels[i] for i in chosen))

    @property
    def fingerprint(self) -> str:
        """sha256 over all labels and texts in order; each is prefixed with its length, so that joins do not collide."""
        digest = hashlib.sha256()
        for text, label in zip(self.texts, self.labels, strict=True):
            encoded = text.encode()
            digest.update(f"{label} {len(encoded)}\n".encode())
            digest.update(encoded)
        return digest.hexdigest()


@dataclass(frozen=True)
class Splits:
    """Clean rows to train on and disjoint ones to measure on."""

    train: Rows
    held_out: Rows
    summary: DataSummary


def text_key(text: str) -> str:
    """A key that equal texts share; texts that differ only in case, spacing or Unicode composition count as equal."""
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())
