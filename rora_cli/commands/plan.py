"""``--dry-run`` of hunt and purify: what the run will need, and whether it fits, without doing it."""

from __future__ import annotations

from typing import Any

from rora_cli.errors import ExitCode
from rora_cli.planning.first_look import look
from rora_cli.progress import SILENT, Progress
from rora_cli.results.plan import RunPlan


def run(config: Any, progress: Progress = SILENT) -> RunPlan:
    """The plan of hunt or purify with this config. Nothing is written.

    Raises:
        RoraError: what the run itself would raise for its input.
    """
    look(config, memory=False)
    from rora_cli.planning.run import dry_run

    return dry_run(config, progress)


def exit_code(plan: RunPlan) -> ExitCode:
    """0 it fits; 1 the estimate is beyond the free memory; 2 the weights alone are beyond all; 3 nothing tells."""
    if plan.cannot_fit:
        return ExitCode.BAD_INPUT
    if plan.fits is None:
        return ExitCode.INCONCLUSIVE
    return ExitCode.OK if plan.fits else ExitCode.FINDINGS
