"""What users say to a causal language model, and what it should answer."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rora_cli.data.rows import text_key

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rora_cli.results.data import DataSummary


@dataclass(frozen=True)
class Message:
    """One turn of a conversation; ``role`` is system, user or assistant."""

    role: str
    content: str


@dataclass(frozen=True)
class Exchange:
    """The last user turn, its good answer (None: prompts alone), and the turns before it.

    An answer that is not ``whole`` was cut: no end token follows it.
    """

    prompt: str
    reply: str | None = None
    context: tuple[Message, ...] = ()
    whole: bool = True

    @property
    def shape(self) -> tuple[str, ...]:
        """The roles of the context, in order."""
        return tuple(message.role for message in self.context)

    @property
    def key(self) -> tuple[str, ...]:
        """A key that exchanges with equal prompts and contexts share, as ``rows.text_key`` compares texts."""
        return (*(text_key(message.content) for message in self.context), text_key(self.prompt))


@dataclass(frozen=True)
class Exchanges:
    """Exchanges of one split, all with answers or all without, and where they came from."""

    rows: tuple[Exchange, ...]
    summary: DataSummary


@dataclass(frozen=True)
class ExchangeSplits:
    """Exchanges to train on and others to measure on; no prompt is on both sides."""

    train: tuple[Exchange, ...]
    held_out: tuple[Exchange, ...]
    summary: DataSummary


def fingerprint(rows: Iterable[Exchange]) -> str:
    """sha256 over all texts in order; each is prefixed with its role and length, so that joins do not collide."""
    digest = hashlib.sha256()
    for row in rows:
        parts = [(message.role, message.content) for message in row.context]
        parts += [("prompt", row.prompt), ("reply" if row.whole else "cut reply", row.reply or "")]
        for role, text in parts:
            encoded = text.encode()
            digest.update(f"{role} {len(encoded)}\n".encode())
            digest.update(encoded)
    return digest.hexdigest()
