"""The ``rora`` application: its commands, and the one place where an exception becomes a sentence and an exit code."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from typing import Annotated, Any, NoReturn

import typer

from rora_cli.cli.command import NOTHING_LEFT, add
from rora_cli.cli.commands_table import COMMANDS, IN_SEVERAL_PROCESSES, command
from rora_cli.cli.shell import switch_debug_on
from rora_cli.errors import ExitCode, RoraError
from rora_cli.ranks import is_main, leave_group, rank, world_size
from rora_cli.threads import THREADS
from rora_cli.version import __version__

#: Packages that are not called what is imported of them.
_DISTRIBUTIONS = {
    "yaml": "pyyaml",
    "re2": "google-re2",
    "huggingface_hub": "huggingface-hub",
    "cyclonedx": "cyclonedx-python-lib",
}
_HELP = (
    "Find, cleanse and prove away backdoors in Hugging Face checkpoints and LoRA adapters.\n\n"
    "Exit codes: 0 nothing at or above the threshold; 1 findings, or a gate not met; 2 usage error or bad input; "
    "3 inconclusive, something could not be analysed; 70 a fault of rora's own; 130 interrupted; 141 a closed pipe.\n\n"
    "Start with [bold]rora demo[/], or [bold]rora purify[/] MODEL --clean sst2."
)


def make_app(arguments: Sequence[str]) -> typer.Typer:
    """The application for one command line: the command that it calls has its options, the others a line in the list.

    To build all of them would cost every start.
    """
    app = typer.Typer(
        name="rora",
        no_args_is_help=True,
        rich_markup_mode="rich",
        help=_HELP,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    app.callback()(_root)
    called = next((argument for argument in arguments if not argument.startswith("-")), None)
    for name, (_, summary) in COMMANDS.items():
        if name == called:
            add(app, name, command(name), arguments)
        else:
            app.command(name, help=summary)(_not_called)
    return app


def show_help(name: str) -> None:
    """Print the help of a command without parsing a command line, which takes typer as long as all the rest."""
    group: Any = typer.main.get_command(make_app([name]))
    called = group.commands[name]
    with called.context_class(called, info_name=f"rora {name}", **called.context_settings) as context:
        called.get_help(context)


def _not_called() -> None:
    """Stands for the commands that a command line does not call."""


def _show_version(value: bool) -> None:
    if value:
        print(f"rora {__version__}")
        raise typer.Exit


def _root(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", envvar="RORA_DEBUG", help="Show a traceback with every error.")
    ] = False,
) -> None:
    switch_debug_on(debug)
    THREADS.switch_on()
    if ctx.invoked_subcommand not in IN_SEVERAL_PROCESSES:
        _go_alone(ctx.invoked_subcommand)


def _go_alone(command: str | None) -> None:
    """Under a launcher, the first process does the work of a command that knows only one."""
    if (others := world_size() - 1) < 1:
        return
    if not is_main():
        raise typer.Exit
    leave_group()
    print(f"rora {command} works in one process: {others} of the {others + 1} started are not used", file=sys.stderr)


def run() -> None:
    """Run the application and turn what it raises into one sentence on stderr and an exit code."""
    if "RORA_DEBUG" not in os.environ and "--debug" not in sys.argv:
        # Notices of the libraries to their own callers; rora says itself what its user should know.
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", category=UserWarning, module=r"(torch|transformers|peft|accelerate)\b")
    try:
        if len(sys.argv) == 3 and sys.argv[1] in COMMANDS and sys.argv[2] in ("-h", "--help"):
            show_help(sys.argv[1])
        else:
            make_app(sys.argv[1:])()
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # typer ends with 1, which would be a finding
            _end_unread()
        _end(end.code)
    except RoraError as error:
        _fail(str(error), error.exit_code)
    except ModuleNotFoundError as error:
        if error.name in (None, "rora_cli") or "." in str(error.name):
            _fail_unexpectedly(error)
        _fail(_missing_part(str(error.name)), ExitCode.BAD_INPUT)
    except KeyboardInterrupt:
        _fail(f"interrupted; {NOTHING_LEFT}", ExitCode.INTERRUPTED)
    except BrokenPipeError:
        _end_unread()
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":  # of a library in Rust
            raise
        _fail_unexpectedly(error)


def _missing_part(module: str) -> str:
    """The sentence for a package that is not there, as where somebody installed the light set alone."""
    package = _DISTRIBUTIONS.get(module, module)
    return (
        f"this needs the package {package}, which is not installed; `pip install {package}` adds it, `pip install "
        "rora-cli` installs all that rora needs"
    )


def _end(code: Any) -> NoReturn:
    """End with a command's exit code; with 0 on other ranks than the first, whose code is everybody's.

    A launcher that sees one process fail ends the others at once, the first among them while it speaks.
    """
    sys.exit(code if is_main() else 0)


def _end_unread() -> NoReturn:
    """End where whoever read stdout went away."""
    from rora_cli.cli.console import drop_stdout

    drop_stdout()
    sys.exit(int(ExitCode.CLOSED_PIPE))


def _fail(message: str, code: int) -> NoReturn:
    from rora_cli.cli.console import stderr_console
    from rora_cli.reports.text import safe

    if os.environ.get("RORA_DEBUG") == "1":
        _print_traceback()
    if is_main():
        message = safe(" ".join(message.split()), max_length=2000)
        stderr_console().print(f"rora: {message}", style="red", markup=False, soft_wrap=True)
    _end(int(code))


def _fail_unexpectedly(error: BaseException) -> NoReturn:
    """Say that something is wrong with rora itself; on every rank, as only that one may know."""
    from rora_cli.cli.console import stderr_console
    from rora_cli.reports.text import safe

    first = next((line for line in str(error).splitlines() if line.strip()), "no message")
    where = f" in process {rank()} of {world_size()} (counted from 0)" if world_size() > 1 else ""
    what_to_do = "run with --debug for the traceback and report it"
    if os.environ.get("RORA_DEBUG") == "1":
        _print_traceback()
        what_to_do = "report it with the traceback above"
    message = f"unexpected {type(error).__name__}{where}: {safe(first.strip(), max_length=1500)}"
    message += f" (this is a fault of rora's; {what_to_do})"
    stderr_console().print(f"rora: {message}", style="red", markup=False, soft_wrap=True)
    sys.exit(int(ExitCode.INTERNAL))


def _print_traceback() -> None:
    """The traceback line by line: it quotes names and texts of the suspect, which a terminal must not obey."""
    import traceback

    from rora_cli.reports.text import safe

    for line in traceback.format_exc().splitlines():
        print(safe(line, max_length=2000), file=sys.stderr)
    sys.stderr.flush()
