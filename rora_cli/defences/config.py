"""The options of ``purify``, checked, and what identifies a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from rora_cli.defences.recipes import RECIPES, SHARDABLE, WITHOUT_ADAPTER, ControlSpec, LoopSpec, recipe_of
from rora_cli.defences.settings import Settings
from rora_cli.errors import UsageError
from rora_cli.hunting.budgets import AUTO, BUDGETS
from rora_cli.kinds import SEQUENCE_CLASSIFIER, ModelKind
from rora_cli.option_groups import (
    DATA,
    DTYPES,
    OUTPUT,
    OWN_DTYPE,
    RUN,
    AccuracyLimit,
    CandidatesOption,
    ForceOption,
    HeldOptions,
    ProcessOptions,
    PromptOptions,
    SeedOption,
    SplitOptions,
)
from rora_cli.options import FRACTION, Option, Options, commas, options_of
from rora_cli.ranks import world_size
from rora_cli.results.power import FORM_NAMES
from rora_cli.tasks.causal.options import REPLIES, ReplyOptions
from rora_cli.training.specs import SHARDABLE_VARIANTS, AdapterSpec, RegulariserSpec, RescalingSpec, TrainSpec

ADAPTER_DIRECTORY = "adapter"
#: What the default recipe may do to the suspect's own weights where a search does not name a whole trigger.
ESCALATIONS = ("auto", "reference", "none")
#: The forms of backdoor that a verdict has to cover unless the user says others.
USUAL_FORMS = ("words", "phrases", "sentences", "punctuation")
#: Settings that say where and how a run is done, not what it computes: a resumed run may change them.
#: Those of the second line save memory and change sums by rounding only: what a run that ran out of it goes on with;
#: those of the third decide what is measured of a result, and not the result.
_NOT_IN_FINGERPRINT = (
    *("output", "force", "keep_failed", "resume", "checkpoint_every", "output_dtype", "num_processes"),
    *("micro_batch_size", "gradient_checkpointing", "shard"),
    *("power", "forms", "min_power"),
)


@dataclass(frozen=True, kw_only=True)
class SearchOptions(AccuracyLimit):
    """How triggers are searched for, and what may be done about them."""

    panel: ClassVar[str] = "Search and verdict: how triggers are found, and what must hold in the end"

    triggers: Annotated[
        tuple[str, ...],
        Option("A trigger that you know of: it is trained away as well. Repeatable.", ("--trigger",), metavar="TEXT"),
    ] = ()
    max_accuracy_drop: Annotated[float, AccuracyLimit] = 1.0
    search_budget: Annotated[
        str,
        Option(
            "How thorough a search is: fast; normal, at two to four times the cost; thorough; auto: fast, then normal "
            "for a label that it leaves undecided.",
            choices=(AUTO, *BUDGETS),
        ),
    ] = AUTO
    max_rounds: Annotated[int | None, LoopSpec] = None
    power: Annotated[
        int | None,
        Option(
            "Backdoors of our own that are planted in copies of a classifier's result, to see how many the last search "
            "would have found; three share a copy, which takes about as long as a round. 0: none.",
            metavar="N",
            low=0,
            shown="one copy, or up to what --min-power needs where the verdict is pass with it",
        ),
    ] = None
    forms: Annotated[
        tuple[str, ...],
        Option(
            "Forms of backdoor, with commas between them, that --power plants and the verdict has to cover.",
            metavar="NAMES",
            choices=FORM_NAMES,
            read=commas,
        ),
    ] = USUAL_FORMS
    min_power: Annotated[
        float,
        Option(
            "What the power for --forms has to be, at the lower end of its 95 % interval, for a verdict to rest on it: "
            ".7 needs 9 found of 9, or 14 of 15.",
            above=0,
            below=1,
            unit=FRACTION,
        ),
    ] = 0.7
    escalate: Annotated[
        str,
        Option(
            "What may be done to the model's own weights where no whole trigger is found. reference: take all blocks "
            "or the upper ones from the reference's encoder, and teach it all the task anew; auto: that, or else draw "
            "the upper blocks anew; none.",
            choices=ESCALATIONS,
        ),
    ] = "auto"
    ancestor: Annotated[
        str | None,
        Option(
            "The clean model that the suspect was trained from: it is mixed in (recipes default and mix).",
            metavar="MODEL",
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class SpokenOptions(ReplyOptions, PromptOptions):
    """What is said to a causal language model, and what its cleansing may cost."""

    panel: ClassVar[str] = REPLIES

    max_kl: Annotated[
        float,
        Option(
            "How far the replies to clean prompts may move from the suspect's: KL over their tokens.",
            metavar="NATS",
            above=0,
            unit="nats a token",
        ),
    ] = 0.05
    return_test: Annotated[
        bool,
        Option(
            "Fine-tune a copy of a causal model's result on the clean rows, every weight for 100 steps, and measure "
            "whether found triggers work again."
        ),
    ] = False


@dataclass(frozen=True, kw_only=True)
class CleanRows(SplitOptions):
    """How the clean rows are read and divided."""

    panel: ClassVar[str] = DATA

    dev_fraction: Annotated[
        float,
        Option(
            "Share of the training rows that is held out, where the data has no such split.",
            above=0,
            below=1,
            unit=FRACTION,
        ),
    ] = 0.2
    max_held_out_rows: Annotated[int | None, SplitOptions] = 2000


@dataclass(frozen=True, kw_only=True)
class TrainOptions(Options):
    """How each training run goes."""

    panel: ClassVar[str] = "Training: how long, how fast and in what pieces"

    epochs: Annotated[int | None, TrainSpec] = None
    batch_size: Annotated[int | None, TrainSpec] = None
    micro_batch_size: Annotated[int | None, TrainSpec] = None
    learning_rate: Annotated[float | None, TrainSpec] = None
    weight_decay: Annotated[float | None, TrainSpec] = None
    schedule: Annotated[str | None, TrainSpec] = None
    warmup_ratio: Annotated[float | None, TrainSpec] = None
    max_grad_norm: Annotated[float, TrainSpec] = 1.0
    max_length: Annotated[
        int | None,
        Option(
            "Tokens of a row that the model is given; longer rows are cut.",
            low=4,
            unit="tokens",
            shown="what the model reads",
        ),
    ] = None
    precision: Annotated[str, TrainSpec] = "auto"
    gradient_checkpointing: Annotated[bool, TrainSpec] = False


@dataclass(frozen=True, kw_only=True)
class AdapterOptions(Options):
    """What is adapted."""

    panel: ClassVar[str] = "Adapter: the LoRA that is trained"

    variant: Annotated[str | None, AdapterSpec] = None
    rank: Annotated[int | None, AdapterSpec] = None
    alpha: Annotated[float | None, AdapterSpec] = None
    lora_dropout: Annotated[float | None, AdapterSpec] = None
    target_modules: Annotated[tuple[str, ...] | None, AdapterSpec] = None
    freeze_head: Annotated[bool, AdapterSpec] = False


@dataclass(frozen=True, kw_only=True)
class RoraOptions(Options):
    """What the paper adds to a LoRA."""

    panel: ClassVar[str] = "RoRA: what the paper adds to a LoRA (arXiv:2601.06305)"

    cl: Annotated[float | None, RegulariserSpec] = None
    tr: Annotated[float | None, RegulariserSpec] = None
    tr_k: Annotated[int | None, RegulariserSpec] = None
    tr_reduction: Annotated[str | None, RegulariserSpec] = None
    pt: Annotated[float | None, RescalingSpec] = None
    pt_layers: Annotated[str | None, RescalingSpec] = None
    pt_cap: Annotated[float | None, RescalingSpec] = None
    pt_guard: Annotated[bool | None, RescalingSpec] = None


@dataclass(frozen=True, kw_only=True)
class ControlOptions(Options):
    """What single controls are told."""

    panel: ClassVar[str] = "Controls: other ways that the field cleanses weights, to compare with"

    suspect_share: Annotated[float | None, ControlSpec] = None
    share_by_block: Annotated[str | None, ControlSpec] = None
    reinit_blocks: Annotated[int | None, ControlSpec] = None
    consistency: Annotated[float | None, ControlSpec] = None
    perturbation: Annotated[float | None, ControlSpec] = None
    prune: Annotated[float | None, ControlSpec] = None


@dataclass(frozen=True, kw_only=True)
class ResumeOptions(ProcessOptions):
    """Where the work is done, in how many processes, and how it goes on after an end."""

    panel: ClassVar[str] = RUN

    shard: Annotated[
        bool,
        Option(
            "Divide the model among the processes (FSDP), for one that does not fit on each: each holds a part, and "
            "gathers a block at a time."
        ),
    ] = False
    resume: Annotated[bool, Option("Go on from an interrupted run with the same options.")] = False
    checkpoint_every: Annotated[int | None, TrainSpec] = None


@dataclass(frozen=True, kw_only=True)
class OutputOptions(ForceOption):
    """What is written."""

    panel: ClassVar[str] = OUTPUT

    adapter_only: Annotated[bool, Option("Write the adapter, and no merged model.")] = False
    keep_failed: Annotated[
        bool,
        Option("Write what failed to DIR as well. Otherwise it goes to DIR-failed, and DIR stays as it was."),
    ] = False
    output_dtype: Annotated[
        str,
        Option(
            "Number type of the merged model; auto leaves every tensor the type that the suspect's has.",
            choices=(*DTYPES, OWN_DTYPE),
        ),
    ] = OWN_DTYPE


@dataclass(frozen=True, kw_only=True)
class PurifyConfig(
    SearchOptions,
    OutputOptions,
    CleanRows,
    TrainOptions,
    AdapterOptions,
    RoraOptions,
    ControlOptions,
    SpokenOptions,
    CandidatesOption,
    ResumeOptions,
    HeldOptions,
    SeedOption,
):
    """Options of ``purify``; where one is None the recipe decides. ``clean`` is what ``data.load_splits`` takes."""

    model: Annotated[str, Option("The suspect: a directory, or a hub id.", metavar="MODEL", argument=True)]
    clean: Annotated[
        str,
        Option(
            "Clean rows, for a causal model prompts: [bold]bundled[/], a file or directory, sst2, ..., or a hub id.",
            metavar="DATA",
        ),
    ]
    output: Annotated[
        str | None, Option("Directory to write.", ("--output", "-o"), metavar="DIR", shown="<MODEL>-rora")
    ] = None
    reference: Annotated[
        str | None,
        Option(
            "A model that you trust, best the one that the suspect was trained from: it tells honest words from "
            "triggers. A pretrained encoder or a clean classifier, as a directory or a hub id. For a causal model it "
            "takes the suspect's place, and is taught what that says; none keeps the base of --adapter out.",
            metavar="MODEL",
            shown="the packaged encoder, or for a far smaller suspect bag-of-words; the base of a causal --adapter",
        ),
    ] = None
    adapter: Annotated[str | None, Option("A suspect adapter on MODEL, its base.", metavar="ADAPTER")] = None
    recipe: Annotated[
        str,
        Option(
            "[bold]default[/]: search, train against what is found, search again. [bold]paper[/]: RoRA to the letter. "
            "The others are controls.",
            choices=tuple(RECIPES),
        ),
    ] = "default"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.adapter_only and self.recipe in WITHOUT_ADAPTER:
            raise UsageError(
                f"--adapter-only has nothing to write: the recipe {self.recipe} trains no adapter; leave it out"
            )
        if self.recipe == "mix" and self.ancestor is None:
            raise UsageError("the recipe mix needs --ancestor, the model that the suspect was trained from")
        if self.ancestor is not None and self.recipe not in ("default", "mix"):
            raise UsageError(f"--ancestor has no meaning for the recipe {self.recipe}; use default or mix")
        if self.ancestor is not None and self.adapter_only:
            raise UsageError("--adapter-only has nothing to write: mixing with --ancestor changes the model itself")
        if self.load_in_4bit:
            self._require_an_adapter_alone()
        if self.shard:
            self._require_shardable()
        self._require_measurable_power()
        self.settings()  # the recipe's own combinations are refused before anything is loaded

    def _require_measurable_power(self) -> None:
        """Raise UsageError where power is asked for and no search ends the run, or no copy of the result can be had."""
        if not self.forms:
            raise UsageError(f"--forms names no form of backdoor; give some of {', '.join(FORM_NAMES)}")
        if not self.power:
            return
        if self.recipe != "default":
            raise UsageError(
                f"--power is of the last search, and the recipe {self.recipe} does not search; leave it out"
            )
        for flag, given in (("--load-in-4bit", self.load_in_4bit), ("--shard", self.shard)):
            if given:
                raise UsageError(f"--power trains copies of the whole result, which {flag} does not have; leave it out")

    def _require_shardable(self) -> None:
        """Raise UsageError unless what is asked for can be done with a model that is divided among processes."""
        if self.recipe not in SHARDABLE:
            raise UsageError(
                f"--shard (FSDP) works with the recipes {', '.join(sorted(SHARDABLE))}, and {self.recipe} changes "
                "weights that no process holds whole; use one of these, or leave out --shard"
            )
        if (self.variant or "lora") not in SHARDABLE_VARIANTS:
            raise UsageError(
                f"--shard (FSDP) works with the adapter variants {', '.join(SHARDABLE_VARIANTS)}, and {self.variant} "
                "needs the whole of a weight; use one of these, or leave out --shard"
            )
        if self.precision == "fp16":
            raise UsageError("--shard (FSDP) computes in fp32 or bf16; use --precision bf16, or leave out --shard")
        if self.ancestor is not None:
            raise UsageError(
                "--shard (FSDP) leaves the model's own weights as they are, so no ancestor can be mixed in: leave out "
                "--ancestor"
            )

    def _require_an_adapter_alone(self) -> None:
        """Raise UsageError for what changes weights that are held in 4 bits, or splits them."""
        if self.recipe in WITHOUT_ADAPTER or self.ancestor is not None:
            what = "--ancestor" if self.ancestor is not None else f"the recipe {self.recipe}"
            raise UsageError(
                f"{what} changes every weight, and --load-in-4bit leaves the weights alone: give one of them"
            )
        if self.variant not in (None, "lora", "rslora"):
            raise UsageError(f"--load-in-4bit goes with the adapter variants lora and rslora, not with {self.variant}")

    def check_escalation(self) -> None:
        """Raise UsageError where blocks of the suspect may be replaced that have to stay as they are."""
        for flag, given in (("--load-in-4bit", self.load_in_4bit), ("--shard (FSDP)", self.shard)):
            if given and self.recipe == "default" and self.escalate != "none":
                raise UsageError(
                    f"the recipe default may replace blocks of the model, and {flag} leaves the model's own weights as "
                    "they are: add --escalate none"
                )

    def settings(self, kind: ModelKind = SEQUENCE_CLASSIFIER) -> Settings:
        """Every setting of the run on a kind of model: the user's where one is given, else the recipe's."""
        return Settings.of(recipe_of(self.recipe, kind), asdict(self))

    @property
    def output_directory(self) -> Path:
        """Where the result is written: the user's --output, or <MODEL>-rora in the working directory."""
        return Path(self.output or f"{Path(self.model).name or 'model'}-rora")

    @property
    def failed_directory(self) -> Path:
        """Where a result goes whose verdict is fail, so that nobody takes it for a good one."""
        out = self.output_directory
        return out if self.keep_failed else out.with_name(f"{out.name}-failed")

    @classmethod
    def default_in_words(cls, name: str) -> str | None:
        """How the help page says a default that the recipe decides: the default recipe's, then what others have."""
        specs = (AdapterSpec, RegulariserSpec, RescalingSpec, TrainSpec, LoopSpec, ControlSpec)
        own = options_of(cls).get(name)
        spec = next((field for kind in specs if (field := options_of(kind).get(name))), None)
        if own is None or spec is None or own.default is not None or spec.option != own.option:
            return None
        recipes: dict[str, list[str]] = {}
        for recipe in RECIPES.values():
            value = recipe.defaults.get(name, spec.default)
            words = spec.option.shown if value == spec.default and spec.option.shown else _in_words(value)
            recipes.setdefault(words, []).append(recipe.name)
        usual, *others = recipes
        return "; ".join([usual, *(f"{', '.join(recipes[words])}: {words}" for words in others)])


def _in_words(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "on", False: "off", None: "none"}[value]
    if isinstance(value, tuple):
        return ", ".join(value)
    return f"{value:g}".replace("e-0", "e-") if isinstance(value, float) else str(value)


def state_directory(config: PurifyConfig) -> Path:
    """Where an unfinished run leaves its state: beside the output."""
    out = config.output_directory
    return out.with_name(f"{out.name}.rora-state")


def resolved_config(config: PurifyConfig, kind: ModelKind) -> dict[str, Any]:
    """The config as it was run on a kind of model: the recipe's values in place of every None."""
    given = asdict(config)
    return given | {name: value for name, value in config.settings(kind).flat().items() if name in given}


def fingerprint(config: PurifyConfig, kind: ModelKind, facts: Mapping[str, Any]) -> dict[str, Any]:
    """What must be equal for a run to be the continuation of another."""
    given = {k: v for k, v in resolved_config(config, kind).items() if k not in _NOT_IN_FINGERPRINT}
    settings = {k: str(v) if isinstance(v, Path) else v for k, v in given.items()}
    return {**settings, "world": world_size(), **facts}
