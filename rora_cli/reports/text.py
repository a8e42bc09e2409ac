"""Turns numbers and untrusted names into text that is safe and readable in a terminal, a log, Markdown or HTML."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from rora_cli.results.accuracy import Proportion

#: Characters that can move the cursor, start a line, hide text or show it in another order: C0 and C1 controls, DEL,
#: line and paragraph separators, bidirectional overrides and isolates, zero-width characters.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufffe\uffff\ud800-\udfff]"
)


def safe(text: object, *, max_length: int = 200) -> str:
    """An untrusted name for any report: unsafe characters as ``\\xNN``, no ``::`` or ``##[``, cut to ``max_length``.

    A terminal obeys escape sequences, and a CI system obeys ``::error::`` or ``##[`` in a log. Call this before the
    escaping for rich or HTML.
    """
    shown = _UNSAFE.sub(lambda m: _escaped(m[0]), str(text))
    shown = re.sub(":(?=:)", ":\u200a", shown).replace("##[", "##\u200a[")
    return shown if len(shown) <= max_length else shown[: max_length - 1] + "…"


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def markdown(text: object) -> str:
    """Untrusted text for a Markdown sentence or table cell: Markdown, and HTML inside of it, take it literally."""
    shown = safe(text, max_length=1000).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]#+|~@])", r"\\\1", shown)


def markdown_cell(text: object) -> str:
    """An untrusted name for Markdown where it may also start a line: list, number and formula marks are escaped too."""
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>#+-.!|~$@&" else c for c in safe(text))


def markdown_code(text: object) -> str:
    """An untrusted name as a Markdown code span; it can end neither the span nor a table cell around it."""
    return "`" + safe(text).replace("`", "'").replace("|", "\\|") + "`"


def percent(fraction: float | None, digits: int = 1) -> str:
    """``0.8856`` as ``88.6 %``; ``n/a`` for None."""
    return "n/a" if fraction is None else f"{100 * fraction:.{digits}f} %"


def proportion(value: Proportion) -> str:
    """``88.6 % (773/872, 86.3-90.5)``: value, counts and the 95 % interval."""
    if value.value is None:
        return "n/a (0/0)"
    interval = "" if value.low is None or value.high is None else f", {100 * value.low:.1f}-{100 * value.high:.1f}"
    return f"{percent(value.value)} ({value.count}/{value.total}{interval})"


def number(value: float | None, digits: int = 3) -> str:
    """A plain number with ``digits`` significant digits; ``-`` for None."""
    if value is None:
        return "-"
    return f"{value:.{digits}g}" if abs(value) < 1e5 else f"{value:.{digits - 1}e}"


def count(items: Sequence[Any] | int, noun: str, plural: str | None = None) -> str:
    """``1 module``, ``3 modules``."""
    n = items if isinstance(items, int) else len(items)
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def duration(seconds: float) -> str:
    """``48 s``, ``12 min``, ``1.4 h``."""
    if seconds < 120:
        return f"{seconds:.3g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def size(number_of_bytes: int) -> str:
    """``1.37 GB``: three digits, powers of ten."""
    value = float(number_of_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"
