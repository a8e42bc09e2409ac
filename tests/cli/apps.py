"""One command as an application of its own, for typer's test runner."""

from __future__ import annotations

from typer import Typer

from rora_cli.cli.command import add
from rora_cli.cli.commands_table import command


def alone(name: str) -> Typer:
    """An application whose only command is ``name``: arguments start after it."""
    app = Typer(rich_markup_mode="rich")
    add(app, name, command(name), [])
    return app
