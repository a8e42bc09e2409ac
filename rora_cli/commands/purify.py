"""``rora purify``: cleanse a suspect on clean data, and write the model, the adapter, the report and the card."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from rora_cli.commands.memory import says_what_fits
from rora_cli.commands.processes import check_processes, in_processes
from rora_cli.defences.config import PurifyConfig, state_directory
from rora_cli.defences.running import TRAIN, WRITE, defence_of, steps_of
from rora_cli.errors import ExitCode, TrainingError
from rora_cli.files import JOURNAL_NAME
from rora_cli.options import in_words
from rora_cli.planning.first_look import first_plan, look
from rora_cli.progress import SILENT, Progress, begin, in_steps
from rora_cli.ranks import is_main
from rora_cli.results.purify import FAIL_ON, PurifyResult

if TYPE_CHECKING:
    from rora_cli.defences.bench import Bench, Cleansed
    from rora_cli.tasks.task import RepliedTask


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
    progress.note(first_plan(config.model, look(config), steps_of(config)))
    with _state_kept(config, progress):
        result: PurifyResult = in_processes(work, config, progress)
        return result


@says_what_fits
def work(config: PurifyConfig, progress: Progress) -> PurifyResult:
    """The run itself, in each of its processes; all of them return when rank 0 has written."""
    from rora_cli.defences.gathering import gathered
    from rora_cli.defences.inputs import prepare
    from rora_cli.defences.output import write
    from rora_cli.planning.run import Replied, announce
    from rora_cli.training.peers import answering_to_peers, wait_for_peers

    progress = in_steps(progress, steps_of(config))
    with answering_to_peers():
        with _held_output(config) as held:
            bench, source = prepare(config, progress)
            clean, held_out, replied = bench.clean, bench.gauge.held_out, None
            if bench.subject.kind.replies:
                base = str(source.model.path) if source.adapter else None
                answers = (*clean.labels, *held_out.labels)
                replied = Replied(cast("RepliedTask", bench.task).prompt_format, answers, config.max_new_tokens, base)
            announce(config, bench.subject, clean.texts, held_out.texts, progress, replied=replied)
            before = bench.gauge.start()
            source.trained.require_fitting(before)
            if config.recipe != "default":
                begin(progress, TRAIN)
            cleansed = defence_of(config, bench.subject.kind).cleanse(bench)
            begin(progress, WRITE)
            result = _assess(bench, source, cleansed, before)
            cleansed = gathered(bench, source, cleansed)
            if held.staging is not None:
                with progress.phase("write and load again"):
                    result = write(held.staging, bench, source, cleansed, result)
                if result.verdict == "fail" and not config.keep_failed:
                    held.instead = config.failed_directory
        if held.staging is not None and bench.run.state is not None:
            bench.run.state.discard()
        wait_for_peers()
    return result


VERDICT_CODES = {
    "pass": ExitCode.OK,
    "not assessed": ExitCode.OK,
    "fail": ExitCode.FINDINGS,
    "inconclusive": ExitCode.INCONCLUSIVE,
}


def exit_code(result: PurifyResult, fail_on: str = "inconclusive") -> ExitCode:
    """A recipe that does not search is done; the others end with what the search says.

    Inconclusive is also a power that the user asked for and did not get and, with ``uncovered``, a form of backdoor
    that nobody can say anything of.
    """
    counted = FAIL_ON[fail_on]
    if result.verdict in counted and (code := VERDICT_CODES[result.verdict]):
        return code
    unknown = any(finding.rule_id == "purify/power-unknown" for finding in result.findings)
    uncovered = fail_on == "uncovered" and (result.covering is None or not result.covering.complete)
    return ExitCode.INCONCLUSIVE if "inconclusive" in counted and (unknown or uncovered) else ExitCode.OK


@dataclass
class _Held:
    """The ``staging`` directory of the output, None but on the main process, and what becomes of it ``instead``."""

    staging: Path | None = None
    instead: Path | None = None


@contextmanager
def _held_output(config: PurifyConfig) -> Iterator[_Held]:
    """The output, held against other runs while this one works."""
    from rora_cli.files import publish_directory

    held = _Held()
    if not is_main():
        yield held
        return
    with publish_directory(config.output_directory, force=config.force, instead=lambda: held.instead) as held.staging:
        yield held


@contextmanager
def _state_kept(config: PurifyConfig, progress: Progress) -> Iterator[None]:
    """Say how to go on when a run ends early after it has saved something; by whoever the user started."""
    state = state_directory(config)
    before = _written_at(state)
    try:
        yield
    except BaseException as error:
        saved = _written_at(state)
        kept = is_main() and type(error) is not TrainingError and saved and (config.resume or saved != before)
        if isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt(_what_is_kept(state) if kept else NOTHING_KEPT) from error
        if kept:
            progress.note(
                f"{_what_is_kept(state)}; a smaller --micro-batch-size or --gradient-checkpointing may be added as well"
            )
        raise


#: What Ctrl-C leaves before anything is finished.
NOTHING_KEPT = "nothing was finished yet, so nothing is kept, and nothing half-written was left behind"


def _what_is_kept(state: Path) -> str:
    """What a run that ended early has saved, and how to go on: a clause."""
    done = []
    try:
        entries = json.loads((state / JOURNAL_NAME).read_text(encoding="utf-8"))["entries"]
        for key, entry in entries.items():
            stage = key.removeprefix("snapshot/")
            done.append(stage if stage == key else f"{stage} up to step {entry['meta']['step']}")
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        done = ["the state so far"]
    return f"kept in {state}: {', '.join(done)}; add --resume to the same command to go on"


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
        triggers=cleansed.triggers,
        suspects_share=cleansed.suspects_share,
        unmet="kept" if findings else cleansed.unmet,
        asked=in_words(bench.config, without=("resume",)),
        power=cleansed.power,
        covering=cleansed.covering,
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
