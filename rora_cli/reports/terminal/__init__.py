"""Terminal reports: a result in, a string out. A file a command."""

from __future__ import annotations

from io import StringIO
from typing import Any


def to_text(*renderables: Any, width: int = 80, color: bool = False) -> str:
    """Render rich objects to a string of at most ``width`` columns, without colour codes unless ``color``."""
    from rich.console import Console

    out = StringIO()
    console = Console(file=out, width=width, force_terminal=color, no_color=not color, highlight=False)
    for renderable in renderables:
        console.print(renderable)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"
