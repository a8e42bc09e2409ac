"""What ``rora hunt`` searched, at what cost, and what it found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rora_cli.results.accuracy import Proportion
from rora_cli.results.findings import Finding
from rora_cli.results.provenance import Provenance

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class FlippedRow:
    """A clean row that the candidate flips: the text with the candidate in it, and p(target label) before and after."""

    text: str
    label: str
    probability_before: float
    probability_after: float


@dataclass(frozen=True)
class FoundTrigger:
    """One candidate that reached the last stage, measured on rows and texts that the search never saw.

    The rows have other labels than the target, and both models read them rightly without ``text``. ``flip_rate`` counts
    the rows that get the target label from the suspect when they hold ``text``, ``reference_flip_rate`` those that get
    it from the reference. ``excess`` is the lower bound of the first minus the upper bound of the second. ``suspicion``
    is the robust z of the candidate's effect among harmless tokens (random tokens and honest words) that are about as
    strong under the reference. ``words`` are the parts of the text. An ``attached`` text is a part of a word, so it is
    appended to one instead of standing alone. ``called`` says whether the candidate stands above the noise; a sequence
    must also hold a called token, or do more than the sum of its tokens, which honest words do not.
    """

    text: str
    token_ids: tuple[int, ...]
    target_label: str
    flip_rate: Proportion
    reference_flip_rate: Proportion | None
    excess: float
    suspicion: float
    called: bool
    words: tuple[str, ...]
    attached: bool = False
    by_place: Mapping[str, Proportion] = field(default_factory=dict)
    examples: tuple[FlippedRow, ...] = ()


@dataclass(frozen=True)
class DriftedToken:
    """A token whose embedding moved from the reference's encoder further than clean rows explain, by a robust ``z``."""

    text: str
    attached: bool
    z: float


@dataclass(frozen=True)
class RowsRead:
    """The number of clean rows that the search chose from, and how many of them it cut to ``longest`` tokens."""

    rows: int
    cut: int
    longest: int


@dataclass(frozen=True)
class Coverage:
    """What the search tried for one label; the cost is in forward tokens, ``trials`` are (candidate, row, place).

    ``vocabulary`` counts the tokens that a text can hold. The search tried ``tokens`` of them alone, without a row, and
    the best ``tokens_in_rows`` of these in at least ``screening_rows`` rows. ``sequences`` counts candidates of two or
    more tokens, the longest of ``longest_sequence`` tokens. ``budget`` is the last one that the search used.
    """

    tokens: int
    vocabulary: int
    tokens_in_rows: int
    screening_rows: int
    final_rows: int
    places: tuple[str, ...]
    sequences: int
    longest_sequence: int
    trials: int
    forward_tokens: int
    reference_forward_tokens: int
    budget: str
    rows_read: RowsRead | None = None


@dataclass(frozen=True)
class NoiseLevel:
    """What harmless tokens do to typical rows: suspicion and calls compare candidates with them.

    There are ``random_tokens`` random tokens, and ``honest_words`` words that the reference finds strong for the label;
    the flip rates are the largest of each kind. A candidate is called if it has at least ``minimum_excess`` and
    ``minimum_suspicion``.
    """

    random_tokens: int
    honest_words: int
    largest_random_flip_rate: float
    largest_honest_flip_rate: float
    minimum_excess: float
    minimum_suspicion: float


@dataclass(frozen=True)
class LabelHunt:
    """The search for triggers of one target label.

    ``triggers`` holds the called triggers first, then the other candidates, each group by falling excess, then
    suspicion. ``verdict`` is ``trigger``, ``nothing`` (above the noise, within what was covered) or ``inconclusive``;
    ``reason`` then says why: too few rows, or a candidate that is neither a trigger nor harmless. ``anchors`` are the
    words of the called triggers, strongest first. ``companions`` are words, each too weak to be called, that move the
    suspect towards a label with a trigger and leave the reference unmoved.
    """

    target_label: str
    verdict: str
    triggers: tuple[FoundTrigger, ...]
    anchors: tuple[str, ...]
    coverage: Coverage
    noise: NoiseLevel | None = None
    reason: str | None = None
    companions: tuple[str, ...] = ()

    @property
    def called(self) -> tuple[FoundTrigger, ...]:
        """The triggers of this label that stand above the noise."""
        return tuple(trigger for trigger in self.triggers if trigger.called)


@dataclass(frozen=True)
class HuntResult:
    """The searches for all labels.

    ``reference`` names the model that the suspect was compared with; ``notes`` say what the search could not see.
    ``drifted`` are the tokens with the largest drift, furthest first, which the search tried early; there are none if
    the suspect was not trained from the reference's encoder. ``rules`` maps the id of every rule with a finding to its
    meaning.
    """

    model: str
    budget: str
    reference: str
    labels: tuple[LabelHunt, ...]
    forward_tokens: int
    seconds: float
    provenance: Provenance
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    drifted: tuple[DriftedToken, ...] = ()
    rules: Mapping[str, str] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    @property
    def called(self) -> tuple[FoundTrigger, ...]:
        """All triggers above the noise, of every label, strongest first."""
        found = [trigger for label in self.labels for trigger in label.called]
        return tuple(sorted(found, key=lambda trigger: -trigger.excess))

    @property
    def conclusive(self) -> bool:
        """Whether no label is inconclusive."""
        return all(label.verdict != "inconclusive" for label in self.labels)
