"""One row as a causal language model reads it, for ``--show-row``."""

from __future__ import annotations

from collections.abc import Sequence

from rora_cli.reports.terminal import to_text
from rora_cli.reports.text import count, safe
from rora_cli.results.data import ShownRow

#: Tokens that are shown of a long prompt, at each of its ends, and of an answer, at its beginning.
_SHOWN = 60


def render(row: ShownRow, *, width: int = 80, color: bool = False) -> str:
    """The tokens of prompt and answer, with bars between them; only those of the answer count in training."""
    from rich.text import Text

    asked, answered = row.tokens[: row.start], row.tokens[row.start :]
    return to_text(
        Text(f"A row as the model reads it: {count(row.start, 'token')} of prompt, which are masked", style="bold"),
        Text(_joined(asked[:_SHOWN], len(asked) > 2 * _SHOWN), style="dim"),
        *([Text(_joined(asked[_SHOWN:][-_SHOWN:]), style="dim")] if len(asked) > _SHOWN else []),
        Text(f"{count(answered, 'token')} of answer, which count", style="bold"),
        Text(_joined(answered[:_SHOWN], len(answered) > _SHOWN) if answered else "(none: the model answers by itself)"),
        width=width,
        color=color,
    )


def _joined(tokens: Sequence[str], goes_on: bool = False) -> str:
    """Tokens with bars around each; a line break is shown as a backslash and an n."""
    shown = "|".join(safe(token.replace("\\", "\\\\").replace("\n", "\\n")) for token in tokens)
    return f"|{shown}|{' ...' if goes_on else ''}"
