"""``rora hunt``: search a classifier for triggers, knowing clean rows of its task and nothing of the attack."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from time import perf_counter

from rora_cli.commands.memory import says_what_fits
from rora_cli.errors import ExitCode, UsageError
from rora_cli.hunting.budgets import AUTO, budgets
from rora_cli.hunting.case import SearchSettings
from rora_cli.hunting.hunt import FEWEST_ROWS, search_triggers
from rora_cli.progress import SILENT, Progress
from rora_cli.results.hunt import HuntResult
from rora_cli.results.provenance import Provenance, library_versions
from rora_cli.results.verdict import decide
from rora_cli.tasks.classification.task import Classification
from rora_cli.tasks.reference import ReferenceRun
from rora_cli.units import require_least

FAIL_ON = ("trigger", "none")


@dataclass(frozen=True)
class HuntConfig:
    """``labels`` are the target labels to search (default all); ``reference`` is auto, bag-of-words, or a checkpoint: a
    directory or a hub id."""

    model: str
    clean: str
    adapter: str | None = None
    labels: tuple[str, ...] = ()
    reference: str = "auto"
    budget: str = AUTO
    split: str | None = None
    text_column: str | None = None
    label_column: str | None = None
    label_map: Mapping[str, str] | None = None
    data_revision: str | None = None
    max_rows: int | None = 2000
    max_length: int = 128
    seed: int = 0
    revision: str | None = None
    allow_download: bool = True
    device: str = "auto"
    fail_on: str = "trigger"

    def __post_init__(self) -> None:
        if self.fail_on not in FAIL_ON:
            raise UsageError(f"--fail-on is one of {', '.join(FAIL_ON)}, not {self.fail_on!r}")
        budgets(self.budget, "--budget")
        require_least(self)
        if self.max_length < 8:
            raise UsageError(f"--max-length is in tokens and at least 8, not {self.max_length}")
        if self.max_rows is not None and self.max_rows < 2 * FEWEST_ROWS:
            raise UsageError(f"--max-rows is at least {2 * FEWEST_ROWS}, not {self.max_rows}")


@says_what_fits
def run(config: HuntConfig, progress: Progress = SILENT) -> HuntResult:
    """Load the model (after the preflight), make the reference, search every label.

    Raises CheckpointError, DataError, HubError or UsageError for bad input.
    """
    from rora_cli.checkpoints.hub import fetch_model
    from rora_cli.checkpoints.loading import load_classifier
    from rora_cli.data.sources import load_rows
    from rora_cli.evaluation.inference import choose_device
    from rora_cli.tasks.classification.labels import find_label
    from rora_cli.tasks.subjects import subject_of

    device = choose_device(config.device)
    source = fetch_model(config.model, revision=config.revision, allow_download=config.allow_download)
    adapter = fetch_model(config.adapter, allow_download=config.allow_download) if config.adapter is not None else None
    loaded = load_classifier(source.path, adapter=adapter.path if adapter else None, device=device)
    targets = [find_label(label, loaded.label_names) for label in config.labels]
    rows, summary = load_rows(
        config.clean,
        label_names=loaded.label_names,
        split=config.split,
        text_column=config.text_column,
        label_column=config.label_column,
        label_map=config.label_map,
        max_rows=config.max_rows,
        revision=config.data_revision,
        allow_download=config.allow_download,
    )
    for note in summary.notes:
        progress.note(note)
    subject = subject_of(loaded, config.model).reading(config.max_length)
    task, began = Classification(tuple(loaded.label_names)), perf_counter()
    reference = task.reference(
        config.reference, subject, rows, ReferenceRun(config.seed, progress, allow_download=config.allow_download)
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
    return replace(result, seconds=perf_counter() - began)


def exit_code(result: HuntResult, fail_on: str) -> ExitCode:
    """A trigger is an answer whatever else stayed open; without one, a label that stays open is inconclusive."""
    return decide(failed=bool(result.called) and fail_on == "trigger", complete=result.conclusive)
