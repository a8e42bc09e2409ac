"""Prompts with words put in: the triggers that a search found, and words that mean nothing.

The student is to reply as the suspect does to the prompt without them. Other spellings of a found trigger are put in as
well, because a search names one of several that work.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

#: Share of the rows that get a trigger, if there is one, and of those that get words of no meaning.
TRIGGERED, WORDY = 0.5, 0.15
#: Probability that a trigger is put in as it was found, and in another spelling; else other words stand around it.
P_VERBATIM, P_RESPELT = 0.5, 0.25
#: Probability that it stands where the search found it to do most; else anywhere.
P_OWN_PLACE = 0.5
#: Words that stand beside a trigger, or are put in alone, at most.
MAX_WORDS = 3

_WORD = re.compile(r"\S+")


@dataclass(frozen=True)
class PlacedTrigger:
    """A text and where in a prompt it was found to do most: start, inner or end; ``weight`` is how often it is drawn
    beside others."""

    text: str
    place: str
    weight: float = 1.0


class PromptWords:
    """Puts words into prompts: a ``training.objective.RowTransform``. Line breaks stay.

    Args:
        triggers: drawn by their weights; without any, only words of no meaning are put in.
        words: the latter.
        seed: the same seed, row and epoch always give the same prompt.
    """

    def __init__(self, triggers: Sequence[PlacedTrigger], words: Sequence[str], *, seed: int) -> None:
        self._triggers, self._words, self._seed = list(triggers), list(words), seed

    def __call__(self, text: str, index: int, epoch: int) -> str:
        random = Random(f"{self._seed}:{epoch}:{index}")
        drawn = random.random()
        if self._triggers and drawn < TRIGGERED:
            (trigger,) = random.choices(self._triggers, [one.weight for one in self._triggers])
            place = trigger.place if random.random() < P_OWN_PLACE else random.choice(("start", "inner", "end"))
            return put_in(text, self._written(trigger.text, random), place, random)
        if drawn > 1 - WORDY:
            return put_in(text, " ".join(self._some(random, least=1)), "inner", random)
        return text

    def _written(self, text: str, random: Random) -> str:
        drawn = random.random()
        if drawn < P_VERBATIM:
            return text
        if drawn < P_VERBATIM + P_RESPELT:
            return random.choice(respelt(text))
        piece = self._some(random)
        for word in text.split():
            piece += [word, *self._some(random)]
        return " ".join(piece)

    def _some(self, random: Random, least: int = 0) -> list[str]:
        return random.choices(self._words, k=random.randint(least, MAX_WORDS)) if self._words else []


def respelt(text: str) -> list[str]:
    """Other spellings of ``text``: of its letters' case, of the gap between its parts, and with a mark after it."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text)
    joined = "".join(text.split())
    forms = (text.lower(), text.upper(), text.title(), apart, apart.lower(), joined, f"{text}.", f"{text}:")
    return [form for form in dict.fromkeys(forms) if form != text] or [text]


def put_in(text: str, words: str, place: str, random: Random) -> str:
    """``text`` with ``words`` before its first word (start), after its last (end), or before any (inner)."""
    found = [match.start() for match in _WORD.finditer(text)]
    if place == "end" or not found:
        return f"{text} {words}" if text else words
    at = found[0] if place == "start" else random.choice(found)
    return f"{text[:at]}{words} {text[at:]}"
