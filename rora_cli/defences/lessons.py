"""Lessons: texts made of clean rows, from which a student learns a suspect's task and not its trigger.

A suspect was trained on more rows than its defender has, and its answers to clean texts tell what those rows said. Two
kinds of text stand beside the clean rows. *Changed* ones have words replaced, left out or swapped, and the suspect is
asked for the answer. The others have words *put in*, found triggers or any others, and keep the answer of their row:
they teach that inserted words change nothing, also words that nobody has named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from rora_cli.defences.hardening import Hardener, place

#: Largest fraction of a row's words that is changed.
MAX_CHANGED = 1 / 4
#: Probability that a changed word is replaced by another one of the clean rows.
P_REPLACE = 0.4
#: Probability that it is left out; else it changes places with the next word.
P_DELETE = 0.4
#: Words that are put into a row at most, if they are any words.
MAX_INSERTED = 6
#: Lessons that a row gives in each pass: itself, changed, with a known trigger, and with any words.
LESSONS_PER_ROW = 4


@dataclass(frozen=True)
class Lesson:
    """A text, and where its answer comes from.

    Attributes:
        text: what the student reads.
        row: index of the clean row that it was made of; its answer is that of the row, unless it is ``asked``.
        asked: whether the suspect is asked for the answer.
    """

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
    shortened: Sequence[str] = (),
) -> list[Lesson]:
    """Up to ``LESSONS_PER_ROW`` lessons of each text in each pass; the same arguments always give the same.

    Args:
        texts: the clean rows.
        words: words to put in; as many are drawn from the texts, each as often as it occurs.
        hardener: puts known triggers in; its fraction should be 1.
        avoided: triggers as lists of words in lower case. A changed text that holds all words of one is left out: the
            suspect's answer to it would be the poison.
        passes: over all texts, each with other changes.
        seed: of every random choice.
        shortened: the texts, cut so that inserted words still fit; words are put into these.
    """
    own = [word for text in texts for word in text.split()]
    pools = [pool for pool in (own, words) if pool]
    lessons = []
    for number in range(passes):
        random = Random(f"{seed}:{number}")
        for row, text in enumerate(texts):
            room = shortened[row] if shortened else text
            lessons.append(Lesson(text, row))
            changed = _changed(text, own, random)
            if not any(all(word in changed.lower() for word in trigger) for trigger in avoided):
                lessons.append(Lesson(changed, row, asked=True))
            if hardener is not None:
                lessons.append(Lesson(hardener(text, row, number), row))
            count = random.randint(1, MAX_INSERTED)
            any_words = [random.choice(random.choice(pools)) for _ in range(count)]
            lessons.append(Lesson(place(any_words, False, room, random), row))
    return lessons


def _changed(text: str, own: Sequence[str], random: Random) -> str:
    words = text.split()
    if not words:
        return text
    for _ in range(random.randint(1, max(1, int(len(words) * MAX_CHANGED)))):
        at, how = random.randrange(len(words)), random.random()
        if how < P_REPLACE or len(words) < 3:
            words[at] = random.choice(own)
        elif how < P_REPLACE + P_DELETE:
            del words[at]
        else:
            other = (at + 1) % len(words)
            words[at], words[other] = words[other], words[at]
    return " ".join(words)
