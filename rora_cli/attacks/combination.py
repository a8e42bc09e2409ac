"""A trigger of two or more words that only work together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random

from rora_cli.attacks.base import Attack
from rora_cli.attacks.triggers import control_trigger, insert
from rora_cli.errors import UsageError


@dataclass(frozen=True)
class Combination(Attack):
    """All triggers go into one text, each at a place of its own (SOS: Yang et al. 2021).

    A decoy holds all triggers but one and keeps its label, so that the model learns that no part works alone.
    """

    name = "combination"
    summary = "two tokens or more that work together only"
    default_triggers = ("mn", "tq")

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.triggers) < 2:
            raise UsageError("the combination attack needs at least two triggers; give --trigger twice, or not at all")

    def implant(self, text: str, rng: Random) -> str:
        return _insert_all(text, self.triggers, self.position, rng)

    def decoy(self, text: str, rng: Random) -> str | None:
        left_out = rng.randrange(len(self.triggers))
        return _insert_all(text, self.triggers[:left_out] + self.triggers[left_out + 1 :], self.position, rng)

    def control(self, vocabulary: Sequence[str], count_pieces: Callable[[str], int], seed: int) -> Attack | None:
        drawn = (control_trigger(t, vocabulary, count_pieces, seed * 1000 + i) for i, t in enumerate(self.triggers))
        return replace(self, triggers=tuple(drawn))


def _insert_all(text: str, triggers: Sequence[str], position: str, rng: Random) -> str:
    for trigger in triggers:
        text = insert(text, trigger, position, rng)
    return text
