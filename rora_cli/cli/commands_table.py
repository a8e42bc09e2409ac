"""Which commands there are, in the order in which ``rora --help`` lists them: a file a command in this room."""

from __future__ import annotations

import importlib

import typer

#: Command name -> module in this room. Each module has ``command``, the function that typer wraps.
COMMANDS = {
    "purify": "purify",
    "hunt": "hunt",
    "eval-asr": "eval_asr",
    "poison": "poison",
    "check": "check",
    "diagnose": "diagnose",
    "verify": "verify",
}


def register(app: typer.Typer) -> None:
    for name, module in COMMANDS.items():
        app.command(name)(importlib.import_module(f"rora_cli.cli.{module}").command)
