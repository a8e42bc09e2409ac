"""Put the numbers of the code into docs/method.md: python scripts/build_method.py [--check]

A number before a comment such as ``<!-- calls.min_suspicion -->`` is that threshold, and a hundred times it before
``<!-- 100 claims.max_residual -->``. The table between the comments ``thresholds`` and ``/thresholds`` holds them all.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

TARGET = Path(__file__).parent.parent / "docs" / "method.md"
_NUMBER = re.compile(r"[\d.,]*<!-- (100 )?(\w+)\.(\w+) -->")
_TABLE = re.compile(r"(<!-- thresholds -->\n).*?(<!-- /thresholds -->)", re.DOTALL)


def render(text: str) -> str:
    """The page with every number and the table as the code has them."""
    from rora_cli.hunting.budgets import BUDGETS
    from rora_cli.tasks.classification.thresholds import CALLS, CLAIMS

    groups = {"calls": CALLS, "claims": CLAIMS, "budget": BUDGETS["normal"]}

    def number(match: re.Match[str]) -> str:
        percent, group, name = match.groups()
        value = getattr(groups[group], name) * (100 if percent else 1)
        return f"{_shown(value)}<!-- {percent or ''}{group}.{name} -->"

    table = "\n".join(_table())
    return _NUMBER.sub(number, _TABLE.sub(lambda match: f"{match[1]}{table}\n{match[2]}", text))


def _table() -> Iterator[str]:
    from rora_cli.tasks.causal.thresholds import OPENINGS
    from rora_cli.tasks.classification.thresholds import CALLS, CLAIMS
    from rora_cli.tasks.thresholds import rows_of

    for name, thresholds in (("calls", CALLS), ("claims", CLAIMS), ("openings", OPENINGS)):
        yield f"| `{name}` | value | unit | decides | evidence |"
        yield "|---|---|---|---|---|"
        for row in rows_of(thresholds):
            yield f"| `{row.name}` | {_shown(row.value)} | {row.unit} | {row.meaning} | {row.evidence} |"
        yield ""


def _shown(value: float) -> str:
    return f"{round(value, 10):g}".removeprefix("0")


if __name__ == "__main__":
    page = TARGET.read_text(encoding="utf-8")
    if "--check" in sys.argv:
        sys.exit(0 if page == render(page) else "docs/method.md is out of date: run scripts/build_method.py")
    TARGET.write_text(render(page), encoding="utf-8")
