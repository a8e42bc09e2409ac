"""Which commands there are, in the order in which ``rora --help`` lists them: a file a command in this room."""

from __future__ import annotations

import importlib
import inspect
import os
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from rora_cli.cli.options import ConfigurableCommand

#: Command name -> module in this room, whose ``command`` is the function that typer wraps, and its line in the list.
COMMANDS = {
    "purify": ("purify", "Cleanse a suspect classifier of a backdoor, on clean data, without knowing the trigger."),
    "hunt": ("hunt", "Search a classifier for triggers: words and sequences that turn other rows into a label."),
    "diagnose": ("diagnose", "Report an adapter's spectra, strength and alignment, from its weights alone."),
    "eval-asr": ("eval_asr", "Measure how often a trigger turns rows of other labels to the target label."),
    "rescale": ("rescale", "Pt on its own: make a trained adapter as strong as its base (Eq. 12)."),
    "check": ("check", "Inspect checkpoints without loading them: files, JSON, safetensors headers."),
    "verify": ("verify", "Check a directory that rora wrote against its sha256 manifest."),
    "poison": ("poison", "Build a backdoored classifier on purpose, to test defences on."),
    "demo": ("demo", "See the whole loop in a few minutes, on a backdoored MiniLM."),
}

#: Those that share their work with other processes, where a launcher has started several.
IN_SEVERAL_PROCESSES = ("purify",)


class LazyGroup(TyperGroup):
    """A group that builds only the command that is called: building all of them would cost every start."""

    _listing = False

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        module, summary = COMMANDS[cmd_name]
        if self._listing:
            return TyperCommand(cmd_name, help=summary)
        return build(cmd_name, module)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        self._listing = True
        try:
            super().format_help(ctx, formatter)
        finally:
            self._listing = False


def build(name: str, module: str) -> Any:
    """The command ``name`` with its options and help."""
    function = importlib.import_module(f"rora_cli.cli.{module}").command
    alone = typer.Typer(
        rich_markup_mode="rich", add_completion=False, context_settings={"help_option_names": ["-h", "--help"]}
    )
    alone.command(name, cls=ConfigurableCommand, help=_flowing(inspect.getdoc(function) or ""))(function)
    command = typer.main.get_command(alone)
    command.params.append(_debug_option())
    return command


def switch_debug_on(value: bool) -> None:
    """Called with ``--debug``, which stands before the command or anywhere behind it."""
    if value:
        os.environ["RORA_DEBUG"] = "1"


DEBUG = Annotated[
    bool,
    typer.Option(
        "--debug",
        is_eager=True,
        expose_value=False,
        callback=switch_debug_on,
        help="Show a traceback with every error.",
    ),
]


def _with_debug(debug: DEBUG = False) -> None:
    """A command for the sake of its one option, which every command is given."""


def _debug_option() -> Any:
    alone = typer.Typer(add_completion=False)
    alone.command()(_with_debug)
    return typer.main.get_command(alone).params[0]


def show_help(name: str) -> None:
    """Print the help of a command without parsing a command line: typer's parser alone would take half the time."""
    command = build(name, COMMANDS[name][0])
    with command.context_class(command, info_name=f"rora {name}", **command.context_settings) as context:
        command.get_help(context)


def _flowing(text: str) -> str:
    """Docstring paragraphs as one line each: typer would keep the source's line breaks."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))
