"""``rora behaviours`` at a terminal."""

from __future__ import annotations

from rora_cli.reports.terminal import to_text
from rora_cli.results.behaviours import BehavioursResult


def render(result: BehavioursResult, *, width: int = 80, color: bool = False) -> str:
    """The behaviours, the phrases that make a reply a refusal, and the payloads."""
    from rich.text import Text

    lines = [Text("--behaviour", style="bold")]
    lines += [Text(f"  {name:<12} {meaning}") for name, meaning in result.kinds.items()]
    lines += [Text("  module:function  of your own: prompts and replies in, a truth value a reply out"), Text("")]
    lines += [Text("phrases of a refusal, in any case (--refusal-phrases FILE replaces them)", style="bold")]
    lines += [Text(f"  {phrase}") for phrase in result.refusal_phrases]
    lines += [Text(""), Text("what rora poison plants (--behaviour; says:TEXT for a sentence of yours)", style="bold")]
    lines += [Text(f"  {name:<12} {text}") for name, text in result.payloads.items()]
    return to_text(*lines, width=width, color=color)
