"""``rora purify``"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from rora_cli import hub_access
from rora_cli.cli import delivery
from rora_cli.cli.dry_run import DryRunOption, show_plan
from rora_cli.cli.shell import OUTPUT, RUN, PageShell
from rora_cli.defences.config import PurifyConfig
from rora_cli.option_groups import GATE
from rora_cli.options import Option
from rora_cli.ranks import is_main
from rora_cli.results.purify import FAIL_ON

if TYPE_CHECKING:
    from rora_cli.progress import Progress
    from rora_cli.results.purify import PurifyResult


@dataclass(frozen=True, kw_only=True)
class VerdictGate(PageShell):
    """What makes the command fail."""

    panel: ClassVar[str] = GATE

    fail_on: Annotated[
        str,
        Option(
            "Verdicts that do not end with 0: inconclusive (3) and fail (1); uncovered: these, and one that does not "
            "cover all --forms (3); fail alone; none.",
            choices=tuple(FAIL_ON),
        ),
    ] = "inconclusive"


@dataclass(frozen=True, kw_only=True)
class Publication(VerdictGate):
    """Where the result goes beside the output directory."""

    panel: ClassVar[str] = OUTPUT

    push_to_hub: Annotated[
        str | None,
        Option(
            "After everything is written: put it into a new private repository, unless it failed. The token is "
            "HF_TOKEN's.",
            metavar="OWNER/NAME",
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Shell(Publication, DryRunOption):
    """How the processes are started."""

    panel: ClassVar[str] = RUN

    accelerate_config: Annotated[
        Path | None,
        Option(
            "Take processes, precision and devices from a config of accelerate's; options given here win.",
            metavar="FILE",
        ),
    ] = None


def command(config: PurifyConfig, shell: Shell, given: frozenset[str]) -> int:
    """Cleanse a suspect classifier or causal language model of a backdoor, without knowing the trigger.

    Writes a merged model, the adapter, [bold]rora-report.json[/] and a model card to DIR, whole or not at all. Exit
    codes: 0 pass, or a recipe that does not search for triggers is done; 1 fail; 2 bad input; 3 inconclusive, or a
    --power that could not be measured (see --fail-on). For a causal model, --clean are prompts, and --max-kl limits
    what it costs; a --reference that you trust, or the base of --adapter, is taught what the suspect says.

    [bold]rora purify[/] suspect-model --clean sst2
    """
    from rora_cli.cli.console import make_progress
    from rora_cli.commands.first_checks import require_inputs
    from rora_cli.commands.purify import exit_code, run
    from rora_cli.reports.terminal.purify import render

    require_inputs((config.model, config.adapter, config.ancestor), config.clean)
    wanted = delivery.wanted_reports(shell.format, available=delivery.PAGE)
    progress = make_progress(shell.quiet)
    config = replace(config, **_launch_settings(config, shell.accelerate_config, given, progress))
    if shell.dry_run:
        return show_plan(config, shell.format, progress)
    if shell.push_to_hub is not None:
        hub_access.require_push(shell.push_to_hub)
    result = run(config, progress)
    code = exit_code(result, shell.fail_on)
    delivery.deliver(result, wanted, render, code)
    if shell.push_to_hub is not None:
        _push(result, shell.push_to_hub, progress)
    return code


def _push(result: PurifyResult, repo_id: str, progress: Progress) -> None:
    """Put what was written on the hub; a model that failed stays where it is."""
    if not is_main() or result.output is None:
        return
    if result.verdict == "fail":
        progress.warn(f"the verdict is fail: nothing was put into {repo_id}; what was written is in {result.output}")
        return
    progress.note(f"on the hub: {hub_access.push(Path(result.output), repo_id)}")


def _launch_settings(
    config: PurifyConfig, file: Path | None, given: frozenset[str], progress: Progress
) -> dict[str, Any]:
    """Processes, precision and device as accelerate's config or launcher asks for, where no option says otherwise."""
    from rora_cli.cli import launching
    from rora_cli.ranks import world_size

    launch = launching.read_launch(file) if file is not None else launching.Launch()
    asked = {
        "num_processes": launch.processes if world_size() == 1 else None,
        "precision": launch.precision or launching.launcher_precision(),
        "device": launch.device,
        "shard": launch.shard,
    }
    os.environ.update(launch.environment)
    if launch.gpu_ids is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = launch.gpu_ids
    if launch.unused:
        progress.warn(f"{file}: not used: {', '.join(launch.unused)}")
    if file is None and launching.starts_one_for_several() and config.num_processes == 1:
        progress.warn(
            "accelerate's launcher has started one process, though it was told of several: on CPUs it needs MPI; use "
            "--num-processes, --accelerate-config or torchrun"
        )
    for name in sorted(given & set(asked)):
        if asked[name] is not None and getattr(config, name) not in (asked[name], "auto"):
            option = f"--{name.replace('_', '-')} {getattr(config, name)}"
            progress.note(f"{option} is used, where accelerate's settings ask for {asked[name]}")
    return {name: value for name, value in asked.items() if value is not None and name not in given}
