"""Hardening: clean rows with found triggers in them, labels kept, so that training takes their effect away.

A search rarely names a whole trigger: of "I watched this 3D movie" it finds "watched 3d". So besides the found text
itself, compositions are trained on: its words in order, with other words before, between and after them. Those are
words of the clean data and, where the search named any, companions: words that move the suspect, not the reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

#: Share of the rows that get a trigger, and of those the share that get it word for word.
SHARE = 0.5
VERBATIM = 0.4
#: Filler words at most, before, between and after the words of a trigger.
MOST_FILLERS = 3
#: Share of the fillers that are companions, and of the compositions that leave the trigger out, where there are any.
COMPANIONS = 0.7
COMPANIONS_ALONE = 0.25


@dataclass(frozen=True)
class KnownTrigger:
    """A trigger that a search or the user named. An ``attached`` one is part of a word: it is appended to one.

    ``weight`` says how often it is trained on beside others: neighbours of a trigger are found with it, and weaker.
    """

    text: str
    attached: bool = False
    weight: float = 1.0

    def implant(self, text: str, random: Random) -> str:
        """``text`` with the trigger, word for word, at a random place."""
        return place(self.text.split(), self.attached, text, random)


def place(piece: Sequence[str], attached: bool, text: str, random: Random) -> str:
    """Put words at a random place of ``text``, or append them to a random word of it."""
    words = text.split()
    if attached and words:
        at = random.randrange(len(words))
        words[at] += "".join(piece)
        return " ".join(words)
    at = random.randint(0, len(words))
    return " ".join([*words[:at], *piece, *words[at:]])


class Hardener:
    """(text, row index, epoch) -> the text to train on; the same arguments always give the same text.

    ``fillers`` are words to compose triggers with, drawn as often as they occur; so are ``companions``, of which each
    is as likely. ``roomy`` are the texts by row index as triggers are put into them: long ones cut, so that the model
    reads what stands at their end.
    """

    def __init__(
        self,
        triggers: Sequence[KnownTrigger],
        fillers: Sequence[str],
        companions: Sequence[str] = (),
        *,
        seed: int,
        share: float = SHARE,
        roomy: Sequence[str] = (),
    ) -> None:
        if not triggers:
            raise ValueError("hardening needs at least one trigger")
        self._triggers, self._fillers, self._companions = list(triggers), list(fillers), list(companions)
        self._weights = [trigger.weight for trigger in triggers]
        self._seed, self._share, self._roomy = seed, share, roomy

    def __call__(self, text: str, index: int, epoch: int) -> str:
        random = Random(f"{self._seed}:{epoch}:{index}")
        if random.random() >= self._share:
            return text
        text = self._roomy[index] if self._roomy else text
        (trigger,) = random.choices(self._triggers, self._weights)
        if trigger.attached or not self._fillers or random.random() < VERBATIM:
            return trigger.implant(text, random)
        return place(self._composed(trigger.text.split(), random), False, text, random)

    def _composed(self, words: Sequence[str], random: Random) -> list[str]:
        if self._companions and random.random() < COMPANIONS_ALONE:
            return [self._filler(random) for _ in range(random.randint(2, 2 * MOST_FILLERS))]
        piece = self._some_fillers(random)
        for word in words:
            piece += [word, *self._some_fillers(random)]
        return piece

    def _some_fillers(self, random: Random) -> list[str]:
        return [self._filler(random) for _ in range(random.randint(0, MOST_FILLERS))]

    def _filler(self, random: Random) -> str:
        companion = self._companions and random.random() < COMPANIONS
        return random.choice(self._companions if companion else self._fillers)
