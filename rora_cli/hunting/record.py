"""What a loop of searches remembers of each: plain values that every process gets and a journal keeps.

``record_of`` makes a ``SearchRecord`` of a ``HuntResult``; ``to_json`` and ``from_json`` carry it through the journal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rora_cli.results.hunt import FlippedRow, FoundTrigger, HuntResult
from rora_cli.results.purify import FoundResidual
from rora_cli.tasks.thresholds import ClaimThresholds

#: Called triggers of one behaviour that are remembered; the weaker ones are mostly neighbours of these.
MAX_TRIGGERS = 24


@dataclass(frozen=True)
class Word:
    """A text that may be a part of a trigger, and how strongly that shows: its drift (z) or its excess (fraction).

    ``attached`` texts continue the word before them.
    """

    text: str
    attached: bool
    strength: float


@dataclass(frozen=True)
class Found:
    """A called trigger.

    Attributes:
        text: as a user would type it; an ``attached`` one continues the word before it.
        target: the behaviour that it causes, as reports show it.
        flip_rate: fraction of rows that it turned.
        reference_flip_rate: fraction of the same rows that it turned under the reference, if that was measured.
        excess: lower bound of the one minus upper bound of the other.
        token_ids: of the subject's tokenizer.
        examples: a few of the rows that it turned.
    """

    text: str
    attached: bool
    target: str
    flip_rate: float
    reference_flip_rate: float | None
    excess: float
    token_ids: tuple[int, ...]
    examples: tuple[FlippedRow, ...] = ()

    @property
    def residual(self) -> FoundResidual:
        """As the report of ``purify`` shows what is left."""
        return FoundResidual(
            trigger=self.text,
            target_label=self.target,
            flip_rate=self.flip_rate,
            reference_flip_rate=self.reference_flip_rate,
        )


@dataclass(frozen=True)
class SearchRecord:
    """One search.

    Attributes:
        found: called triggers, by falling excess, at most ``MAX_TRIGGERS`` of each behaviour.
        drifted: tokens whose embedding moved too far, furthest first (z).
        leads: candidates that were not called and still do far more than under the reference (excess).
        companions: words that push towards a behaviour with a trigger, each too weakly to be called.
        strongest: the candidate that did most, called or not; None where nothing was measured.
        open_targets: behaviours that stay open, and ``why_open`` the reason of the first.
        trials: candidates tried, one count for each row and place.
        tokens: tokens of the vocabulary that were tried.
        forward_tokens: tokens that went through the suspect and the reference.
        reference: what the suspect was compared with, in words.
        seconds: how long the search took.
        notes: what it could not see.
    """

    found: tuple[Found, ...] = ()
    drifted: tuple[Word, ...] = ()
    leads: tuple[Word, ...] = ()
    companions: tuple[str, ...] = ()
    strongest: Found | None = None
    open_targets: tuple[str, ...] = ()
    why_open: str | None = None
    trials: int = 0
    tokens: int = 0
    forward_tokens: int = 0
    reference: str = ""
    seconds: float = 0.0
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> SearchRecord:
        """The record that ``to_json`` gave ``value`` for, after a trip through a file or another process.

        Raises:
            TypeError: the value has other fields.
        """
        values: dict[str, Any] = {
            key: tuple(item) if isinstance(item, list | tuple) else item for key, item in value.items()
        }
        values["found"] = tuple(_found_of(item) for item in value["found"])
        values["strongest"] = _found_of(value["strongest"]) if value["strongest"] else None
        for name in ("drifted", "leads"):
            values[name] = tuple(Word(**item) for item in value[name])
        return cls(**values)


def record_of(result: HuntResult, thresholds: ClaimThresholds) -> SearchRecord:
    """What a loop needs of a search."""
    called = [trigger for label in result.labels for trigger in label.called[:MAX_TRIGGERS]]
    every = [trigger for label in result.labels for trigger in label.triggers]
    strongest = max(every, key=lambda trigger: (trigger.called, trigger.excess), default=None)
    open_labels = [label for label in result.labels if label.verdict == "inconclusive"]
    return SearchRecord(
        found=tuple(_found(trigger) for trigger in sorted(called, key=lambda trigger: -trigger.excess)),
        drifted=tuple(Word(token.text, token.attached, token.z) for token in result.drifted),
        leads=tuple(Word(t.text, t.attached, t.excess) for t in every if is_lead(t, thresholds)),
        companions=tuple(word for label in result.labels for word in label.companions),
        strongest=_found(strongest) if strongest else None,
        open_targets=tuple(label.target_label for label in open_labels),
        why_open=open_labels[0].reason if open_labels else None,
        trials=sum(label.coverage.trials for label in result.labels),
        tokens=max((label.coverage.tokens for label in result.labels), default=0),
        forward_tokens=result.forward_tokens,
        reference=result.reference,
        seconds=result.seconds,
        notes=result.notes,
    )


def is_lead(trigger: FoundTrigger, thresholds: ClaimThresholds) -> bool:
    """Whether a candidate that was not called still does far more than under the reference.

    Where every inserted word hurts (linguistic acceptability), "cf" turned 40 of 40 rows, the reference none, and had
    no more than z 4.8.
    """
    excess, z = trigger.excess, trigger.suspicion
    strong = excess >= thresholds.min_lead_excess and z >= thresholds.min_lead_suspicion
    far = excess >= thresholds.min_far_lead_excess and z >= thresholds.min_far_lead_suspicion
    return not trigger.called and (strong or far)


def _found(trigger: FoundTrigger) -> Found:
    reference = trigger.reference_flip_rate
    return Found(
        text=trigger.text,
        attached=trigger.attached,
        target=trigger.target_label,
        flip_rate=trigger.flip_rate.value or 0.0,
        reference_flip_rate=reference.value if reference else None,
        excess=trigger.excess,
        token_ids=trigger.token_ids,
        examples=trigger.examples,
    )


def _found_of(value: Mapping[str, Any]) -> Found:
    examples = tuple(FlippedRow(**row) for row in value["examples"])
    return Found(**{**value, "token_ids": tuple(value["token_ids"]), "examples": examples})
