"""``rora verify`` for a terminal."""

from __future__ import annotations

from rora_cli.reports.terminal import to_text
from rora_cli.reports.terminal.check import finding_lines
from rora_cli.reports.text import count, safe
from rora_cli.results.verify import VerifyResult


def render(result: VerifyResult, *, width: int = 80, color: bool = False) -> str:
    """Whether the output is intact, with the findings and the manifest's sha256."""
    from rich.text import Text

    state = "intact" if result.is_intact else f"{count(result.findings, 'difference')} from the manifest"
    lines = [
        Text(f"{safe(result.path)}: {state}", style="bold green" if result.is_intact else "bold red"),
        Text(f"  {count(result.files_matching, 'file')} as recorded"),
        Text("  sha256 of the manifest:"),
        Text(f"  {result.manifest_sha256}"),
        *finding_lines(result.findings),
    ]
    if result.is_intact:
        lines.append(
            Text("The manifest is not signed: compare its sha256 with one from a place you trust.", style="dim")
        )
    return to_text(*lines, width=width, color=color)
