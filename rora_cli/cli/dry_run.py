"""``--dry-run`` of hunt and purify."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from rora_cli.cli import delivery
from rora_cli.option_groups import RUN
from rora_cli.options import Option, Options

if TYPE_CHECKING:
    from rora_cli.progress import Progress


@dataclass(frozen=True, kw_only=True)
class DryRunOption(Options):
    """Whether the run is only planned."""

    panel: ClassVar[str] = RUN

    dry_run: Annotated[
        bool,
        Option(
            "Write nothing: say what the run needs of memory and time, by stages, and which options need less. Exit "
            "codes: 0 it fits, 1 it probably does not, 2 the weights alone do not, 3 nothing tells."
        ),
    ] = False


def show_plan(config: Any, formats: tuple[str, ...], progress: Progress) -> int:
    """Deliver the plan of a run as text or JSON; returns the exit code.

    Raises:
        UsageError: another format is asked for.
    """
    from rora_cli.commands.plan import exit_code, run
    from rora_cli.reports.terminal.plan import render

    wanted = delivery.wanted_reports(formats, available=delivery.PLAIN)
    plan = run(config, progress)
    code = exit_code(plan)
    delivery.deliver(plan, wanted, render, code)
    return code
