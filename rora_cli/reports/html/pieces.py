"""What a template shows of texts and shares: rows in pieces, of which some are marked; it escapes them itself."""

from __future__ import annotations

import re

from rora_cli.results.accuracy import Proportion

#: Characters of a row that a page shows before and after what is marked in it.
_AROUND = 240


def words(text: str) -> list[tuple[str, bool]]:
    """A sentence of rora's own in pieces: (text, whether it is a command, which stands between backquotes)."""
    return [(piece, i % 2 == 1) for i, piece in enumerate(text.split("`")) if piece]


def points(shares: tuple[Proportion | None, Proportion | None]) -> str:
    """How far the second share is from the first: ``-1.7 points``; ``-`` where one was not measured."""
    first, second = (share.value if share is not None else None for share in shares)
    return "-" if first is None or second is None else f"{100 * (second - first):+.1f} points"


def marked(text: str, trigger: str) -> list[tuple[str, bool]]:
    """An untrusted row in pieces: (text, whether it is the trigger, in any case), cut where it is long.

    A trigger that is described in words, and stands in no row, marks nothing.
    """
    if not trigger.strip():
        return [(_cut(text), False)]
    pieces = re.split(f"({re.escape(trigger.strip())})", text, flags=re.IGNORECASE)
    last = len(pieces) - 1
    cut = (
        (piece, True) if i % 2 else (_cut(piece, keep_start=i > 0, keep_end=i < last), False)
        for i, piece in enumerate(pieces)
    )
    return [(piece, is_trigger) for piece, is_trigger in cut if piece]


def _cut(text: str, *, keep_start: bool = True, keep_end: bool = False) -> str:
    """At most ``_AROUND`` characters at each end that is kept."""
    if keep_start and keep_end:
        return text if len(text) <= 2 * _AROUND else f"{text[:_AROUND]} … {text[-_AROUND:]}"
    if len(text) <= _AROUND:
        return text
    return f"{text[:_AROUND]} …" if keep_start else f"… {text[-_AROUND:]}"
