"""Which commands there are, in the order in which ``rora --help`` lists them: a file a command in this room."""

from __future__ import annotations

import importlib
import inspect

import typer

from rora_cli.cli.options import ConfigurableCommand

#: Command name -> module in this room. Each module has ``command``, the function that typer wraps.
COMMANDS = {
    "purify": "purify",
    "hunt": "hunt",
    "diagnose": "diagnose",
    "eval-asr": "eval_asr",
    "rescale": "rescale",
    "check": "check",
    "verify": "verify",
    "poison": "poison",
    "demo": "demo",
}


def register(app: typer.Typer) -> None:
    for name, module in COMMANDS.items():
        command = importlib.import_module(f"rora_cli.cli.{module}").command
        app.command(name, cls=ConfigurableCommand, help=_flowing(inspect.getdoc(command) or ""))(command)


def _flowing(text: str) -> str:
    """Docstring paragraphs as one line each: typer would keep the source's line breaks."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))
