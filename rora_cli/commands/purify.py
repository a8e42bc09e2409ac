"""``rora purify``: cleanse a suspect on clean data, and write the model, the adapter, the report and the card."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rora_cli.attacks.search_label import AUTO, budgets
from rora_cli.commands.memory import says_what_fits
from rora_cli.commands.recipes import RECIPES, SHARES_BY_BLOCK, WITHOUT_ADAPTER
from rora_cli.commands.units import fraction_of_points, require_least
from rora_cli.errors import TrainingError, UsageError
from rora_cli.progress import SILENT, Progress
from rora_cli.ranks import is_main, world_size
from rora_cli.results.purify import PurifyResult

if TYPE_CHECKING:
    from rora_cli.commands.workbench import Cleansed, Workbench

REPORT = "rora-report.json"
ADAPTER_DIRECTORY = "adapter"
DTYPES = ("float32", "bfloat16", "float16", "auto")
#: What the default recipe may do to the suspect's own weights where a search does not name a whole trigger.
ESCALATIONS = ("auto", "reference", "none")

#: Settings that say where and how a run is done, not what it computes: a resumed run may change them.
#: The last two save memory and change sums by rounding only: what a run that ran out of it goes on with.
_NOT_IN_FINGERPRINT = (
    *("output", "force", "resume", "checkpoint_every", "dtype", "num_processes"),
    *("micro_batch_size", "gradient_checkpointing"),
)


@dataclass(frozen=True)
class PurifyConfig:
    """Options of ``purify``; where one is None the recipe decides. Fractions are of 1, lengths in
    tokens, and ``max_accuracy_drop`` is in points of accuracy: 1.0 is one percentage point.

    ``model``: directory or hub id; ``adapter``: a suspect adapter to merge into it first. ``clean``: what
    ``data.load_splits`` takes. ``output`` defaults to ``<model name>-rora``.
    """

    model: str
    clean: str
    output: str | None = None
    recipe: str = "default"
    adapter: str | None = None
    revision: str | None = None
    allow_download: bool = True
    text_column: str | None = None
    label_column: str | None = None
    label_map: Mapping[str, str] | None = None
    data_revision: str | None = None
    dev_fraction: float = 0.2
    max_train_rows: int | None = None
    max_held_out_rows: int | None = 2000
    variant: str | None = None
    rank: int | None = None
    alpha: float | None = None
    lora_dropout: float | None = None
    target_modules: tuple[str, ...] = ()
    freeze_head: bool = False
    cl: float | None = None
    tr: float | None = None
    tr_k: int | None = None
    tr_reduction: str | None = None
    pt: float | None = None
    pt_layers: str | None = None
    pt_cap: float | None = None
    pt_guard: bool | None = None
    max_accuracy_drop: float = 1.0
    epochs: int | None = None
    batch_size: int | None = None
    micro_batch_size: int | None = None
    learning_rate: float | None = None
    weight_decay: float | None = None
    schedule: str | None = None
    warmup_ratio: float | None = None
    max_grad_norm: float = 1.0
    max_length: int | None = None
    precision: str = "fp32"
    gradient_checkpointing: bool = False
    device: str = "auto"
    seed: int = 0
    triggers: tuple[str, ...] = ()
    max_rounds: int | None = None
    search_budget: str = AUTO
    reference: str | None = None
    ancestor: str | None = None
    escalate: str = "auto"
    suspect_share: float | None = None
    share_by_block: str | None = None
    reinit_blocks: int | None = None
    consistency: float | None = None
    perturbation: float | None = None
    prune: float | None = None
    num_processes: int = 1
    checkpoint_every: int | None = None
    resume: bool = False
    adapter_only: bool = False
    dtype: str = "float32"
    force: bool = False

    def __post_init__(self) -> None:
        if self.recipe not in RECIPES:
            raise UsageError(f"recipe {self.recipe!r} is unknown; choose one of {', '.join(RECIPES)}")
        if self.adapter_only and self.recipe in WITHOUT_ADAPTER:
            raise UsageError(
                f"--adapter-only has nothing to write: the recipe {self.recipe} trains no adapter; leave it out"
            )
        if self.dtype not in DTYPES:
            raise UsageError(f"dtype {self.dtype!r} is unknown; choose one of {', '.join(DTYPES)}")
        fraction_of_points(self.max_accuracy_drop)
        if not 0 < self.dev_fraction < 1:
            raise UsageError(f"--dev-fraction is a fraction between 0 and 1 (0.2 for 20 %), not {self.dev_fraction:g}")
        require_least(self)
        budgets(self.search_budget, "--search-budget")
        self._check_controls()
        self._check_settings()

    def _check_controls(self) -> None:
        settings = self.settings()
        if self.recipe == "mix" and self.ancestor is None:
            raise UsageError("the recipe mix needs --ancestor, the model that the suspect was trained from")
        if self.ancestor is not None and self.recipe not in ("default", "mix"):
            raise UsageError(f"--ancestor has no meaning for the recipe {self.recipe}; use default or mix")
        if self.ancestor is not None and self.adapter_only:
            raise UsageError("--adapter-only has nothing to write: mixing with --ancestor changes the model itself")
        if self.escalate not in ESCALATIONS:
            raise UsageError(f"--escalate is one of {', '.join(ESCALATIONS)}, not {self.escalate!r}")
        for option in ("suspect_share", "prune"):
            if not 0 <= settings[option] <= 1:
                raise UsageError(f"--{option.replace('_', '-')} is a share between 0 and 1, not {settings[option]:g}")
        for option in ("consistency", "perturbation"):
            if not 0 <= settings[option] < float("inf"):
                raise UsageError(f"--{option} is at least 0 and finite, not {settings[option]:g}")
        if settings["reinit_blocks"] < 0:
            raise UsageError(f"--reinit-blocks is at least 0, not {settings['reinit_blocks']}")
        if settings["share_by_block"] not in SHARES_BY_BLOCK:
            raise UsageError(
                f"--share-by-block is one of {', '.join(SHARES_BY_BLOCK)}, not {settings['share_by_block']!r}"
            )

    def _check_settings(self) -> None:
        """Build every specification once, so that a bad option is refused before anything is loaded."""
        from rora_cli.commands.workbench import specifications

        specifications(self, self.settings())

    def settings(self) -> dict[str, Any]:
        """The recipe's settings with the options over them."""
        return RECIPES[self.recipe].resolve({f.name: getattr(self, f.name) for f in fields(self)})

    @property
    def allowed_drop(self) -> float:
        """``max_accuracy_drop`` as a fraction of 1."""
        return fraction_of_points(self.max_accuracy_drop)

    @property
    def output_directory(self) -> Path:
        return Path(self.output or f"{Path(self.model).name or 'model'}-rora")


@says_what_fits
def run(config: PurifyConfig, progress: Progress = SILENT) -> PurifyResult:
    """Cleanse ``config.model`` and write the result; every file appears at once or not at all.

    Under torchrun or another launcher every rank calls this, and rank 0 writes. Raises RoraError with one sentence for
    bad input, and leaves an existing output as it was.
    """
    from rora_cli.training.launch import launch, refuse_other_parallelism

    refuse_other_parallelism()
    started_by_others = world_size()
    if started_by_others > 1 and config.num_processes not in (1, started_by_others):
        raise UsageError(
            f"--num-processes is {config.num_processes}, but a launcher has started {started_by_others} processes "
            "already; leave the option out, or start rora without the launcher"
        )
    with _state_kept(config, progress):
        if config.num_processes > 1 and started_by_others == 1:
            return launch(work, config, config.num_processes, progress)
        return work(config, progress)


@says_what_fits
def work(config: PurifyConfig, progress: Progress) -> PurifyResult:
    """The run itself, in each of its processes; all of them return when rank 0 has written."""
    from rora_cli.commands.purify_output import write
    from rora_cli.commands.purify_steps import prepare, require_fitting_labels
    from rora_cli.training.launch import answering_to_peers, wait_for_peers

    with answering_to_peers():
        with _held_output(config) as staging:
            bench, source = prepare(config, progress)
            before = bench.before = bench.measure(name="clean accuracy before")
            require_fitting_labels(bench, before)
            cleansed = _defence(config)(bench)
            result = _assess(bench, source, cleansed, before)
            if staging is not None:
                with progress.phase("write and load again"):
                    result = write(staging, bench, source, cleansed, result)
        if staging is not None:
            bench.state.discard()
        wait_for_peers()
    return result


@contextmanager
def _held_output(config: PurifyConfig) -> Iterator[Path | None]:
    """The output's staging directory on the main process, held against other runs while this one works; else None."""
    from rora_cli.files import publish_directory

    if not is_main():
        yield None
        return
    with publish_directory(config.output_directory, force=config.force) as staging:
        yield staging


def _defence(config: PurifyConfig) -> Any:
    module, _, function = RECIPES[config.recipe].defence.partition(":")
    return getattr(importlib.import_module(f"rora_cli.commands.{module}"), function)


def check_recipe(bench: Workbench) -> None:
    """Raise RoraError where the recipe cannot work on this suspect."""
    module = RECIPES[bench.config.recipe].defence.partition(":")[0]
    importlib.import_module(f"rora_cli.commands.{module}").check(bench)


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


def state_directory(config: PurifyConfig) -> Path:
    """Where an unfinished run leaves its state: beside the output."""
    out = config.output_directory
    return out.with_name(f"{out.name}.rora-state")


def _written_at(path: Path) -> int | None:
    """When something was last put into a directory, in nanoseconds; None where there is none."""
    try:
        return path.lstat().st_mtime_ns
    except OSError:
        return None


def _assess(bench: Workbench, source: Any, cleansed: Cleansed, before: Any) -> PurifyResult:
    from rora_cli.commands import purify_steps
    from rora_cli.commands.workbench import update_spectra

    after = bench.measure(cleansed.model, name="clean accuracy after")
    verdict, reason, findings = purify_steps.judge(bench, cleansed, before, after)
    return PurifyResult(
        model=bench.config.model,
        recipe=bench.config.recipe,
        verdict=verdict,
        reason=reason,
        label_names=bench.label_names,
        accuracy_before=before,
        accuracy_after=after,
        stages=tuple(cleansed.stages),
        data=purify_steps.data_facts(source),
        provenance=purify_steps.provenance(bench, source),
        residual=cleansed.residual,
        update_before=cleansed.update_before,
        update_after=update_spectra(cleansed.layers),
        adapted=bench.adapted,
        trained_head=bench.head,
        findings=(
            *findings,
            *cleansed.findings,
            *(f for inspection in source.inspections for f in inspection.findings),
            *purify_steps.hints(bench.config, source),
            *purify_steps.left_out(bench),
        ),
    )


def resolved_config(config: PurifyConfig) -> dict[str, Any]:
    """The config as it was run: the recipe's values in place of every None."""
    return asdict(config) | config.settings()


def fingerprint(config: PurifyConfig, facts: Mapping[str, Any]) -> dict[str, Any]:
    """What must be equal for a run to be the continuation of another."""
    settings = {k: v for k, v in resolved_config(config).items() if k not in _NOT_IN_FINGERPRINT}
    return {**settings, "world": world_size(), **facts}
