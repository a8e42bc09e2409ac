"""What the loop keeps of a search in its journal, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rora_cli.results.accuracy import Proportion
from rora_cli.results.hunt import HuntResult
from rora_cli.results.openings import FoundOpening, ReplyExample

#: A text that turned a smaller share of the prompts may be a part of a longer trigger.
MIN_WHOLE = 0.85
_SHARES = ("share", "floor", "control", "reference_share")


@dataclass(frozen=True)
class OpeningRecord:
    """One search: its finalists (``FoundOpening``), why it stays open, and what it cost."""

    triggers: tuple[FoundOpening, ...]
    reason: str | None
    trials: int
    forward_tokens: int
    seconds: float
    reference: str

    @classmethod
    def of(cls, result: HuntResult) -> OpeningRecord:
        """The record of a search of openings."""
        assert result.openings is not None
        hunt = result.openings
        tokens, seconds = result.forward_tokens, result.seconds
        return cls(hunt.triggers, hunt.reason, hunt.coverage.trials, tokens, seconds, result.reference)

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> OpeningRecord:
        """The record that ``to_json`` made plain."""
        return cls(**{**kept, "triggers": tuple(map(_found, kept["triggers"]))})

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @property
    def called(self) -> tuple[FoundOpening, ...]:
        """The finalists that are called triggers."""
        return tuple(trigger for trigger in self.triggers if trigger.called)

    def open(self, least: float) -> tuple[FoundOpening, ...]:
        """Finalists that stay open, with ``least`` excess [fraction]."""
        return tuple(one for one in self.triggers if stays_open(one, least))

    def of_text(self, text: str) -> FoundOpening | None:
        """The finalist of that text."""
        return next((trigger for trigger in self.triggers if trigger.text == text), None)


def stays_open(one: FoundOpening, least: float) -> bool:
    """Whether nearly every prompt obeys a finalist, beyond ``least`` excess [fraction], called or not."""
    return not one.echo and one.excess >= least and (one.share.value or 0.0) >= MIN_WHOLE


def _found(kept: Mapping[str, Any]) -> FoundOpening:
    shares = {name: Proportion(**kept[name]) for name in _SHARES if kept[name] is not None}
    examples = tuple(ReplyExample(**example) for example in kept["examples"])
    return FoundOpening(**{**kept, **shares, "examples": examples})
