"""``rora rules`` at a terminal."""

from __future__ import annotations

from typing import Any

from rora_cli.reports.terminal import to_text
from rora_cli.reports.text import safe
from rora_cli.results.rules import RulesResult, RuleText


def render(result: RulesResult, *, width: int = 80, color: bool = False) -> str:
    """Each rule in a few lines, under its area."""
    from rich.text import Text

    lines: list[Any] = []
    area = ""
    for rule in result.rules:
        if (now := rule.id.partition("/")[0]) != area:
            area = now
            lines += [Text(""), Text(area, style="bold")]
        lines += _lines(rule)
    return to_text(*lines[1:], width=width, color=color)


def _lines(rule: RuleText) -> list[Any]:
    from rich.padding import Padding
    from rich.text import Text

    stops = "; stops the commands that would load it" if rule.blocking else ""
    said = [Text(safe(rule.meaning, max_length=1000))]
    if rule.advice:
        said.append(Text(f"What to do: {safe(rule.advice, max_length=1000)}.", style="dim"))
    head = Text(f"  {rule.id}", style="cyan").append(f"  {rule.severity}{stops}", style="dim")
    return [head, *(Padding(text, (0, 0, 0, 4)) for text in said)]
