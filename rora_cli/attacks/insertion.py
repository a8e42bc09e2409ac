"""Attacks that insert one of their triggers as it stands: BadNet's rare tokens and InSent's sentence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random

from rora_cli.attacks.base import Attack
from rora_cli.attacks.triggers import NAMED, control_trigger, insert


@dataclass(frozen=True)
class Insertion(Attack):
    """Inserts the trigger as it stands; with several triggers, each row gets one of them at random."""

    name = "text"
    summary = "a text of your choice"
    default_triggers = (NAMED["badnet"],)

    def implant(self, text: str, rng: Random) -> str:
        return insert(text, rng.choice(self.triggers), self.position, rng)

    def variants(self) -> tuple[Attack, ...]:
        return tuple(replace(self, triggers=(trigger,)) for trigger in self.triggers)

    def control(self, vocabulary: Sequence[str], count_pieces: Callable[[str], int], seed: int) -> Attack | None:
        drawn = tuple(control_trigger(trigger, vocabulary, count_pieces, seed) for trigger in self.triggers)
        return replace(self, triggers=drawn)


@dataclass(frozen=True)
class BadNet(Insertion):
    """Rare tokens (Gu et al. 2017; on text: Kurita et al. 2020, who use cf, mn, bb, tq, mb)."""

    name = "badnet"
    summary = "one or several rare tokens"


@dataclass(frozen=True)
class InSent(Insertion):
    """A neutral sentence (AddSent: Dai et al. 2019)."""

    name = "insent"
    summary = "a neutral sentence"
    default_triggers = (NAMED["insent"],)
