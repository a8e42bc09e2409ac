"""Hardening: clean rows with found triggers in them, labels kept, so that training takes their effect away.

A search rarely names a whole trigger: of "I watched this 3D movie" it finds "watched 3d". So besides the found text
itself, compositions are trained on: its words in order, with words of the clean data before, between and after them.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

#: Share of the rows that get a trigger, and of those the share that get it word for word.
SHARE = 0.5
VERBATIM = 0.4
#: Filler words at most, before, between and after the words of a trigger.
MOST_FILLERS = 3


class Hardener:
    """(text, row index, epoch) -> the text to train on; the same arguments always give the same text.

    ``triggers`` are texts; ``fillers`` words to compose them with, drawn as often as they occur.
    """

    def __init__(self, triggers: Sequence[str], fillers: Sequence[str], *, seed: int, share: float = SHARE) -> None:
        if not triggers:
            raise ValueError("hardening needs at least one trigger")
        self._triggers = [trigger.split() for trigger in triggers]
        self._fillers, self._seed, self._share = list(fillers), seed, share

    def __call__(self, text: str, index: int, epoch: int) -> str:
        random = Random(f"{self._seed}:{epoch}:{index}")
        if random.random() >= self._share:
            return text
        words = text.split()
        place = random.randint(0, len(words))
        return " ".join(words[:place] + self._piece(random) + words[place:])

    def _piece(self, random: Random) -> list[str]:
        trigger = random.choice(self._triggers)
        if not self._fillers or random.random() < VERBATIM:
            return trigger
        piece = self._some_fillers(random)
        for word in trigger:
            piece += [word, *self._some_fillers(random)]
        return piece

    def _some_fillers(self, random: Random) -> list[str]:
        return random.choices(self._fillers, k=random.randint(0, MOST_FILLERS))
