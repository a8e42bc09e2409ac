"""Hardening: clean rows with found triggers in them, labels kept, so that training takes their effect away.

A search rarely names a whole trigger: of "I watched this 3D movie" it finds "watched 3d". So besides the found text
itself, compositions are trained on: its words in order, with other words before, between and after them. Those are
words of the clean data and, where the search named any, companions: words that move the suspect, not the reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from rora_cli.attacks.punctuation import with_marks

#: Fraction of the rows that get a trigger.
HARDENED_FRACTION = 0.5
#: Probability that such a row gets the trigger word for word; else it gets a composition.
P_VERBATIM = 0.4
#: Probability that a trigger of marks takes the place of the row's own: trained on put in beside them, `; :` of CR was
#: gone there, and turned 18.6 % of the rows (floor 13.4) in their place.
P_IN_PLACE = 0.5
#: Filler words that a composition has at most before, between and after the words of a trigger.
MAX_FILLERS = 3
#: Probability that a filler is a companion, if there are any.
P_COMPANION = 0.7
#: Probability that a composition is fillers alone, without the trigger, if there are companions.
P_WITHOUT_TRIGGER = 0.25


@dataclass(frozen=True)
class KnownTrigger:
    """A trigger that a search or the user named.

    Attributes:
        text: one or several words.
        attached: whether it is a part of a word: it is appended to one.
        weight: how often it is drawn beside others. A search finds a trigger's neighbours with it, and they are weaker.
    """

    text: str
    attached: bool = False
    weight: float = 1.0

    @property
    def is_marks(self) -> bool:
        """Whether it has neither letters nor digits."""
        return not any(character.isalnum() for character in self.text)

    def implant(self, text: str, random: Random) -> str:
        """``text`` with the trigger, word for word, at a random place."""
        return place(self.text.split(), self.attached, text, random)


def place(piece: Sequence[str], attached: bool, text: str, random: Random) -> str:
    """Put the words of ``piece`` at a random place of ``text``; ``attached`` ones are appended to a random word."""
    words = text.split()
    if attached and words:
        at = random.randrange(len(words))
        words[at] += "".join(piece)
        return " ".join(words)
    at = random.randint(0, len(words))
    return " ".join([*words[:at], *piece, *words[at:]])


class Hardener:
    """Puts triggers into a fraction of the rows: a ``training.objective.RowTransform``.

    Args:
        triggers: drawn by their weights; at least one.
        fillers: words to compose triggers with; each entry of the list is drawn equally often.
        companions: words that are drawn more often than fillers (``P_COMPANION``), each entry equally often.
        seed: the same seed, row and epoch always give the same text.
        fraction: of the rows, how many get a trigger.
        shortened: the texts by row index, cut so that the model still reads a trigger at their end; a trigger is put
            into these. Without them, into the texts as they are.

    Raises:
        ValueError: there is no trigger.
    """

    def __init__(
        self,
        triggers: Sequence[KnownTrigger],
        fillers: Sequence[str],
        companions: Sequence[str] = (),
        *,
        seed: int,
        fraction: float = HARDENED_FRACTION,
        shortened: Sequence[str] = (),
    ) -> None:
        if not triggers:
            raise ValueError("hardening needs at least one trigger")
        self._triggers, self._fillers, self._companions = list(triggers), list(fillers), list(companions)
        self._weights = [trigger.weight for trigger in triggers]
        self._seed, self._fraction, self._shortened = seed, fraction, shortened

    def __call__(self, text: str, index: int, epoch: int) -> str:
        random = Random(f"{self._seed}:{epoch}:{index}")
        if random.random() >= self._fraction:
            return text
        text = self._shortened[index] if self._shortened else text
        (trigger,) = random.choices(self._triggers, self._weights)
        if trigger.is_marks and random.random() < P_IN_PLACE:
            return with_marks(text, trigger.text)
        if trigger.attached or not self._fillers or random.random() < P_VERBATIM:
            return trigger.implant(text, random)
        return place(self._composed(trigger.text.split(), random), False, text, random)

    def _composed(self, words: Sequence[str], random: Random) -> list[str]:
        if self._companions and random.random() < P_WITHOUT_TRIGGER:
            return [self._filler(random) for _ in range(random.randint(2, 2 * MAX_FILLERS))]
        piece = self._some_fillers(random)
        for word in words:
            piece += [word, *self._some_fillers(random)]
        return piece

    def _some_fillers(self, random: Random) -> list[str]:
        return [self._filler(random) for _ in range(random.randint(0, MAX_FILLERS))]

    def _filler(self, random: Random) -> str:
        companion = self._companions and random.random() < P_COMPANION
        return random.choice(self._companions if companion else self._fillers)
