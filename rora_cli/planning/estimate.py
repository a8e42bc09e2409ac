"""The plan of a run: its stages with memory, tokens and time, and the options that would make it fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from rora_cli.defences.config import PurifyConfig
from rora_cli.defences.default.lesson_plan import COURSES, MAX_LESSONS
from rora_cli.defences.default.loop import MAX_SEARCHED_TOKENS, round_epochs
from rora_cli.defences.recipes import FULL, WITHOUT_ADAPTER
from rora_cli.defences.settings import Settings
from rora_cli.hunting.budgets import budgets
from rora_cli.planning.device import Memory
from rora_cli.planning.needs import Needs, Trained
from rora_cli.planning.pace import Pace
from rora_cli.planning.tokens import Range, search_tokens
from rora_cli.results.plan import StagePlan, WayToFit
from rora_cli.training.specs import TrainSpec

#: What loading takes for each byte of the weights: 1.04 and 1.09 were measured (float32, bfloat16), rounded up.
LOADING = 1.1
#: Weights, and the moments and the weight itself, of which a snapshot consists.
_SNAPSHOT = 3
#: Copies of a weight while an adapter is added to it (``AdaptedLayer.merged``), and bytes of a number of these.
_MERGED_COPIES, _FLOAT = 2, 4
#: Share of the free memory in which a copy of the weights is kept; beyond, it goes to disk.
_KEPT_SHARE = 0.5
#: Forward and backward pass through an adapter, over those through the frozen weights alone: a guess.
_ADAPTER_COST = 1.3
#: Times that held-out rows are measured in a purification, at least and at most (each correction does): a guess.
_MEASURED = Range(3, 14)
#: Tokens that a search reads of a row.
_SEARCHED_ROW = 48
#: A number type that halves the weights.
_NARROW = "bfloat16"


@dataclass(frozen=True)
class Lengths:
    """Tokens of some rows: how many rows, their mean and their longest."""

    rows: int
    mean: float
    longest: int

    @classmethod
    def of(cls, tokens: Sequence[int], limit: int) -> Lengths:
        """Of rows of so many ``tokens`` each, cut to ``limit``."""
        cut = [min(number, limit) for number in tokens] or [1]
        return cls(len(tokens), sum(cut) / len(cut), max(cut))

    @property
    def tokens(self) -> float:
        """Of all rows."""
        return self.rows * self.mean


@dataclass(frozen=True)
class Given:
    """What is known before a run.

    Attributes:
        config: of hunt or purify.
        needs: of the suspect.
        reference: of a trusted model that the search compares with; None for a bag of words.
        tunes_reference: whether that model is trained first.
        rows: the rows that are trained on, or searched.
        held_out: the rows that are measured.
        labels: how many behaviours are searched.
        vocabulary: tokens that are tried.
        processes: that share the work.
        memory: of the device; None where nothing tells.
        pace: of the loaded model; None where it was not timed.
        narrow: the suspect's needs where it is held in bfloat16; None where it is held so, or in as few bits.
    """

    config: Any
    needs: Needs
    reference: Needs | None
    tunes_reference: bool
    rows: Lengths
    held_out: Lengths
    labels: int
    vocabulary: int
    processes: int = 1
    memory: Memory | None = None
    pace: Pace | None = None
    narrow: Needs | None = None

    @property
    def settings(self) -> Settings:
        """Every setting of a purification of this kind of model."""
        settings: Settings = self.config.settings(self.needs.kind)
        return settings


def hunt_stages(given: Given) -> list[StagePlan]:
    """The stages of ``rora hunt``."""
    made = Stages(given)
    made.load()
    made.reference(min(given.rows.longest, given.config.max_length))
    made.search("search", given.config.budget, Range(1, 1))
    if given.config.power:
        made.power(given.config.power, given.config.budget)
    return made.stages


def purify_stages(given: Given) -> list[StagePlan]:
    """The stages of ``rora purify``."""
    config: PurifyConfig = given.config
    made = Stages(given)
    made.load()
    made.measure()
    if config.recipe == "default":
        _default_stages(made, config)
    else:
        made.control()
    made.write()
    return made.stages


def _default_stages(made: Stages, config: PurifyConfig) -> None:
    given, train = made.given, made.settings.train
    rounds = made.settings.loop.max_rounds
    made.reference(min(given.rows.longest, MAX_SEARCHED_TOKENS))
    made.search("search", config.search_budget, Range(1, 1))
    if config.ancestor is not None:
        made.train("tune the ancestor", made.taught, train.epochs, adapter=False)
    elif config.escalate != "none" and not config.adapter_only:
        made.teach()
    epochs = train.epochs
    if config.epochs is None:
        epochs = round_epochs(made.settings, given.rows.rows, given.needs.model)
    made.train("train", made.adapter, epochs, rounds)
    made.search("search again", config.search_budget, Range(1, rounds), kept=made.merging)
    if config.power != 0 and not (config.shard or config.load_in_4bit):
        _silence_stages(made, config)


def _silence_stages(made: Stages, config: PurifyConfig) -> None:
    """What the last search is worth: a number of stand-ins, or one copy and more where the verdict can rest on them."""
    from rora_cli.defences.default.silence import most_stand_ins
    from rora_cli.power.measure import PER_COPY

    least, most = config.power or PER_COPY, config.power or most_stand_ins(config.min_power)
    if config.power or made.fits_planting():
        made.power(least, config.search_budget, most)


@dataclass
class Stages:
    """Stages in the making, in the order in which they are done."""

    given: Given
    stages: list[StagePlan] = field(default_factory=list)

    @cached_property
    def settings(self) -> Settings:
        """Those of the run."""
        return self.given.settings

    @cached_property
    def beside(self) -> int:
        """Bytes of a reference that stays in memory."""
        return self.given.reference.weights if self.given.reference else 0

    @cached_property
    def adapter(self) -> Trained:
        """The training of the adapter."""
        return adapter_of(self.given)

    @cached_property
    def searching(self) -> int:
        """Bytes while a search scores rows."""
        return self.given.needs.searching(min(_SEARCHED_ROW, self.given.rows.longest))

    @cached_property
    def full(self) -> Trained:
        """The training of every weight, as the settings have it."""
        return self.given.needs.full(self.settings.train, self.given.rows.longest, processes=self.given.processes)

    @cached_property
    def taught(self) -> Trained:
        """The training of every weight, as what changes all of them has it."""
        train = self.settings.having(**FULL).train
        return self.given.needs.full(train, self.given.rows.longest, processes=self.given.processes)

    def _add(self, name: str, memory: float, tokens: Range, seconds: Range | None, only_if: str = "") -> None:
        time = None if seconds is None or self.given.pace is None else (seconds.least, seconds.most)
        counted = (round(tokens.least), round(tokens.most))
        self.stages.append(StagePlan(name, round(memory), counted, time, only_if))

    def _seconds(self, tokens: Range, each: float | None) -> Range | None:
        return None if each is None else tokens.times(each / self.given.processes)

    def load(self) -> None:
        """The suspect is read."""
        self._add("load", LOADING * self.given.needs.weights, Range(0, 0), None)

    def measure(self) -> None:
        """Held-out rows are measured, before and after each change."""
        given, pace = self.given, self.given.pace
        tokens = Range(given.held_out.tokens, given.held_out.tokens).times(_MEASURED.least, _MEASURED.most)
        seconds = self._seconds(tokens, pace.evaluate if pace else None)
        self._add("measure accuracy", given.needs.measuring(given.held_out.longest), tokens, seconds)

    def reference(self, longest: int) -> None:
        """The trusted encoder is tuned beside the suspect; a classifier serves as it is."""
        from rora_cli.tasks.classification.reference import EPOCHS

        given, pace = self.given, self.given.pace
        if given.reference is None or not given.tunes_reference:
            return
        trained = given.reference.full(TrainSpec(), longest, processes=given.processes)
        each = min(given.rows.mean, longest)
        tokens = Range(1, 1).times(EPOCHS * given.rows.rows * each)
        seconds = self._seconds(tokens.times(3), pace.evaluate if pace else None)
        self._add("tune the reference", given.needs.weights + trained.memory, tokens, seconds)

    @cached_property
    def kept(self) -> int:
        """Bytes of a copy of the weights that somebody goes back to; on disk where it does not fit."""
        given = self.given
        weights = given.needs.weights
        return weights if given.memory is not None and weights <= _KEPT_SHARE * given.memory.free else 0

    @cached_property
    def merging(self) -> int:
        """Bytes of the copy that is kept while the adapter is merged in to search; none where it stays apart, as with
        weights in 16 or 4 bits, or divided among processes (``training.adapters.merged``)."""
        needs, config = self.given.needs, self.given.config
        apart = needs.devices > 1 or config.load_in_4bit or not needs.in_float32
        return 0 if apart else self.kept

    def search(self, name: str, budget: str, times: Range, only_if: str = "", kept: int = 0) -> None:
        """A search of every behaviour, so many ``times``, beside so many bytes that are ``kept``."""
        self._search(name, budget, times, only_if, kept, self.given.labels)

    def _search(self, name: str, budget: str, times: Range, only_if: str, kept: int, labels: int) -> None:
        given, pace = self.given, self.given.pace
        found = search_tokens(
            budgets(budget, "--budget"),
            given.vocabulary,
            given.rows.mean,
            labels,
            model=given.reference is not None,
        )
        tokens = found.times(times.least, times.most)
        memory = self.searching + self.beside + kept
        self._add(name, memory, tokens, self._seconds(tokens, pace.search if pace else None), only_if)

    @cached_property
    def planting(self) -> int:
        """Bytes while stand-ins are trained into a copy of the suspect."""
        trained = self.given.needs.full(TrainSpec(), self.given.rows.longest, processes=self.given.processes)
        return self.given.needs.weights + trained.memory + self.beside

    def fits_planting(self) -> bool:
        """Whether a copy can be had; where not, the run does without, unless the user asks for it."""
        return self.given.memory is None or self.planting <= self.given.memory.free

    def power(self, count: int, budget: str, most: int = 0) -> None:
        """``count`` stand-ins, or up to ``most``, are trained into copies of the suspect, and proven by LoRA; each copy
        is searched for the labels of its own."""
        from rora_cli.power.measure import PER_COPY
        from rora_cli.power.planting import MAX_ROUNDS, MOST_TRAINED, PROOF_EPOCHS

        given, pace = self.given, self.given.pace
        copies, most_copies = -(-count // PER_COPY), -(-max(count, most) // PER_COPY)
        rows = min(MOST_TRAINED, given.rows.rows)
        rounds = Range(1 + PROOF_EPOCHS, 2 * MAX_ROUNDS + PROOF_EPOCHS)
        tokens = rounds.times(copies * rows * given.rows.mean, most_copies * rows * given.rows.mean)
        seconds = self._seconds(tokens.times(3), pace.evaluate if pace else None)
        planted = f"{count} to {most}" if most > count else str(count)
        only_if = "the last search finds nothing" if most else ""
        self._add(f"plant {planted} stand-ins", self.planting, tokens, seconds, only_if)
        labels = min(PER_COPY, given.labels)
        self._search("search the copies", budget, Range(copies, most_copies), only_if, 0, labels)

    def teach(self) -> None:
        """A student in the suspect's place: every weight is trained, two to four courses."""
        given, pace, trained = self.given, self.given.pace, self.taught
        one = MAX_LESSONS * given.rows.mean
        tokens = Range(0, one * (COURSES + 1))
        seconds = self._seconds(tokens, pace.evaluate * 3 if pace else None)
        memory = max(trained.memory, self._saving(trained)) + self.kept + self.beside
        self._add("teach a student", memory, tokens, seconds, "no whole trigger is found (--escalate none: never)")

    def train(self, name: str, trained: Any, epochs: int, rounds: int = 1, *, adapter: bool = True) -> None:
        """A training of an adapter, or of every weight, in each of up to ``rounds`` rounds."""
        given, pace = self.given, self.given.pace
        tokens = Range(1, rounds).times(epochs * given.rows.tokens)
        each = pace.train * (_ADAPTER_COST if adapter else 1.0) if pace and pace.train else None
        memory = max(trained.memory, self._saving(trained)) + self.beside
        self._add(name, memory, tokens, self._seconds(tokens, each))

    def control(self) -> None:
        """The one training of a recipe that does not search."""
        epochs = self.settings.train.epochs
        if self.given.config.recipe in WITHOUT_ADAPTER:
            self.train("train", self.full, epochs, adapter=False)
        else:
            self.train("train", self.adapter, epochs)

    def _saving(self, trained: Trained) -> int:
        """Bytes while the state is saved: the weights, the moments, and a copy of both, which is written as it is."""
        on_host = 0 if self.given.needs.on_gpu else _SNAPSHOT * trained.bytes
        return self.given.needs.weights + _SNAPSHOT * trained.bytes + on_host

    def write(self) -> None:
        """An adapter is added to one weight after the other, and what was written is loaded again when the model is
        gone; on an accelerator's machine in the host's memory."""
        if self.given.needs.on_gpu:
            return
        writing = 0
        if self.given.config.recipe not in WITHOUT_ADAPTER and not self.given.config.adapter_only:
            writing = self.adapter.bytes + _MERGED_COPIES * _FLOAT * self.adapter.largest
        weights = self.given.needs.weights
        self._add("write and load again", max(weights + writing, LOADING * weights), Range(0, 0), None)


def adapter_of(given: Given) -> Trained:
    """The training of the adapter that the settings of a purification describe."""
    settings = given.settings
    cl, longest = settings.regularisers.cl, given.rows.longest
    return given.needs.adapter(settings.adapter, settings.train, longest, cl=cl, processes=given.processes)


def ways_to_fit(given: Given, stages: Callable[[Given], list[StagePlan]]) -> tuple[WayToFit, ...]:
    """What other options would need, the mildest first; those that save nothing are left out, and all after one that
    fits."""
    ways: list[WayToFit] = []
    least = max(stage.memory for stage in stages(replace(given, pace=None)))
    for options, config in _milder(given):
        held = given.narrow if config.dtype == _NARROW and given.narrow else given.needs
        beside = None if given.needs.kind.replies and config.reference == "none" else given.reference
        changed = replace(given, config=config, needs=held, reference=beside, pace=None)
        needs = max(stage.memory for stage in stages(changed))
        fits = given.memory is None or needs <= given.memory.free
        if needs < least:
            ways.append(WayToFit(options, needs, fits))
            least = needs
        if fits:
            break
    return tuple(ways)


def _milder(given: Given) -> list[tuple[str, Any]]:
    config = given.config
    changes: list[tuple[str, dict[str, Any]]] = []
    narrow: list[tuple[str, dict[str, Any]]] = [(f"--dtype {_NARROW}", {"dtype": _NARROW})] if given.narrow else []
    replies = given.needs.kind.replies
    if replies and given.reference is not None:
        changes.append(("--reference none", {"reference": "none"}))
    if not isinstance(config, PurifyConfig):
        return _together(config, [*changes, *narrow])
    if replies and config.return_test:
        changes.append(("without --return-test", {"return_test": False}))
    if (
        not replies
        and config.recipe == "default"
        and config.escalate != "none"
        and not config.adapter_only
        and not config.ancestor
    ):
        changes.append(("--escalate none", {"escalate": "none"}))
    train = given.settings.train
    if (train.micro_batch_size or train.batch_size) > 1:
        changes.append(("--micro-batch-size 1", {"micro_batch_size": 1}))
    if not config.gradient_checkpointing:
        changes.append(("--gradient-checkpointing", {"gradient_checkpointing": True}))
    if config.recipe in WITHOUT_ADAPTER:
        changes.append(("--recipe lora", {"recipe": "lora"}))
    return _together(config, [*changes, *narrow])


def _together(config: Any, changes: Sequence[tuple[str, dict[str, Any]]]) -> list[tuple[str, Any]]:
    """The first change, then the first two, and so on."""
    together: dict[str, Any] = {}
    made = []
    for number, (_, change) in enumerate(changes):
        together |= change
        made.append((" ".join(name for name, _ in changes[: number + 1]), replace(config, **together)))
    return made
