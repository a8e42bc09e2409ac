"""Options that several commands have: where data comes from, where work runs, what is written over.

A command's config inherits from the groups that it needs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from rora_cli.errors import UsageError
from rora_cli.options import POINTS, Option, Options
from rora_cli.results.verdict import FAIL_ON

#: Number types that a model or an adapter can be loaded in or written in.
DTYPES = ("float32", "bfloat16", "float16")
#: How conversations are written for a causal language model: by its own chat template, or as a known format.
AUTO_FORMAT = "auto"
PROMPT_FORMATS = (AUTO_FORMAT, "plain", "chatml", "llama3", "gemma", "mistral")
#: The type that a checkpoint itself has.
OWN_DTYPE = "auto"
#: Headings of the help page.
DATA = "Data: how columns and labels are read, and how much is used"
RUN = "Run: where and how the work is done"
GATE = "Gate: what makes the command fail"
OUTPUT = "Output: what is written, and where"


def label_pairs(pairs: Sequence[str]) -> dict[str, str] | None:
    """``DATA=MODEL`` pairs as a mapping, or None if there are none; ``DATA=`` leaves the rows of that label out.

    Raises:
        UsageError: a pair has another form.
    """
    mapping = {}
    for pair in pairs:
        data, equals, model = pair.rpartition("=") if pair.endswith("=") else pair.partition("=")
        if not equals or not data:
            raise UsageError(f"--label-map {pair!r} is not of the form LABEL_IN_THE_DATA=LABEL_OF_THE_MODEL")
        mapping[data] = model
    return mapping or None


@dataclass(frozen=True, kw_only=True)
class DataOptions(Options):
    """How the columns and labels of a data set are read."""

    panel: ClassVar[str] = DATA

    text_column: Annotated[str | None, Option("Column of the text.", metavar="NAME", shown="by convention")] = None
    label_column: Annotated[str | None, Option("Column of the label.", metavar="NAME", shown="by convention")] = None
    label_map: Annotated[
        Mapping[str, str] | None,
        Option(
            "A label of the data and the model's name for it; nothing after the = leaves its rows out. Repeatable.",
            metavar="DATA=MODEL",
            read=label_pairs,
        ),
    ] = None
    data_revision: Annotated[str | None, Option("Branch, tag or commit of a data set on the hub.", metavar="REV")] = (
        None
    )


@dataclass(frozen=True, kw_only=True)
class SplitOptions(DataOptions):
    """How data is read that has rows to train on and rows to measure on."""

    panel: ClassVar[str] = DATA

    max_train_rows: Annotated[
        int | None, Option("Train on a sample of this many rows, seeded and stratified.", metavar="N", low=1)
    ] = None
    max_held_out_rows: Annotated[
        int | None, Option("Measure on a sample of this many rows, seeded and stratified.", metavar="N", low=1)
    ] = None


@dataclass(frozen=True, kw_only=True)
class FormatOption(Options):
    """How conversations are written for a causal language model."""

    panel: ClassVar[str] = DATA

    prompt_format: Annotated[
        str,
        Option("Format of a causal model's conversations; auto is its chat template.", choices=PROMPT_FORMATS),
    ] = AUTO_FORMAT


@dataclass(frozen=True, kw_only=True)
class PromptOptions(FormatOption):
    """How prompts and answers are read and written for a causal language model."""

    panel: ClassVar[str] = DATA

    answer_column: Annotated[
        str | None,
        Option("Column of the answer to the prompt in --text-column.", metavar="NAME", shown="by convention"),
    ] = None
    show_row: Annotated[bool, Option("Show a row as the model reads it, with the tokens that count.")] = False


@dataclass(frozen=True, kw_only=True)
class HubOptions(Options):
    """What is fetched from the hub."""

    panel: ClassVar[str] = RUN

    revision: Annotated[str | None, Option("Branch, tag or commit of a model on the hub.", metavar="REV")] = None
    offline: Annotated[bool, Option("Never reach for the network: local paths and the hub's cache only.")] = False


@dataclass(frozen=True, kw_only=True)
class RunOptions(HubOptions):
    """Where the work is done."""

    panel: ClassVar[str] = RUN

    device: Annotated[str, Option("auto (a GPU where there is one), cpu or cuda.")] = "auto"


@dataclass(frozen=True, kw_only=True)
class ProcessOptions(RunOptions):
    """In how many processes the work is done."""

    panel: ClassVar[str] = RUN

    num_processes: Annotated[
        int, Option("Processes on this machine: one a GPU, or several on CPUs.", metavar="N", low=1)
    ] = 1


@dataclass(frozen=True, kw_only=True)
class HeldOptions(Options):
    """In what form a model is held in memory."""

    panel: ClassVar[str] = RUN

    dtype: Annotated[
        str | None,
        Option(
            "Number type in which the model is held; auto is its checkpoint's own. What is trained is float32 in any "
            "case.",
            choices=(*DTYPES, OWN_DTYPE),
            shown="auto on a GPU, float32 on a CPU",
        ),
    ] = None
    load_in_4bit: Annotated[
        bool,
        Option(
            "Hold the linear layers in 4 bits (NF4, by bitsandbytes: the extra 4bit), in one process; an update is "
            "merged into the original weights."
        ),
    ] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.load_in_4bit and getattr(self, "num_processes", 1) > 1:
            raise UsageError("--load-in-4bit works in one process: leave out --num-processes, or --load-in-4bit")

    @property
    def held(self) -> dict[str, Any]:
        """What ``load_classifier`` is told about it."""
        return {"dtype": self.dtype, "in_4bit": self.load_in_4bit}


@dataclass(frozen=True, kw_only=True)
class PowerOption(Options):
    """What a search that finds nothing is worth."""

    panel: ClassVar[str] = RUN

    power: Annotated[
        int,
        Option(
            "Plant N backdoors of our own in copies of a classifier, in memory, search the copies in the same way, and "
            "report how many were found, by form; 12 are a good number, three share a copy. 0: off.",
            metavar="N",
            low=0,
        ),
    ] = 0


@dataclass(frozen=True, kw_only=True)
class CandidatesOption(Options):
    """Which texts a search of a causal model tries."""

    panel: ClassVar[str] = RUN

    candidates: Annotated[
        Path | None,
        Option(
            "Texts to search, one a line, in place of all that a causal model's search tries: minutes, where a whole "
            "vocabulary takes an hour. What does not stand there is not searched, but as a phrase of texts that do.",
            metavar="FILE",
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class SeedOption(Options):
    """Chance, and how to repeat it."""

    panel: ClassVar[str] = RUN

    seed: Annotated[int, Option("Seed of everything random.", low=0)] = 0


@dataclass(frozen=True, kw_only=True)
class ForceOption(Options):
    """Whether an output that is there is written over."""

    panel: ClassVar[str] = OUTPUT

    force: Annotated[bool, Option("Replace the output, whole, if it exists.")] = False


@dataclass(frozen=True, kw_only=True)
class GateOptions(Options):
    """Which findings a gate does not count."""

    panel: ClassVar[str] = GATE

    ignore: Annotated[
        tuple[str, ...],
        Option("A rule whose findings do not count (`rora rules` lists them). Repeatable.", metavar="RULE"),
    ] = ()
    baseline: Annotated[
        Path | None,
        Option("A JSON report of an earlier run: what it found already does not count.", metavar="FILE"),
    ] = None
    policy: Annotated[
        Path | None,
        Option("A file, say rora.toml: severities of your own, and findings to ignore, with reasons.", metavar="FILE"),
    ] = None


@dataclass(frozen=True, kw_only=True)
class SeverityGate(GateOptions):
    """The severity at which findings make a command fail."""

    panel: ClassVar[str] = GATE

    fail_on: Annotated[str, Option("Lowest severity that gives exit code 1.", choices=tuple(FAIL_ON))] = "medium"


@dataclass(frozen=True, kw_only=True)
class AccuracyLimit(Options):
    """How much clean accuracy a change may cost."""

    max_accuracy_drop: Annotated[
        float,
        Option(
            "Points of clean accuracy that may be lost; one class may lose twice that.",
            metavar="POINTS",
            low=0,
            high=100,
            unit=POINTS,
        ),
    ] = 1.0

    @property
    def allowed_drop(self) -> float:
        """``max_accuracy_drop`` as a fraction of 1."""
        return self.max_accuracy_drop / 100
