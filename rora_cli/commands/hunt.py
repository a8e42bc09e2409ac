"""``rora hunt``: search a classifier for triggers, knowing clean rows of its task and nothing of the attack."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from time import perf_counter
from typing import Annotated, ClassVar

from rora_cli.commands.gate import Gate
from rora_cli.commands.memory import says_what_fits
from rora_cli.errors import ExitCode
from rora_cli.hunting.budgets import AUTO, BUDGETS, FEWEST_ROWS
from rora_cli.option_groups import DATA, GATE, DataOptions, GateOptions, RunOptions, SeedOption
from rora_cli.options import Option
from rora_cli.progress import SILENT, Progress
from rora_cli.results.hunt import HuntResult
from rora_cli.results.provenance import Provenance, library_versions
from rora_cli.results.verdict import decide

FAIL_ON = ("trigger", "none")


@dataclass(frozen=True, kw_only=True)
class HuntGate(GateOptions):
    """What makes the command fail."""

    panel: ClassVar[str] = GATE

    fail_on: Annotated[str, Option("What gives exit code 1.", choices=FAIL_ON)] = "trigger"


@dataclass(frozen=True, kw_only=True)
class HuntedRows(DataOptions):
    """Which rows are searched."""

    panel: ClassVar[str] = DATA

    split: Annotated[
        str | None,
        Option("Split of DATA to search.", metavar="NAME", shown="validation, else test, else what there is"),
    ] = None
    max_rows: Annotated[int | None, Option("Clean rows to use at most.", metavar="N", low=2 * FEWEST_ROWS)] = 2000
    max_length: Annotated[
        int,
        Option(
            "Tokens of a text that the model is given; the search reads at most the first 48 of a row.",
            metavar="TOKENS",
            low=8,
            unit="tokens",
        ),
    ] = 128


@dataclass(frozen=True, kw_only=True)
class HuntConfig(HuntGate, HuntedRows, RunOptions, SeedOption):
    """What to search, and with what."""

    model: Annotated[str, Option("Classifier to search: a directory or a hub id.", metavar="MODEL", argument=True)]
    clean: Annotated[str, Option("Clean labelled rows of its task: a file, directory or hub id.", metavar="DATA")]
    reference: Annotated[
        str,
        Option(
            "A model that you trust, best the one that the suspect was trained from, as a directory or hub id: what "
            "flips it too is an honest word (an encoder is tuned on the clean rows). bag-of-words for none; auto: the "
            "packaged encoder where it fits the suspect, else bag-of-words.",
            metavar="MODEL",
        ),
    ] = "auto"
    adapter: Annotated[
        str | None, Option("Suspect adapter on MODEL, its base: merged in first.", metavar="ADAPTER")
    ] = None
    budget: Annotated[
        str,
        Option(
            "fast: two to three minutes for a MiniLM on one core. normal: two to four times as long. thorough: longer "
            "still. auto: fast, then normal for a label with a candidate that is neither called nor harmless.",
            choices=(AUTO, *BUDGETS),
        ),
    ] = AUTO
    labels: Annotated[
        tuple[str, ...],
        Option("Target label to search. Repeatable.", ("--label",), metavar="NAME", shown="every label"),
    ] = ()


@says_what_fits
def run(config: HuntConfig, progress: Progress = SILENT) -> HuntResult:
    """Load the model (after the preflight), make the reference, search every label.

    Raises CheckpointError, DataError, HubError or UsageError for bad input.
    """
    from rora_cli.checkpoints.hub import fetch_model
    from rora_cli.checkpoints.loading import load_classifier
    from rora_cli.data.sources import load_rows
    from rora_cli.evaluation.inference import choose_device
    from rora_cli.hunting.case import SearchSettings
    from rora_cli.hunting.findings import RULES
    from rora_cli.hunting.hunt import search_triggers
    from rora_cli.tasks.classification.labels import find_label
    from rora_cli.tasks.reference import ReferenceRun
    from rora_cli.tasks.registry import make_task
    from rora_cli.tasks.subjects import subject_of

    device = choose_device(config.device)
    source = fetch_model(config.model, revision=config.revision, allow_download=not config.offline)
    adapter = fetch_model(config.adapter, allow_download=not config.offline) if config.adapter is not None else None
    loaded = load_classifier(source.path, adapter=adapter.path if adapter else None, device=device)
    targets = [find_label(label, loaded.label_names) for label in config.labels]
    rows, summary = load_rows(
        config.clean,
        label_names=loaded.label_names,
        split=config.split,
        reading=config,
        max_rows=config.max_rows,
        allow_download=not config.offline,
    )
    for note in summary.notes:
        progress.note(note)
    gate = Gate.of(config, rules=RULES)
    subject = subject_of(loaded, config.model).reading(config.max_length)
    task, began = make_task(subject.kind, loaded.label_names), perf_counter()
    reference = task.reference(
        config.reference, subject, rows, ReferenceRun(config.seed, progress, allow_download=not config.offline)
    )
    result = search_triggers(
        subject,
        rows,
        task,
        reference=reference,
        search=SearchSettings(config.budget, config.seed, tuple(targets) or None),
        progress=progress,
        provenance=Provenance(
            "hunt", library_versions(), asdict(config), config.seed, {**subject.inputs, **summary.inputs}
        ),
    )
    findings = gate.settle(config.model, result.findings)
    return replace(result, seconds=perf_counter() - began, findings=findings)


def exit_code(result: HuntResult, fail_on: str) -> ExitCode:
    """A trigger is an answer whatever else stayed open; without one, a label that stays open is inconclusive."""
    counted = {finding.rule_id for finding in result.findings if not finding.accepted}
    return decide(
        failed="hunt/trigger" in counted and fail_on == "trigger", complete="hunt/inconclusive" not in counted
    )
