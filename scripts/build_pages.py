"""Write docs/rules.md and docs/report.md, the rules and the fields of the JSON reports: build_pages.py [--check]"""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, get_args, get_type_hints

DOCS = Path(__file__).parent.parent / "docs"


def rules() -> str:
    """Every rule, by area."""
    from rora_cli.commands.rules import every_rule

    lines = [
        "# Rules", "",
        "What findings are called; `rora rules file/code` prints one of them. Made by `scripts/build_pages.py`. A rule",
        "that *stops* keeps the commands that would load the checkpoint from it. What is not analysed is never clean:",
        "exit code 3.", "",
    ]  # fmt: skip
    for area, members in groupby(sorted(every_rule(), key=lambda rule: rule.id), key=lambda r: r.id.partition("/")[0]):
        lines += [f"## {area}", "", "| rule | severity | meaning | what to do |", "|---|---|---|---|"]
        for rule in members:
            severity = rule.severity + (", stops" if rule.blocking else "")
            lines.append(f"| `{rule.id}` | {severity} | {_cell(rule.meaning)} | {_cell(rule.advice)} |")
        lines.append("")
    return "\n".join(lines)


def report() -> str:
    """The fields of every command's result, and of what they hold."""
    from rora_cli.reports.json_schema import about, meanings
    from rora_cli.results.reports import REPORTS
    from rora_cli.results.reports import report as report_of

    roots = {name: report_of(name) for name in REPORTS}
    lines = [
        "# Fields of the JSON reports", "",
        "What `--format json` prints, and what the Python functions return under the same names. In JSON None is null,",
        "and a proportion has its `value` too. Made by `scripts/build_pages.py`.", "",
        "`rora schema COMMAND` prints a report's JSON Schema. The version rises where a field goes or means something",
        "else; new fields come without, so validate a report with the schema of the rora that wrote it.", "",
        "| command | its report is | version |", "|---|---|---|",
        *(
            f"| `{'--dry-run' if name == 'dry-run' else f'rora {name}'}` | [{kind.__name__}](#{kind.__name__.lower()}) "
            f"| {version} |"
            for name, (kind, version) in roots.items()
        ), "",
    ]  # fmt: skip
    for kind in _reached([kind for kind, _ in roots.values()]):
        lines += [f"## {kind.__name__}", "", _words(about(kind)), "", "| field | type | meaning |", "|---|---|---|"]
        hints, said = get_type_hints(kind), meanings(kind)
        lines += [f"| `{name}` | {_type(hints[name])} | {_words(text)} |" for name, text in said.items()]
        lines.append("")
    return "\n".join(lines)


def _reached(pending: list[Any]) -> Iterator[Any]:
    """The types and all that their fields hold, each once."""
    seen: list[Any] = []
    while pending:
        kind = pending.pop(0)
        if kind in seen:
            continue
        seen.append(kind)
        yield kind
        pending += [part for hint in get_type_hints(kind).values() for part in _parts(hint)]


def _parts(hint: Any) -> Iterator[Any]:
    if dataclasses.is_dataclass(hint):
        yield hint
    for inner in get_args(hint):
        yield from _parts(inner)


def _words(text: str) -> str:
    """A docstring's text as Markdown of one line."""
    return _cell(text.replace("``", "`"))


def _type(hint: Any) -> str:
    text = hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint)
    text = re.sub(
        r"\b(?:[a-z_]+\.)+(?=[A-Z])|collections\.abc\.|NoneType", lambda m: "None" if m[0] == "NoneType" else "", text
    )
    return f"`{text.replace(' | ', ' or ')}`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    for name, made in (("rules.md", rules()), ("report.md", report())):
        made = made.rstrip("\n") + "\n"
        if "--check" not in sys.argv:
            (DOCS / name).write_text(made, encoding="utf-8")
        elif (DOCS / name).read_text(encoding="utf-8") != made:
            sys.exit(f"docs/{name} is out of date: run python scripts/build_pages.py")
