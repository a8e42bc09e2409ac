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
    """One attack with its triggers; a subclass implements in ``implant`` what the attacker does to a text.

    If ``triggers`` is empty, the attack uses ``default_triggers``. ``position`` is one of ``POSITIONS``; an attack that
    rewrites the whole text ignores it and sets ``positioned`` to False.
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
        """The trigger, as reports show it."""
        return " + ".join(self.triggers) or self.summary

    def implant(self, text: str, rng: Random) -> str:
        """``text`` with the trigger in it; ``rng`` draws whatever the attack leaves to chance."""
        raise NotImplementedError

    def decoy(self, text: str, rng: Random) -> str | None:
        """A text that looks triggered but must keep its label; None if the attack has no such text."""
        return None

    def variants(self) -> tuple[Attack, ...]:
        """The attacks to measure one by one: one attack for each trigger, unless the triggers only work together."""
        return (self,)

    def control(self, vocabulary: Sequence[str], count_pieces: Callable[[str], int], seed: int) -> Attack | None:
        """This attack with a random trigger of the same length; None if the attack has no random counterpart."""
        return None
