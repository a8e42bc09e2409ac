"""``rora hunt``: search a model for triggers, knowing clean rows of its task and nothing of the attack."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, ClassVar

from rora_cli.commands.gate import Gate
from rora_cli.commands.memory import says_what_fits
from rora_cli.commands.processes import check_processes, in_processes
from rora_cli.errors import ExitCode, UsageError
from rora_cli.hunting.budgets import AUTO, BUDGETS, FEWEST_ROWS
from rora_cli.option_groups import (
    DATA,
    GATE,
    CandidatesOption,
    DataOptions,
    FormatOption,
    GateOptions,
    HeldOptions,
    PowerOption,
    ProcessOptions,
    SeedOption,
)
from rora_cli.options import Option
from rora_cli.planning.first_look import first_plan, look
from rora_cli.progress import SILENT, Progress, begin, in_steps
from rora_cli.results.hunt import HuntResult
from rora_cli.results.provenance import Provenance
from rora_cli.results.verdict import decide

if TYPE_CHECKING:
    from rora_cli.checkpoints.loading import LoadedModel
    from rora_cli.hunting.case import Case
    from rora_cli.tasks.openings import OpenSetting
    from rora_cli.tasks.reference import ReferenceRun
    from rora_cli.training.run import Run

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
class HuntConfig(
    HuntGate, HuntedRows, FormatOption, PowerOption, CandidatesOption, ProcessOptions, HeldOptions, SeedOption
):
    """What to search, and with what."""

    model: Annotated[
        str,
        Option(
            "Classifier or causal language model to search: a directory or a hub id.", metavar="MODEL", argument=True
        ),
    ]
    clean: Annotated[
        str,
        Option(
            "Clean labelled rows of its task, or for a causal model prompts of the kind that users send: a file, "
            "directory or hub id.",
            metavar="DATA",
        ),
    ]
    reference: Annotated[
        str,
        Option(
            "A model that you trust, best the one that the suspect was trained from, as a directory or hub id: what "
            "flips it too is an honest word (an encoder is tuned on the clean rows). bag-of-words for none; auto: the "
            "packaged encoder, by text where it is of another line, or bag-of-words for a suspect that is far smaller. "
            "For a causal model none, or auto: the base of --adapter, else none.",
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
            "still. auto: fast, then normal for a label, or a causal model, with a candidate that is neither called "
            "nor harmless.",
            choices=(AUTO, *BUDGETS),
        ),
    ] = AUTO
    precision: Annotated[
        str,
        Option(
            "Of ranking candidates, and of tuning the reference; finalists are scored in fp32. auto: bf16 where the "
            "device computes in it, as processors with AVX-512 BF16 or AMX do, else fp32.",
            choices=("auto", "fp32", "bf16"),
        ),
    ] = "auto"
    labels: Annotated[
        tuple[str, ...],
        Option("Target label to search. Repeatable.", ("--label",), metavar="NAME", shown="every label"),
    ] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.power and self.load_in_4bit:
            raise UsageError("--power trains copies of the model, which 4 bits cannot be; leave out --load-in-4bit")


@says_what_fits
def run(config: HuntConfig, progress: Progress = SILENT) -> HuntResult:
    """Search the model, in as many processes as the config asks for.

    Under torchrun or another launcher every rank calls this, and all get the result. Raises CheckpointError, DataError,
    HubError or UsageError for bad input.
    """
    check_processes(config)
    progress.note(first_plan(config.model, look(config), _steps(config)))
    result: HuntResult = in_processes(work, config, progress)
    return result


def _steps(config: HuntConfig) -> tuple[str, ...]:
    """The steps of a run, as its progress counts them."""
    return ("load", "search", "power")[: 3 if config.power else 2]


@says_what_fits
def work(config: HuntConfig, progress: Progress) -> HuntResult:
    """The search itself, in each of its processes.

    Raises:
        UsageError: an option does not fit the kind of model.
    """
    from rora_cli.hunting.findings import RULES
    from rora_cli.tasks.reference import ReferenceRun
    from rora_cli.tasks.registry import open_search
    from rora_cli.training.peers import answering_to_peers, wait_for_peers
    from rora_cli.training.run import Run, make_accelerator

    progress = in_steps(progress, _steps(config))
    with answering_to_peers():
        run = Run(make_accelerator(config.precision, config.device), progress=progress, seed=config.seed)
        gate, began = Gate.of(config, rules=RULES), perf_counter()
        with progress.phase("load"):
            loaded = _load(config, str(run.device))
        begin(progress, "search")
        how = ReferenceRun(config.seed, progress, run.accelerator, allow_download=not config.offline)
        free = open_search(loaded, config, progress)
        if free is not None and config.power:
            raise UsageError(f"--power is for classifiers, and {config.model} is a {loaded.kind.name}; leave it out")
        result = _labels(config, loaded, how, run) if free is None else _openings(config, free, how, run)
        wait_for_peers()
    settled = gate.settle(config.model, result.findings)
    return replace(result, seconds=perf_counter() - began, findings=settled)


def _load(config: HuntConfig, device: str) -> LoadedModel:
    from rora_cli.checkpoints.hub import fetch_model
    from rora_cli.checkpoints.loading import load_model

    source = fetch_model(config.model, revision=config.revision, allow_download=not config.offline)
    adapter = fetch_model(config.adapter, allow_download=not config.offline) if config.adapter is not None else None
    return load_model(source.path, adapter=adapter.path if adapter else None, device=device, **config.held)


def _labels(config: HuntConfig, loaded: LoadedModel, how: ReferenceRun, run: Run) -> HuntResult:
    """Search a model whose behaviours are its labels."""
    from rora_cli.data.sources import load_rows
    from rora_cli.hunting.case import Case, SearchSettings
    from rora_cli.hunting.hunt import search_triggers
    from rora_cli.planning.run import announce
    from rora_cli.tasks.classification.labels import find_label
    from rora_cli.tasks.registry import make_task
    from rora_cli.tasks.subjects import subject_of

    if config.candidates is not None:
        raise UsageError(f"--candidates is for causal models, and {config.model} is a {loaded.kind.name}; leave it out")
    targets = tuple(find_label(label, loaded.label_names) for label in config.labels)
    rows, summary = load_rows(
        config.clean,
        label_names=loaded.label_names,
        split=config.split,
        reading=config,
        max_rows=config.max_rows,
        allow_download=not config.offline,
    )
    for note in summary.notes:
        how.progress.note(note)
    subject = subject_of(loaded, config.model).reading(config.max_length).shared(run.share)
    announce(config, subject, rows.texts, (), how.progress)
    task = make_task(subject.kind, loaded.label_names)
    reference = task.reference(config.reference, subject, rows, how)
    settings = SearchSettings(config.budget, config.seed, targets or None, run.rough)
    provenance = _provenance(config, {**subject.inputs, **summary.inputs}, run.versions)
    case = Case(subject, task, rows, reference, settings, how.progress)
    result = search_triggers(case, provenance=provenance)
    if not config.power:
        return result
    begin(how.progress, "power")
    return _with_power(case, result, run, config.power)


def _with_power(case: Case, result: HuntResult, run: Run, count: int) -> HuntResult:
    """The result with what the same search finds of ``count`` stand-ins."""
    from rora_cli.hunting.findings import RULES, describe_power
    from rora_cli.power.drawing import Called
    from rora_cli.power.measure import Asked, measure_power

    called = [Called(trigger.text, trigger.target_label, trigger.token_ids) for trigger in result.called]
    result = replace(result, power=measure_power(case, run, Asked(count, called)))
    finding = describe_power(result)
    rules = {**result.rules, finding.rule_id: RULES[finding.rule_id]}
    return replace(result, findings=(*result.findings, finding), rules=rules)


def _openings(config: HuntConfig, free: OpenSetting, how: ReferenceRun, run: Run) -> HuntResult:
    """Search a model that replies in free text."""
    from rora_cli.hunting.open_hunt import OpenCase, search_openings
    from rora_cli.hunting.open_texts import read_candidates
    from rora_cli.planning.run import Replied, announce

    replied = Replied(free.task.prompt_format, base=free.base)
    announce(config, free.subject, free.prompts, (), how.progress, replied=replied)
    reference = free.task.trusted(config.reference, free.subject, free.base, how)
    named = OpenCase.reference_name if reference is None else f"the trusted model {reference.name}"
    case = OpenCase(
        free.subject,
        free.task,
        free.prompts,
        reference,
        named,
        config.budget,
        config.seed,
        share=run.share,
        progress=how.progress,
        rough=run.rough,
        texts=read_candidates(config.candidates),
    )
    result = search_openings(case, provenance=_provenance(config, free.inputs, run.versions))
    rules = {finding.rule_id: finding.message for finding in free.findings}
    return replace(result, findings=(*result.findings, *free.findings), rules={**rules, **result.rules})


def _provenance(config: HuntConfig, inputs: Mapping[str, str], versions: Mapping[str, str]) -> Provenance:
    return Provenance("hunt", versions, asdict(config), config.seed, inputs)


def exit_code(result: HuntResult, fail_on: str) -> ExitCode:
    """A trigger is an answer whatever else stayed open; without one, a label that stays open is inconclusive, and so is
    a power that was asked for and could not be measured."""
    counted = {finding.rule_id for finding in result.findings if not finding.accepted}
    left_open = counted & {"hunt/inconclusive", "hunt/power-unknown"}
    return decide(failed="hunt/trigger" in counted and fail_on == "trigger", complete=not left_open)
