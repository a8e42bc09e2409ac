"""The ``rora`` application: its commands, and the one place where an exception becomes a sentence and an exit code."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Annotated

import typer

from rora_cli.cli.commands_table import COMMANDS, LazyGroup, show_help
from rora_cli.errors import ExitCode, RoraError
from rora_cli.version import __version__

_HELP = (
    "Find, cleanse and prove away backdoors in Hugging Face checkpoints and LoRA adapters.\n\n"
    "Exit codes: 0 nothing at or above the threshold; 1 findings, or a gate not met; 2 usage error or bad input; "
    "3 inconclusive, something could not be analysed.\n\n"
    "Start with [bold]rora demo[/], or [bold]rora purify[/] MODEL --clean sst2."
)

app = typer.Typer(
    name="rora",
    cls=LazyGroup,
    no_args_is_help=True,
    rich_markup_mode="rich",
    help=_HELP,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _show_version(value: bool) -> None:
    if value:
        print(f"rora {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", envvar="RORA_DEBUG", help="Show a traceback with every error.")
    ] = False,
) -> None:
    if debug:
        os.environ["RORA_DEBUG"] = "1"


def run() -> None:
    """Run the application and turn what it raises into one sentence on stderr and an exit code."""
    if "RORA_DEBUG" not in os.environ and "--debug" not in sys.argv:
        # Notices of the libraries to their own callers; rora says itself what its user should know.
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", category=UserWarning, module=r"(torch|transformers|peft|accelerate)\b")
    try:
        if len(sys.argv) == 3 and sys.argv[1] in COMMANDS and sys.argv[2] in ("-h", "--help"):
            show_help(sys.argv[1])
            return
        app()
    except RoraError as error:
        _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        _fail("interrupted; nothing half-written was left behind", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(ExitCode.BAD_INPUT)
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":  # of a library in Rust
            raise
        _fail(
            f"unexpected {type(error).__name__}: {error} (this is a fault of rora's; run with --debug for the "
            "traceback and report it)",
            ExitCode.BAD_INPUT,
        )


def _fail(message: str, code: int) -> None:
    from rora_cli.cli.console import is_main_process, stderr_console

    if os.environ.get("RORA_DEBUG") == "1":
        import traceback

        traceback.print_exc()
    if is_main_process():
        from rora_cli.reports.text import safe

        message = safe(message, max_length=2000)
        stderr_console().print(f"rora: {message}", style="red", markup=False, soft_wrap=True)
    sys.exit(int(code))
