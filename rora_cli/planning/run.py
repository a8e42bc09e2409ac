"""From a config to the plan of its run: without reading the weights, or from what a run has loaded already."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from rora_cli.checkpoints import sanitise
from rora_cli.checkpoints.hub import fetch_model
from rora_cli.checkpoints.kinds import loaded_as
from rora_cli.checkpoints.loading import LoadedModel, load_model, stored_dtype
from rora_cli.checkpoints.preflight import Inspection, inspect, require_loadable
from rora_cli.data.sources import load_rows, load_splits
from rora_cli.defences.config import PurifyConfig
from rora_cli.defences.recipes import WITHOUT_ADAPTER
from rora_cli.errors import first_line, is_out_of_memory
from rora_cli.evaluation.inference import choose_device, count_tokens, length_limit
from rora_cli.hunting.open_search import OPEN_BUDGETS
from rora_cli.layout import is_head
from rora_cli.option_groups import OWN_DTYPE
from rora_cli.options import with_units
from rora_cli.planning import replies
from rora_cli.planning.device import Memory, memory_of
from rora_cli.planning.estimate import Given, Lengths, adapter_of, hunt_stages, purify_stages, ways_to_fit
from rora_cli.planning.footprint import weight_bytes
from rora_cli.planning.needs import Needs
from rora_cli.planning.pace import Pace, measure_pace
from rora_cli.planning.skeleton import skeleton
from rora_cli.progress import SILENT, Progress, Silent
from rora_cli.ranks import Share, world_size
from rora_cli.results.plan import RunPlan
from rora_cli.results.provenance import Provenance, library_versions
from rora_cli.sharded import is_sharded
from rora_cli.subject import Subject
from rora_cli.tasks.registry import part
from rora_cli.tasks.trained import check_kind
from rora_cli.training.run import mixed_precision, roughly

#: Rows whose tokens are counted; of more, a sample tells their mean, and the limit stands for the longest.
_COUNTED_ROWS = 5000
#: Tokens of a reply in a search, at most.
_SEARCHED_REPLY = max(budget.reply_tokens for budget in OPEN_BUDGETS.values())


@dataclass(frozen=True)
class _Rows:
    """Texts to train on or to search, and texts to measure on."""

    used: Sequence[str]
    held_out: Sequence[str]


def dry_run(config: Any, progress: Progress) -> RunPlan:
    """The plan of ``rora hunt`` or ``rora purify`` with this config. Nothing is written.

    The weights are read only where they fit, to time a few batches.

    Raises:
        RoraError: what the run itself would raise for its input.
    """
    device = choose_device(config.device)
    source = fetch_model(config.model, revision=config.revision, allow_download=not config.offline)
    adapter = fetch_model(config.adapter, allow_download=not config.offline) if config.adapter else None
    inspection = inspect(source.path, role="model")
    require_loadable(inspection)
    with progress.phase("estimate"):
        brought = inspect(adapter.path, role="adapter") if adapter else None
        given, notes = _before(config, inspection, brought, device)
        pace, timed = None, "not timed: the weights do not fit into the free memory"
        if given.memory is None or given.needs.weights < given.memory.free:
            loaded = load_model(
                source.path, adapter=adapter.path if adapter else None, dtype=config.dtype, device=device
            )
            pace, timed = _timed(config, loaded.model, given)
            del loaded
        return _plan(replace(given, pace=pace), timed, notes)


def _before(config: Any, model: Inspection, adapter: Inspection | None, device: str) -> tuple[Given, Sequence[str]]:
    """What is known from headers and rows alone, and notes on these."""
    bare = _without_numbers(config, model, adapter, device)
    on_gpu = device.startswith("cuda")
    if bare.kind.replies:
        notes = _Notes()
        subject, form, prompts = _asked(config, bare, notes)
        base = str(model.path) if adapter is not None else None
        found: Given = replies.given_of(config, subject, form, prompts, base, on_gpu=on_gpu)
        return replace(found, memory=memory_of(device), processes=_processes(config)), notes.said
    limit = config.max_length if isinstance(config, PurifyConfig) else None
    subject = Subject(
        bare.model, bare.tokenizer, bare.kind, length_limit(bare.model, bare.tokenizer, limit), config.model
    )
    subject = subject if isinstance(config, PurifyConfig) else subject.reading(config.max_length)
    rows, said = _read(config, subject)
    return _given(config, subject, rows, memory_of(device), on_gpu=on_gpu), said


class _Notes(Silent):
    """Hears what reading the rows has to say."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, message: str) -> None:
        """Keep it."""
        self.said.append(message)


def _asked(config: Any, bare: LoadedModel, notes: Progress) -> tuple[Subject, Any, replies.Prompts]:
    """The subject, its prompt format, and the prompts of a model that replies in free text."""
    if not isinstance(config, PurifyConfig):
        setting = part(bare.kind, "openings").prepare(bare, config, notes)
        subject = setting.subject.reading(config.max_length)
        return subject, setting.task.prompt_format, replies.Prompts(setting.prompts, reply=_SEARCHED_REPLY)
    check_kind(bare.kind, config)
    read = part(bare.kind, "trained").read(bare, config, Share(), notes)
    return read.subject, read.task.prompt_format, replies.Prompts(
        read.splits.train.texts,
        read.splits.held_out.texts,
        (*read.splits.train.labels, *read.splits.held_out.labels),
        config.max_new_tokens,
        read.unanswered,
    )  # fmt: skip


def announce(
    config: Any,
    subject: Subject,
    rows: Sequence[str],
    held_out: Sequence[str],
    progress: Progress,
    *,
    replied: Replied | None = None,
) -> None:
    """Say what a run will take that has loaded ``subject``; where the estimate fails, why. It never stops the run.

    ``replied`` is what is known besides of a model that replies in free text. Where nobody listens, nothing is
    estimated.
    """
    if progress is SILENT:
        return
    try:
        plan = _of_loaded(config, subject, _Rows(rows, held_out), replied)
    except Exception as error:  # an estimate rests on the insides of libraries; the run does not
        said = "memory ran out while batches were timed" if is_out_of_memory(error) else first_line(error)
        progress.note(f"no estimate of memory and time: {type(error).__name__}: {said}")
        return
    from rora_cli.reports.terminal.plan import in_a_line

    (progress.warn if plan.fits is False else progress.note)(in_a_line(plan))


@dataclass(frozen=True)
class Replied:
    """What a loaded run knows of a model that replies in free text.

    Attributes:
        form: its prompt format.
        answers: the good answers to all rows, in order; empty for a search.
        reply: tokens of a generated reply at most; 0 for a search's own.
        base: directory of the model that an adapter was merged into.
    """

    form: Any
    answers: Sequence[Any] = ()
    reply: int = 0
    base: str | None = None


def _of_loaded(config: Any, subject: Subject, rows: _Rows, replied: Replied | None) -> RunPlan:
    """The plan of a run that holds its suspect already: to what is free comes what it takes itself."""
    weight = next(subject.model.parameters())
    bare = skeleton(_own_class(subject.model), subject.model.config, weight.dtype)()
    found = memory_of(str(weight.device))
    held = weight_bytes(subject.model)
    memory = found and Memory(found.total, found.free + held)
    on_gpu, known = weight.device.type == "cuda", replace(subject, model=bare)
    if replied is None:
        given = _given(config, known, rows, memory, on_gpu=on_gpu)
    else:
        reply = replied.reply or _SEARCHED_REPLY
        asked = replies.Prompts(rows.used, rows.held_out, replied.answers, reply)
        asking = replies.given_of(config, known, replied.form, asked, replied.base, on_gpu=on_gpu)
        given = replace(asking, memory=memory, processes=_processes(config))
    pace, timed = None, "a batch needs all processes"
    if not is_sharded(subject.model):
        pace, timed = _timed(config, subject.model, given)
    return _plan(replace(given, pace=pace), timed, ())


def _own_class(model: Any) -> Any:
    """The class of a model; sharding puts one of its own before it."""
    return type(model).__mro__[1] if is_sharded(model) else type(model)


def _without_numbers(config: Any, model: Inspection, adapter: Inspection | None, device: str) -> LoadedModel:
    """The suspect as its headers describe it, with its tokenizer."""
    head = adapter is not None and any(map(is_head, adapter.tensors))
    kind = loaded_as(model.config or {}, adapter.adapter_config if adapter else None, head)
    with sanitise.isolated(), tempfile.TemporaryDirectory(prefix="rora-") as scratch:
        settings, model_class = sanitise.model_config(model, None, kind)
        tokenizer = sanitise.tokenizer(model, settings, Path(scratch))
    dtype = config.dtype or ("float32" if device == "cpu" else OWN_DTYPE)
    own = stored_dtype(model) if dtype == OWN_DTYPE else dtype
    bare = skeleton(model_class, settings, getattr(torch, own))()
    return LoadedModel(bare, tokenizer, kind, (), (model,) if adapter is None else (model, adapter))


def _read(config: Any, subject: Subject) -> tuple[_Rows, tuple[str, ...]]:
    names = sanitise.label_names(subject.model.config)
    download = not config.offline
    if isinstance(config, PurifyConfig):
        splits = load_splits(
            config.clean, label_names=names, reading=config, seed=config.seed, dev_fraction=config.dev_fraction,
            allow_download=download,
        )  # fmt: skip
        return _Rows(splits.train.texts, splits.held_out.texts), splits.summary.notes
    rows, summary = load_rows(
        config.clean, label_names=names, split=config.split, reading=config, max_rows=config.max_rows,
        allow_download=download,
    )  # fmt: skip
    return _Rows(rows.texts, ()), summary.notes


def _given(config: Any, subject: Subject, rows: _Rows, memory: Memory | None, *, on_gpu: bool) -> Given:
    dtype = next(subject.model.parameters()).dtype
    make = [skeleton(type(subject.model), subject.model.config, each) for each in (dtype, torch.bfloat16)]
    processes = _processes(config)
    devices = processes if getattr(config, "shard", False) else 1
    needs, narrow = (Needs(each, subject.kind, on_gpu, devices) for each in make)
    reference, tunes = _reference(config, subject, on_gpu)
    vocabulary = len(subject.tokenizer)
    behaviours = len(getattr(config, "labels", ())) or len(sanitise.label_names(subject.model.config))
    return Given(
        config, needs, reference, tunes, _lengths(subject, rows.used), _lengths(subject, rows.held_out or rows.used),
        behaviours, vocabulary, processes, memory,
        narrow=None if dtype.itemsize <= torch.bfloat16.itemsize else narrow,
    )  # fmt: skip


def _processes(config: Any) -> int:
    return int(max(config.num_processes, world_size()))


def _lengths(subject: Subject, texts: Sequence[str]) -> Lengths:
    some = texts if len(texts) <= _COUNTED_ROWS else texts[:: len(texts) // _COUNTED_ROWS]
    counted = Lengths.of(count_tokens(subject.tokenizer, some), subject.max_length)
    return counted if len(some) == len(texts) else Lengths(len(texts), counted.mean, subject.max_length)


def _reference(config: Any, subject: Subject, on_gpu: bool) -> tuple[Needs | None, bool]:
    """The needs of the model that a search compares with, and whether it is tuned first."""
    from rora_cli.tasks.reference import chosen_checkpoint

    if isinstance(config, PurifyConfig) and config.recipe != "default":
        return None, False
    chosen = chosen_checkpoint(config.reference or "auto", subject, allow_download=not config.offline)
    if chosen is None:
        return None, False
    found = inspect(chosen.path, role="model")
    settings, model_class = sanitise.model_config(found, sanitise.label_names(subject.model.config), subject.kind)
    return Needs(skeleton(model_class, settings), subject.kind, on_gpu), not any(map(is_head, found.tensors))


def _timed(config: Any, model: Any, given: Given) -> tuple[Pace | None, str]:
    device = next(model.parameters()).device.type
    with roughly(mixed_precision(config.precision, on_cpu=device == "cpu"), device):
        return _time_batches(config, model, given)


def _time_batches(config: Any, model: Any, given: Given) -> tuple[Pace | None, str]:
    if isinstance(given, replies.ReplyGiven):
        return replies.time_batches(config, model, given)
    trains, batch = "", 1
    if isinstance(config, PurifyConfig):
        train = config.settings().train
        trains = "all" if config.recipe in WITHOUT_ADAPTER else "adapter"
        batch = min(train.batch_size, train.micro_batch_size or train.batch_size)
    row = max(2, round(given.rows.mean))
    try:
        pace = measure_pace(model, row, batch, trains=trains, vocabulary=given.vocabulary)
    except RuntimeError as error:
        return None, f"not timed: {first_line(error)}"
    return pace, "from a few timed batches; searches stop early, and rounds repeat"


def _plan(given: Given, timed: str, notes: Sequence[str]) -> RunPlan:
    config, needs, memory = given.config, given.needs, given.memory
    purifies = isinstance(config, PurifyConfig)
    stages: Any = purify_stages if purifies else hunt_stages
    if isinstance(given, replies.ReplyGiven):
        stages = replies.purify_stages if purifies else replies.hunt_stages
    made = stages(given)
    trained, what = _trained(given) if purifies else (0, "")
    plan = RunPlan(
        command="purify" if purifies else "hunt",
        model=config.model,
        parameters=needs.parameters,
        trained=trained,
        trained_what=what,
        weights=needs.weights,
        device="gpu" if needs.on_gpu else "cpu",
        total=memory.total if memory else None,
        free=memory.free if memory else None,
        stages=tuple(made),
        ways=(),
        timed=timed,
        provenance=Provenance("plan", library_versions(), with_units(config), config.seed),
        notes=tuple(notes),
    )
    if plan.fits is False:
        return replace(plan, ways=ways_to_fit(given, stages))
    return plan


def _trained(given: Given) -> tuple[int, str]:
    config: PurifyConfig = given.config
    if config.recipe in WITHOUT_ADAPTER:
        return given.needs.parameters, "every weight"
    settings = given.settings.adapter
    targets = ", ".join(settings.target_modules) or "query and value"
    head = "" if settings.freeze_head or not given.needs.kind.trains_head else ", and the head"
    return adapter_of(given).numbers, f"an adapter of rank {settings.rank} on {targets}{head}"
