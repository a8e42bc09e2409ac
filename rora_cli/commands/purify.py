"""``rora purify``: cleanse a suspect on clean data, and write the model, the adapter, the report and the card."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rora_cli.commands.memory import says_what_fits
from rora_cli.commands.processes import check_processes, in_processes
from rora_cli.defences.config import PurifyConfig, state_directory
from rora_cli.defences.running import defence_of
from rora_cli.errors import ExitCode, TrainingError
from rora_cli.planning.first_look import look
from rora_cli.progress import SILENT, Progress
from rora_cli.ranks import is_main
from rora_cli.results.purify import PurifyResult

if TYPE_CHECKING:
    from rora_cli.defences.bench import Bench, Cleansed


@says_what_fits
def run(config: PurifyConfig, progress: Progress = SILENT) -> PurifyResult:
    """Cleanse ``config.model`` and write the result; every file appears at once or not at all.

    Under torchrun or another launcher every rank calls this, and rank 0 writes. Raises RoraError with one sentence for
    bad input, and leaves an existing output as it was.
    """
    from rora_cli.training.peers import launcher_shards

    if launcher_shards() and not config.shard:
        config = replace(config, shard=True)
    check_processes(config, shard=config.shard)
    look(config)
    with _state_kept(config, progress):
        result: PurifyResult = in_processes(work, config, progress)
        return result


@says_what_fits
def work(config: PurifyConfig, progress: Progress) -> PurifyResult:
    """The run itself, in each of its processes; all of them return when rank 0 has written."""
    from rora_cli.defences.gathering import gathered
    from rora_cli.defences.inputs import prepare
    from rora_cli.defences.output import write
    from rora_cli.planning.run import announce
    from rora_cli.training.peers import answering_to_peers, wait_for_peers

    with answering_to_peers():
        with _held_output(config) as staging:
            bench, source = prepare(config, progress)
            announce(config, bench.subject, bench.clean.texts, bench.gauge.held_out.texts, progress)
            before = bench.gauge.start()
            source.trained.require_fitting(before)
            cleansed = defence_of(config, bench.subject.kind).cleanse(bench)
            result = _assess(bench, source, cleansed, before)
            cleansed = gathered(bench, source, cleansed)
            if staging is not None:
                with progress.phase("write and load again"):
                    result = write(staging, bench, source, cleansed, result)
        if staging is not None and bench.run.state is not None:
            bench.run.state.discard()
        wait_for_peers()
    return result


VERDICT_CODES = {
    "pass": ExitCode.OK,
    "not assessed": ExitCode.OK,
    "fail": ExitCode.FINDINGS,
    "inconclusive": ExitCode.INCONCLUSIVE,
}


def exit_code(result: PurifyResult) -> ExitCode:
    """A recipe that does not search is done; the others end with what the search says."""
    return VERDICT_CODES[result.verdict]


@contextmanager
def _held_output(config: PurifyConfig) -> Iterator[Path | None]:
    """The output's staging directory on the main process, held against other runs while this one works; else None."""
    from rora_cli.files import publish_directory

    if not is_main():
        yield None
        return
    with publish_directory(config.output_directory, force=config.force) as staging:
        yield staging


@contextmanager
def _state_kept(config: PurifyConfig, progress: Progress) -> Iterator[None]:
    """Say how to go on when a run ends early after it has saved something; by whoever the user started."""
    state = state_directory(config)
    before = _written_at(state)
    try:
        yield
    except BaseException as error:
        saved = _written_at(state)
        if is_main() and type(error) is not TrainingError and saved and (config.resume or saved != before):
            progress.note(
                f"the state so far is in {state}: add --resume to the same command to go on; a smaller "
                "--micro-batch-size or --gradient-checkpointing may be added as well"
            )
        raise


def _written_at(path: Path) -> int | None:
    """When something was last put into a directory, in nanoseconds; None where there is none."""
    try:
        return path.lstat().st_mtime_ns
    except OSError:
        return None


def _assess(bench: Bench, source: Any, cleansed: Cleansed, before: Any) -> PurifyResult:
    from rora_cli.defences import inputs
    from rora_cli.defences.spectra import update_spectra

    after = bench.gauge.measure(cleansed.model, name="clean accuracy after")
    verdict, reason, findings = inputs.judge(bench, cleansed, before, after)
    return PurifyResult(
        model=bench.config.model,
        recipe=bench.config.recipe,
        verdict=verdict,
        reason=reason,
        label_names=bench.targets,
        accuracy_before=before,
        accuracy_after=after,
        stages=tuple(bench.run.stages),
        data=inputs.data_facts(source),
        provenance=inputs.provenance(bench, source),
        residual=cleansed.residual,
        utility=cleansed.utility,
        removed=cleansed.removed,
        kind=bench.subject.kind.name,
        update_before=cleansed.update_before,
        update_after=update_spectra(cleansed.layers),
        adapted=bench.adapted,
        trained_head=bench.head,
        suspects_card=inputs.suspects_card(source),
        findings=(
            *findings,
            *cleansed.findings,
            *(f for inspection in source.inspections for f in inspection.findings),
            *inputs.hints(bench.config, source),
            *bench.left_out,
        ),
    )
