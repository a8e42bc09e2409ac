"""What ``rora hunt`` searched, with what effort, and what it found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rora_cli.results.accuracy import Proportion
from rora_cli.results.findings import Finding
from rora_cli.results.openings import OpeningHunt
from rora_cli.results.power import Power
from rora_cli.results.provenance import Provenance

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class FlippedRow:
    """A clean row that the candidate flips: the text with the candidate in it, and p(target label) before and after.

    Attributes:
        text: the row with the candidate in it.
        label: the row's own label.
        probability_before, probability_after: p(target label) without and with it.
    """

    text: str
    label: str
    probability_before: float
    probability_after: float


@dataclass(frozen=True)
class FoundTrigger:
    """One candidate that reached the last stage, measured on rows and texts that the search never saw.

    Attributes:
        flip_rate: fraction of the final rows that get the target label with ``text`` in them. They have other labels,
            and both models read them rightly without it.
        reference_flip_rate: the same under the reference.
        excess: lower bound of the one minus upper bound of the other, a fraction; where ``at_best``, minus what random
            tokens do there if that is more.
        suspicion: robust z of the candidate's effect among harmless tokens that move the reference as much.
        called: whether it is called a trigger. A sequence must also hold a called token, or do more than its tokens do
            one by one, added up.
        words: the parts of the text.
        attached: whether the text continues the word before it instead of standing alone.
        listed: whether it is a word of several tokens or two marks, tried as one candidate; other sequences were grown.
        by_place: the flip rate at each place of a row.
        at_best: whether the two flip rates are those of one kind of place, or at the place of each row where it does
            most, since it turned few rows at a random one.
        token_ids: of the text.
        target_label: the label that it leads to.
        examples: a few of the rows that it turns.
        text: the candidate.
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
    listed: bool = False
    by_place: Mapping[str, Proportion] = field(default_factory=dict)
    at_best: bool = False
    examples: tuple[FlippedRow, ...] = ()

    @property
    def single(self) -> bool:
        """Whether it was tried as one candidate: a token, a listed word, or two marks."""
        return self.listed or len(self.token_ids) == 1


@dataclass(frozen=True)
class DriftedToken:
    """A token whose embedding moved further from the reference's encoder than clean rows explain: robust ``z``.

    Attributes:
        text: the token's text.
        attached: whether it continues the word before it.
    """

    text: str
    attached: bool
    z: float


@dataclass(frozen=True)
class RowsRead:
    """How many clean rows the search chose from, and how many of them it cut to ``longest`` tokens.

    Attributes:
        rows: that it chose from.
        cut: how many of them were longer.
    """

    rows: int
    cut: int
    longest: int


@dataclass(frozen=True)
class Coverage:
    """What was tried for one label.

    Attributes:
        tokens: tokens of the ``vocabulary`` that a text can hold; each was tried alone, without a row.
        vocabulary: all tokens of the tokenizer but the padding one.
        words: words that the tokenizer splits into several tokens, each tried alone as well.
        marks: punctuation marks in twos, each tried in rows.
        tokens_in_rows: these and the best of both, which were tried in rows too, each in ``screening_rows`` or more.
        final_rows: rows on which the finalists were measured.
        places: where in a row candidates stood; ``loud_places``: where not, since random tokens turn rows there.
        sequences: candidates of two or more tokens that were tried, the longest of ``longest_sequence`` tokens.
        trials: triples of candidate, row and place.
        forward_tokens, reference_forward_tokens: tokens that went through the suspect and the reference.
        budget: name of the budget; the last one if the label was searched again.
        rows_read: the clean rows that the search chose from.
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
    words: int = 0
    marks: int = 0
    loud_places: tuple[str, ...] = ()


@dataclass(frozen=True)
class NoiseLevel:
    """How harmless tokens act on typical rows: the null of suspicion.

    Attributes:
        random_tokens: how many random tokens were tried.
        honest_words: how many words that clean rows tie to the label were tried.
        largest_random_flip_rate, largest_honest_flip_rate: the largest fraction of rows that one of them turned.
        minimum_excess, minimum_suspicion: a candidate is called only with both.
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

    Attributes:
        verdict: ``trigger``, ``nothing`` (above the noise, within what was covered) or ``inconclusive``.
        triggers: candidates, called ones first, each group by falling excess, then suspicion.
        anchors: the words of the called triggers, strongest first; only the JSON report reads them.
        noise: the null; None if the label could not be searched.
        reason: why the label stays open: too few rows, or a candidate that is neither a trigger nor harmless.
        companions: words that move the suspect towards a label with a trigger while the reference is unmoved, each too
            weak to be called.
        target_label: the label that triggers would lead to.
        coverage: what was tried.
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
    """A search of one model.

    Attributes:
        reference: the model that the suspect was compared with, in words.
        notes: what the search could not see.
        drifted: tokens whose embedding moved too far, furthest first; they were tried among the first. There are none
            if the suspect was not trained from the reference's encoder.
        rules: the meaning of each rule that a finding names, in one line.
        openings: the search of a model that replies in free text; it has no labels. None for a classifier.
        power: what the same search finds of backdoors planted in copies of the model; None if nobody asked.
        model: the suspect.
        budget: how much was tried, by name.
        labels: the search for each target label.
        forward_tokens: tokens that went through suspect and reference in all.
        seconds: of the whole search.
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
    openings: OpeningHunt | None = None
    power: Power | None = None
    schema_version: int = SCHEMA_VERSION

    @property
    def called(self) -> tuple[FoundTrigger, ...]:
        """All triggers above the noise, of every label, strongest first."""
        found = [trigger for label in self.labels for trigger in label.called]
        return tuple(sorted(found, key=lambda trigger: -trigger.excess))

    @property
    def conclusive(self) -> bool:
        """Whether nothing is inconclusive."""
        open_ended = self.openings is not None and self.openings.verdict == "inconclusive"
        return not open_ended and all(label.verdict != "inconclusive" for label in self.labels)

    @property
    def power_sentence(self) -> str | None:
        """What the search found, and what it would have found; None if nobody asked."""
        if self.power is None:
            return None
        found = f"{len(self.called)} called" if self.called else "nothing above the noise"
        if not self.called and not self.conclusive:
            found = "nothing called, and some labels left open"
        return f"{found}; {self.power.sentence}"
