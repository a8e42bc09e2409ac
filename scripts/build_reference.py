"""Write docs/reference.md from the commands themselves: python scripts/build_reference.py [--check]"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Any

TARGET = Path(__file__).parent.parent / "docs" / "reference.md"


def render() -> str:
    from rora_cli.cli.commands_table import COMMANDS, command

    lines = ["# Command reference", "", "Made by `scripts/build_reference.py` from the commands' own help.", ""]
    for name in COMMANDS:
        lines += [f"## rora {name}", "", _help(command(name)), "", *_tables(command(name)), ""]
    return "\n".join(lines)


def _help(function: Any) -> str:
    paragraphs = (inspect.getdoc(function) or "").split("\n\n")
    return _plain("\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs))


def _tables(function: Any) -> list[str]:
    """A table for each heading of the help page, the options without a heading first."""
    from rora_cli.cli.command import classes_of, fields_of, in_words

    panels: dict[str, list[str]] = {"": []}
    for field in fields_of(function).values():
        names = [field.flag] if field.option.argument else [n for o in field.option.names for n in o.split("/")]
        shown = in_words(classes_of(function)[0], field) or _default(field.default)
        text = _plain(field.option.text) + (f" (default: {shown})" if shown and not field.required else "")
        row = f"| {' '.join(f'`{name}`' for name in names)} | {' '.join(text.replace('|', chr(92) + '|').split())} |"
        panels.setdefault(field.heading, []).append(row)
    lines: list[str] = []
    for panel, rows in panels.items():
        lines += [*([f"**{panel}**", ""] if panel else []), "| option | meaning |", "|---|---|", *rows, ""]
    return lines[:-1]


def _default(value: Any) -> str:
    """A default as the table says it; nothing for a switch, and for an option that is off without a value."""
    if value is None or value == () or isinstance(value, bool):
        return ""
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _plain(text: str) -> str:
    return text.replace("[bold]", "**").replace("[/]", "**")


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(0 if TARGET.read_text(encoding="utf-8") == render() else "docs/reference.md is out of date")
    TARGET.write_text(render(), encoding="utf-8")
