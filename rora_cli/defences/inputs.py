"""The steps of ``purify`` before and after the defence: load, check, judge, and report what was read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rora_cli.checkpoints.adapters import Adapter, read_adapter
from rora_cli.checkpoints.ancestry import named_ancestor, suggestion
from rora_cli.checkpoints.hub import ModelSource, fetch_model
from rora_cli.checkpoints.joint import require_joinable
from rora_cli.checkpoints.loading import LoadedModel, load_model, stored_dtype
from rora_cli.checkpoints.own_card import card_facts
from rora_cli.checkpoints.preflight import Inspection
from rora_cli.checkpoints.reader import TensorReader
from rora_cli.defences.bench import Bench, Cleansed
from rora_cli.defences.config import PurifyConfig, fingerprint, resolved_config, state_directory
from rora_cli.defences.gauge import Gauge
from rora_cli.defences.recipes import WITHOUT_ADAPTER
from rora_cli.defences.running import defence_of
from rora_cli.errors import CheckpointError, UsageError
from rora_cli.option_groups import OWN_DTYPE
from rora_cli.options import with_units
from rora_cli.progress import Progress
from rora_cli.results.accuracy import ROUNDING, CleanAccuracy
from rora_cli.results.findings import Finding, Severity
from rora_cli.results.provenance import Provenance
from rora_cli.tasks import trained
from rora_cli.tasks.thresholds import recorded
from rora_cli.training.adapters import fused_experts, head_modules, resolve_targets
from rora_cli.training.run import Run, make_accelerator
from rora_cli.training.sharding import read_sharding
from rora_cli.training.state import RunState


@dataclass(frozen=True)
class Source:
    """What was read.

    Attributes:
        model: where the model lies.
        adapter: where the suspect adapter on it lies; None if the suspect is a whole model.
        inputs: sha256 of every file of both, by name.
        trained: the suspect, its task and the clean rows.
        inspections: of the model and, second, of the adapter.
        replaced: the parameters of the model that the suspect adapter carried whole.
        merged: all parameters of the model that the suspect adapter changed.
        unused: the tensors of the checkpoint that the model does not have.
    """

    model: ModelSource
    adapter: ModelSource | None
    inputs: Mapping[str, str]
    trained: trained.Trained
    inspections: tuple[Inspection, ...]
    replaced: tuple[str, ...] = ()
    merged: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()

    @property
    def dtype(self) -> str:
        """The dtype that most of the suspect's stored bytes have."""
        return stored_dtype(self.inspections[0])

    def suspect_adapter(self) -> Adapter | None:
        """The suspect adapter as updates of the base's weights; None where the suspect is a whole model."""
        if self.adapter is None:
            return None
        return read_adapter(self.inspections[1], TensorReader(self.inspections[0]))


def prepare(config: PurifyConfig, progress: Progress) -> tuple[Bench, Source]:
    """Load the model and the rows, and check that the recipe fits them, before any work.

    Raises:
        UsageError: options, model and recipe do not go together, or there is no such device.
        CheckpointError: the model or the adapter cannot be used.
        DataError: the clean rows cannot be used.
        HubError: the hub does not give something.
        TrainingError: the saved state belongs to another run.
    """
    sharding = read_sharding() if config.shard else None
    accelerator = make_accelerator(config.precision, config.device)
    model = fetch_model(config.model, revision=config.revision, allow_download=not config.offline)
    adapter = fetch_model(config.adapter, allow_download=not config.offline) if config.adapter else None
    with progress.phase("load"):
        loaded = load(model, adapter, config, str(accelerator.device))
    run = Run(accelerator, None, progress, config.seed, sharded=sharding is not None)
    given = trained.prepare(loaded, config, run.share, progress)
    subject, splits = given.subject, given.splits
    source = Source(
        model, adapter, subject.inputs, given, loaded.inspections, loaded.replaced, loaded.merged, loaded.unused
    )
    for hint in hints(config, source):
        progress.note(f"{hint.message}: {hint.advice}")
    run.state = state = _run_state(run, config, source)
    gauge = Gauge(given.task, subject, splits.held_out, given.limit, run)
    bench = Bench(subject, given.task, splits.train, gauge, run, config, config.settings(subject.kind))
    defence_of(config, subject.kind).check(bench)
    bench.left_out = left_out(bench)
    _announce(bench, source)
    if sharding is not None:
        bench.shard(sharding)
    if config.resume and state.is_empty:
        progress.note(f"nothing to resume in {state.directory}: starting from the beginning")
    if not config.resume and run.is_main:
        state.discard()
    return bench, source


def _announce(bench: Bench, source: Source) -> None:
    """Say what will not be adapted or written. Raises UsageError if the user wants just that."""
    for finding in bench.left_out:
        bench.run.progress.warn(f"{finding.message}: {finding.advice}")
    if bench.config.recipe in WITHOUT_ADAPTER or not (reason := no_adapter_for_base(bench, source)):
        return
    if bench.config.adapter_only:
        raise UsageError(f"--adapter-only has nothing to write: {reason}; leave it out, and use the merged model")
    bench.run.progress.note(f"only the merged model will be written: {reason}")


def no_adapter_for_base(bench: Bench, source: Source) -> str:
    """Why no adapter for the base that the user named can hold the result: a clause; empty if one can."""
    suspect = source.suspect_adapter()
    if suspect is None:
        return ""
    try:
        require_joinable(suspect)
    except CheckpointError as reason:
        return str(reason)
    if bench.settings.adapter.variant == "dora":
        return "a DoRA update cannot be joined with the suspect adapter"
    heads = () if bench.config.freeze_head else head_modules(bench.model)
    if lost := [name for name in source.replaced if not any(name.startswith(f"{head}.") for head in heads)]:
        more = f" and {len(lost) - 1} more of the base's weights" if len(lost) > 1 else ""
        return f"the suspect adapter replaces {lost[0]}{more}, which the adapter that is trained cannot hold"
    return ""


def left_out(bench: Bench) -> tuple[Finding, ...]:
    """Findings on weights that no adapter reaches: fused experts, and layers with a dimension below the rank."""
    if bench.config.recipe in WITHOUT_ADAPTER:
        return ()
    findings = []
    weights = dict(bench.model.named_parameters())
    if experts := fused_experts(bench.model):
        share = sum(weights[name].numel() for name in experts) / sum(w.numel() for w in weights.values())
        message = (
            f"the experts ({experts[0]} and {len(experts) - 1} more, {100 * share:.0f} % of all weights) are fused and "
            "are not adapted: what is hidden in them stays as it is"
        )
        findings.append(
            Finding(
                "purify/experts-not-adapted",
                Severity.LOW,
                message,
                evidence={"weights": list(experts), "share": share},
                advice="the recipes full and reinit train them too",
            )
        )
    targets, rank = bench.settings.adapter.target_modules, bench.settings.adapter.rank
    if targets == ("all-linear",):
        small = sorted(set(resolve_targets(bench.model, targets)) - set(bench.adapted))
        if small:
            message = f"{small[0]} and {len(small) - 1} more have a dimension below the rank {rank} and are not adapted"
            findings.append(
                Finding(
                    "purify/layers-below-rank",
                    Severity.INFO,
                    message,
                    evidence={"layers": small},
                    advice="a lower --rank reaches them",
                )
            )
    return tuple(findings)


def load(
    model: ModelSource,
    adapter: ModelSource | None,
    config: PurifyConfig,
    device: str,
    new_head: tuple[str, ...] | None = None,
) -> LoadedModel:
    """The suspect in memory, as the ``config`` wants it held: in eval mode, a suspect adapter merged in.

    One that is to be sharded for the ``device`` does not fit there whole: it is held in the machine's memory.
    """
    where, held = adapter.path if adapter else None, config.held
    if config.shard and device != "cpu":
        device, held = "cpu", held | {"dtype": config.dtype or OWN_DTYPE}
    check = partial(trained.check_kind, options=config)
    return load_model(model.path, adapter=where, device=device, new_head=new_head, check=check, **held)


def _run_state(run: Run, config: PurifyConfig, source: Source) -> RunState:
    splits = source.trained.splits
    facts = {
        "inputs": dict(source.inputs),
        "rows": [splits.train.fingerprint, splits.held_out.fingerprint],
        "versions": run.versions,
    }
    return RunState(
        state_directory(config), fingerprint(config, source.trained.subject.kind, facts), resume=config.resume
    )


def judge(
    bench: Bench, cleansed: Cleansed, before: CleanAccuracy, after: CleanAccuracy
) -> tuple[str, str, tuple[Finding, ...]]:
    """The verdict, its reason, and findings: too much lost accuracy is a fail, whatever the defence says."""
    findings = []
    for name, fall, allowed in after.losses(before, bench.gauge.limit):
        old, new = (a.overall if name is None else a.per_class[name] for a in (before, after))
        if old.total and fall > allowed + ROUNDING:
            what = "clean accuracy" if name is None else f"accuracy on class {name!r}"
            message = (
                f"{what} fell by {100 * fall:.1f} points (from {100 * (old.value or 0):.1f} to "
                f"{100 * (new.value or 0):.1f} %), more than the {100 * allowed:g} allowed"
            )
            findings.append(Finding("purify/accuracy-lost", Severity.HIGH, message, evidence={"points": 100 * fall}))
    if findings:
        return "fail", findings[0].message, tuple(findings)
    return cleansed.verdict, cleansed.reason, ()


def hints(config: PurifyConfig, source: Source) -> tuple[Finding, ...]:
    """A finding that names the suspect's ancestor, if its checkpoint does and the user gave none."""
    if config.ancestor is not None or config.recipe != "default":
        return ()
    ancestor = named_ancestor(source.inspections[0])
    return (suggestion(ancestor),) if ancestor else ()


def suspects_card(source: Source) -> Mapping[str, Any]:
    """Licence and languages as the suspect's own cards state them; the adapter's before the model's."""
    return {key: value for inspection in source.inspections for key, value in card_facts(inspection).items()}


def data_facts(source: Source) -> Mapping[str, Any]:
    """The summary of the clean rows as the report holds it."""
    from dataclasses import asdict

    return asdict(source.trained.splits.summary)


def provenance(bench: Bench, source: Source) -> Provenance:
    """Versions, options as they were run, hashes of everything that was read, and thresholds."""
    config = bench.config
    facts = {
        "max_length": bench.subject.max_length,
        "device": str(bench.run.device),
        "processes": bench.run.accelerator.num_processes,
        "model_commit": source.model.commit,
    }
    return Provenance(
        command="purify",
        versions=bench.run.versions,
        config=with_units(config, resolved_config(config, bench.subject.kind) | facts),
        seed=config.seed,
        inputs={
            **source.inputs,
            **{f"data/{Path(k).name}": v for k, v in source.trained.splits.summary.inputs.items()},
        },
        thresholds=recorded(**bench.task.thresholds),
    )
