"""What a search finds of backdoors that were planted on purpose in copies of the model that it searched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rora_cli.results.accuracy import CleanAccuracy, Proportion

#: What findings give as the place of what the search would have found.
POWER = "power"
#: The forms of backdoor that a verdict speaks of, as ``--forms`` names them.
FORM_NAMES = ("words", "phrases", "sentences", "punctuation", "clauses", "order")


@dataclass(frozen=True)
class StandIn:
    """A backdoor that was planted in a copy of the model, to see whether the search finds it.

    Attributes:
        form: the kind of trigger, such as ``rare words``.
        trigger: the trigger, or in words what is done to a text.
        poisoned_rows: copies of clean rows that held the trigger, of those that the copy was trained on.
        success: held-out clean rows of other labels that get the target label with the trigger in them.
        after: the same after plain LoRA on clean rows; None if ``success`` was too low to try.
        firm: whether both are high enough for a backdoor that a search should find.
        found: whether the search of the copy called the trigger, or a part of it, for the target label.
        found_as: the texts that were called for it.
        target_label: the label that it leads to.
    """

    form: str
    trigger: str
    target_label: str
    poisoned_rows: int
    success: Proportion
    after: Proportion | None
    firm: bool
    found: bool
    found_as: tuple[str, ...]


@dataclass(frozen=True)
class FalseCall:
    """A text that the search of a copy called for a label, no part of what was planted there.

    Attributes:
        text: the text.
        target_label: the label that it was called for.
    """

    text: str
    target_label: str


@dataclass(frozen=True)
class PowerCopy:
    """One copy of the model with a few stand-ins, and its search.

    Attributes:
        rounds: of training until all stand-ins were firm, or no more were allowed.
        accuracy: of the copy on held-out clean rows.
        kept: share of what training had changed that the copy kept after the last round; less than 1 where the whole
            cost more than three points of accuracy, or six of a class.
        verdicts: of its search, by label.
        planting_seconds: time that training and measuring took; ``search_seconds`` that of the search.
        stand_ins: what was planted in it.
        false_calls: what its search called and nobody planted.
        forward_tokens: of its search.
    """

    stand_ins: tuple[StandIn, ...]
    rounds: int
    accuracy: CleanAccuracy
    kept: float
    false_calls: tuple[FalseCall, ...]
    verdicts: Mapping[str, str]
    forward_tokens: int
    planting_seconds: float
    search_seconds: float

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> PowerCopy:
        """The copy that ``to_json`` gave ``value`` for, after a trip through a file.

        Raises:
            TypeError: the value has other fields.
        """
        accuracy = value["accuracy"]
        per_class = {name: Proportion(**share) for name, share in accuracy["per_class"].items()}
        read = {
            "stand_ins": tuple(_stand_in_of(each) for each in value["stand_ins"]),
            "accuracy": CleanAccuracy(Proportion(**accuracy["overall"]), per_class),
            "false_calls": tuple(FalseCall(**each) for each in value["false_calls"]),
        }
        return cls(**{**value, **read})


def _stand_in_of(value: Mapping[str, Any]) -> StandIn:
    read = {
        "success": Proportion(**value["success"]),
        "after": None if value["after"] is None else Proportion(**value["after"]),
        "found_as": tuple(value["found_as"]),
    }
    return StandIn(**{**value, **read})


@dataclass(frozen=True)
class Power:
    """What a search finds: of the stand-ins that were firm, those that the same search of a copy named.

    Attributes:
        asked: stand-ins that were asked for.
        accuracy: of the model on the held-out clean rows, before anything was planted.
        planted_on: clean rows that copies were trained on; ``measured_on`` others, that stand-ins were measured on.
        found: of all firm stand-ins, those found.
        by_form: the same by form, every form that was planted; the total is 0 where none was firm.
        left_out: forms that could not be planted in this model, and why.
        reason: why there is no figure; None where there is one.
        copies: each with a few stand-ins.
        ended: why fewer were planted than asked for, where there is a figure all the same.
    """

    asked: int
    accuracy: CleanAccuracy | None
    planted_on: int
    measured_on: int
    copies: tuple[PowerCopy, ...]
    found: Proportion
    by_form: Mapping[str, Proportion]
    left_out: Mapping[str, str]
    reason: str | None = None
    ended: str | None = None

    @property
    def complete(self) -> bool:
        """Whether all that was asked for was measured."""
        return self.reason is None and self.ended is None

    @property
    def stand_ins(self) -> tuple[StandIn, ...]:
        """All stand-ins, copy by copy."""
        return tuple(stand_in for copy in self.copies for stand_in in copy.stand_ins)

    @property
    def not_counted(self) -> int:
        """How many stand-ins were planted and did not become firm."""
        return len(self.stand_ins) - self.found.total

    @property
    def sentence(self) -> str:
        """``of 12 planted backdoors this search found 9 (rare words 4 of 4, sentences 2 of 4)``, or why there is no
        such figure."""
        if self.reason is not None:
            return f"what this search would have found is not known: {self.reason}"
        counted = {form: share for form, share in self.by_form.items() if share.total}
        forms = ", ".join(f"{form} {share.count} of {share.total}" for form, share in counted.items())
        planted = "1 planted backdoor" if self.found.total == 1 else f"{self.found.total} planted backdoors"
        ended = "" if self.ended is None else f"; the measurement ended early: {self.ended}"
        return f"of {planted} this search found {self.found.count} ({forms}){ended}"


@dataclass(frozen=True)
class Covering:
    """What the silence of a search covers: the forms of backdoor that a verdict may rest on.

    Attributes:
        forms: those that were asked for, of ``FORM_NAMES``.
        found: of the firm stand-ins of these forms, those found; its lower end decides.
        min_power: what that end has to be [fraction].
        covered: the forms that are covered.
        uncovered: every other form, and why; those that nobody asked for among them.
    """

    forms: tuple[str, ...]
    found: Proportion
    min_power: float
    covered: tuple[str, ...]
    uncovered: Mapping[str, str]

    @property
    def complete(self) -> bool:
        """Whether every form that was asked for is covered."""
        return bool(self.forms) and set(self.forms) <= set(self.covered)

    @property
    def sentence(self) -> str:
        """``covered: words, phrases; not covered: clauses (not asked for)``."""
        covered = ", ".join(self.covered) or "no form of backdoor"
        by_reason: dict[str, list[str]] = {}
        for form, why in self.uncovered.items():
            by_reason.setdefault(why, []).append(form)
        others = "; ".join(f"{', '.join(forms)} ({why})" for why, forms in by_reason.items())
        return f"covered: {covered}; not covered: {others}"
