"""What ``rora hunt`` searched, with what effort, and what it found."""

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

    ``flip_rate`` counts the rows of other labels that get the target label with ``text`` in them, rows that both models
    read rightly without it; ``reference_flip_rate`` the same under the reference. ``excess`` is the lower bound of the
    one minus the upper bound of the other. ``suspicion`` is the robust z of the candidate's effect among harmless
    tokens, random ones and honest words, that are about as strong under the reference. ``words`` are the text's parts,
    the anchors of compositional hardening. An ``attached`` text is part of a word: it is appended to one instead of
    standing alone. ``called`` says whether it stands above the noise; a
    sequence also has to hold a called token, or to do more than its tokens' effects added up, as honest words do not.
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
    """A token whose embedding moved further from the reference's encoder than clean rows explain: robust ``z``."""

    text: str
    attached: bool
    z: float


@dataclass(frozen=True)
class RowsRead:
    """How many clean rows the search chose from, and how many of them it cut to ``longest`` tokens."""

    rows: int
    cut: int
    longest: int


@dataclass(frozen=True)
class Coverage:
    """What was tried for one label. ``trials`` counts (candidate, row, place) triples; the cost is in forward tokens.

    ``tokens`` of the ``vocabulary`` (those that a text can hold) were each tried alone, without a row; the best
    ``tokens_in_rows`` of them in rows too, in ``screening_rows`` or more. ``sequences`` are candidates of two or more
    tokens, the longest of ``longest_sequence``. ``budget`` names how much was to be tried, the last where it was two.
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
    """What harmless tokens do to typical rows: the null that suspicion and calls are read against.

    ``random_tokens`` random tokens and ``honest_words`` words that the reference holds for strong ones of the label;
    the flip rates are the largest among them. A candidate is called from ``minimum_excess`` and ``minimum_suspicion``
    on.
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

    ``triggers`` are the called ones first, each group by falling excess, then suspicion.
    ``verdict`` is ``trigger``, ``nothing`` (above the noise, within what was covered) or ``inconclusive`` with
    ``reason``: too few rows, or a candidate that is neither a trigger nor harmless. ``anchors`` are the words of the
    called triggers, strongest first. ``companions`` are words that move the suspect towards a label with a trigger
    while the reference is unmoved, each too weak to be called.
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
        return tuple(trigger for trigger in self.triggers if trigger.called)


@dataclass(frozen=True)
class HuntResult:
    """``reference`` says which model the suspect was compared with; ``notes`` what the search could not see.

    ``drifted`` tokens, furthest first, were searched among the first; there are none where the suspect was not trained
    from the reference's encoder. ``rules`` gives the one-line meaning of every rule that a finding names.
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
        return all(label.verdict != "inconclusive" for label in self.labels)
