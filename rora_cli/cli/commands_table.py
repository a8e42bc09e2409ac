"""Which commands there are, in the order in which ``rora --help`` lists them: a file a command in this room."""

from __future__ import annotations

import importlib

import typer

from rora_cli.cli.options import ConfigurableCommand

#: Command name -> module in this room. Each module has ``command``, the function that typer wraps.
COMMANDS = {
    "purify": "purify",
    "hunt": "hunt",
    "eval-asr": "eval_asr",
    "poison": "poison",
    "check": "check",
    "diagnose": "diagnose",
    "rescale": "rescale",
    "verify": "verify",
}


def register(app: typer.Typer) -> None:
    for name, module in COMMANDS.items():
        app.command(name, cls=ConfigurableCommand)(importlib.import_module(f"rora_cli.cli.{module}").command)
