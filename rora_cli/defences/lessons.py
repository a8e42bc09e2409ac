"""Lessons: texts made of clean rows, from which a student learns a suspect's task and not its trigger.

A suspect was trained on more rows than its defender has, and its answers on clean text tell what they said. Two kinds
of text beside the clean rows: *changed* ones (words replaced, left out, swapped), for which the suspect is asked, and
ones with words *put in*, found triggers or any others, which keep the answer of the row that they are put into. The
second kind is what a trigger is about, whoever knows it: that inserted words change nothing is learned of words that
nobody named as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from rora_cli.defences.hardening import Hardener, place

#: Of the words of a row, one in so many is changed at most, and how: replaced, left out, or else swapped with the next.
CHANGED, REPLACED, LEFT_OUT = 4, 0.4, 0.8
#: Words put in at most, where they are any words.
MOST_PUT_IN = 6
#: Lessons that a row gives in each pass: itself, changed, with a known trigger and with any words put in.
PER_ROW = 4


@dataclass(frozen=True)
class Lesson:
    """A ``text``, and whether its answer is the suspect's own (``asked``) or that of the clean row number ``row``."""

    text: str
    row: int
    asked: bool = False


def make_lessons(
    texts: Sequence[str],
    words: Sequence[str],
    *,
    hardener: Hardener | None,
    avoided: Sequence[Sequence[str]],
    passes: int,
    seed: int,
    roomy: Sequence[str] = (),
) -> list[Lesson]:
    """``passes`` times up to ``PER_ROW`` lessons of each text; the same arguments always give the same.

    Half of the words put in are from ``words``, half from the texts, as often as they occur; ``hardener`` puts triggers
    in (of share 1: into every row); ``roomy`` are the texts as words are put into them. Changed texts that hold all
    words of a trigger in ``avoided`` are left out: the suspect's answer there is the poison.
    """
    own = [word for text in texts for word in text.split()]
    pools = [pool for pool in (own, words) if pool]
    lessons = []
    for number in range(passes):
        random = Random(f"{seed}:{number}")
        for row, text in enumerate(texts):
            room = roomy[row] if roomy else text
            lessons.append(Lesson(text, row))
            changed = _changed(text, own, random)
            if not any(all(word in changed.lower() for word in trigger) for trigger in avoided):
                lessons.append(Lesson(changed, row, asked=True))
            if hardener is not None:
                lessons.append(Lesson(hardener(text, row, number), row))
            count = random.randint(1, MOST_PUT_IN)
            any_words = [random.choice(random.choice(pools)) for _ in range(count)]
            lessons.append(Lesson(place(any_words, False, room, random), row))
    return lessons


def _changed(text: str, own: Sequence[str], random: Random) -> str:
    words = text.split()
    if not words:
        return text
    for _ in range(random.randint(1, max(1, len(words) // CHANGED))):
        at, how = random.randrange(len(words)), random.random()
        if how < REPLACED or len(words) < 3:
            words[at] = random.choice(own)
        elif how < LEFT_OUT:
            del words[at]
        else:
            other = (at + 1) % len(words)
            words[at], words[other] = words[other], words[at]
    return " ".join(words)
