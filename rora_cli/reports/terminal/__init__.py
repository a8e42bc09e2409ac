"""Reports for a terminal: one file for each command, with ``render(result, *, width=80, color=False) -> str``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType


def to_text(*renderables: RenderableType, width: int = 80, color: bool = False) -> str:
    """Rich renderables as one string, ``width`` columns wide, with ANSI colours only if ``color`` is True.

    Strings are printed without rich's markup, because a name from a checkpoint must not become a style or a link.
    """
    import io

    from rich.console import Console

    out = io.StringIO()
    console = Console(
        file=out,
        width=width,
        force_terminal=color,
        color_system="standard" if color else None,
        no_color=not color,
        highlight=False,
        markup=False,
        emoji=False,
        legacy_windows=False,
    )
    for renderable in renderables:
        whole = getattr(renderable, "overflow", None) == "ignore"  # a command that users copy must stay whole
        if whole:
            console.print(renderable, no_wrap=True, overflow="ignore", crop=False)
        else:
            console.print(renderable)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"
