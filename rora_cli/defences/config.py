"""The options of ``purify``, checked, and what identifies a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from rora_cli.defences.recipes import RECIPES, SHARES_BY_BLOCK, WITHOUT_ADAPTER
from rora_cli.errors import UsageError
from rora_cli.hunting.budgets import AUTO, budgets
from rora_cli.ranks import world_size
from rora_cli.units import fraction_of_points, require_least

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
        from rora_cli.defences.specs import specifications

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


def state_directory(config: PurifyConfig) -> Path:
    """Where an unfinished run leaves its state: beside the output."""
    out = config.output_directory
    return out.with_name(f"{out.name}.rora-state")


def resolved_config(config: PurifyConfig) -> dict[str, Any]:
    """The config as it was run: the recipe's values in place of every None."""
    return asdict(config) | config.settings()


def fingerprint(config: PurifyConfig, facts: Mapping[str, Any]) -> dict[str, Any]:
    """What must be equal for a run to be the continuation of another."""
    settings = {k: v for k, v in resolved_config(config).items() if k not in _NOT_IN_FINGERPRINT}
    return {**settings, "world": world_size(), **facts}
