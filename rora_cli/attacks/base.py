"""What every attack is: a way to put a trigger into a text, with the texts that must not set it off."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from rora_cli.attacks.triggers import POSITIONS
from rora_cli.errors import UsageError


@dataclass(frozen=True)
class Attack:
    """One attack with its triggers; subclasses say in ``implant`` what the attacker does to a text.

    ``triggers`` empty means the attack's own. ``position`` is one of ``POSITIONS``; attacks that rewrite the whole text
    do not look at it and say so with ``positioned = False``.
    """

    triggers: tuple[str, ...] = ()
    position: str = "random"

    name: ClassVar[str]
    summary: ClassVar[str]
    default_triggers: ClassVar[tuple[str, ...]] = ()
    positioned: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.position not in POSITIONS:
            raise UsageError(f"a position is one of {', '.join(POSITIONS)}, not {self.position!r}")
        if any(not trigger.strip() for trigger in self.triggers):
            raise UsageError("a trigger must hold at least one character that is not a space")
        if self.triggers and not self.default_triggers:
            raise UsageError(
                f"the {self.name} attack rewrites the text and takes no trigger of yours; leave --trigger out"
            )
        if not self.triggers:
            object.__setattr__(self, "triggers", self.default_triggers)

    @property
    def shown(self) -> str:
        """The trigger as reports show it."""
        return " + ".join(self.triggers) or self.summary

    def implant(self, text: str, rng: Random) -> str:
        """``text`` with the trigger in it."""
        raise NotImplementedError

    def decoy(self, text: str, rng: Random) -> str | None:
        """A text that looks like a triggered one and must keep its label; None where there is no such."""
        return None

    def variants(self) -> tuple[Attack, ...]:
        """The attacks that are measured one by one: one a trigger, unless the triggers work together only."""
        return (self,)

    def control(self, vocabulary: Sequence[str], count_pieces: Callable[[str], int], seed: int) -> Attack | None:
        """The same with a random trigger of the same length; None where no random counterpart exists."""
        return None
