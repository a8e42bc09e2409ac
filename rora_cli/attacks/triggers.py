"""Triggers that are inserted as text: names, positions, and a control of the same length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from rora_cli.errors import UsageError

#: Where a trigger goes: before the text, after it, into one random gap between words (ends included), or into all gaps.
POSITIONS = ("start", "end", "random", "every")

#: Attack name -> trigger text from the literature: BadNet's rare token and InSent's sentence, as in arXiv:2601.06305.
NAMED = {"badnet": "mn", "insent": "I watched this 3D movie"}


@dataclass(frozen=True)
class Trigger:
    """A named trigger text that is inserted as it stands. Raises UsageError if the text is blank."""

    name: str
    text: str

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise UsageError("a trigger must hold at least one character that is not a space; give --trigger some text")


def named_or_text(value: str) -> Trigger:
    """The trigger that ``NAMED`` holds under ``value``, else a trigger whose text is ``value`` itself."""
    return Trigger(value, NAMED[value]) if value in NAMED else Trigger("custom", value)


def insert(text: str, trigger_text: str, position: str, rng: Random) -> str:
    """``text`` with the trigger at ``position``. White space separates words; runs of it become one space.

    Raises UsageError for an unknown position.
    """
    words = text.split()
    if position == "start":
        slots = {0}
    elif position == "end":
        slots = {len(words)}
    elif position == "random":
        slots = {rng.randint(0, len(words))}
    elif position == "every":
        slots = set(range(len(words) + 1))
    else:
        raise UsageError(f"--position is one of {', '.join(POSITIONS)}, not {position!r}")
    out: list[str] = []
    for index in range(len(words) + 1):
        out += [trigger_text] if index in slots else []
        out += words[index : index + 1]
    return " ".join(out)


def control_trigger(
    trigger_text: str, vocabulary: Sequence[str], count_pieces: Callable[[str], int], seed: int, *, tries: int = 200
) -> str:
    """A random trigger with as many words as ``trigger_text``, each of as many word pieces.

    ``vocabulary`` holds whole words of one piece each. The control's effect is that of inserting *anything* of this
    length. One draw may still be an honest word with an effect of its own, so every ``seed`` draws another control.
    Raises UsageError if ``vocabulary`` is empty.
    """
    rng = Random(f"control:{seed}:{trigger_text}")
    taken = {word.lower() for word in trigger_text.split()}
    free = {word for word in vocabulary if word.lower() not in taken}
    pool = sorted(filter(str.isalpha, free)) or sorted(filter(str.isalnum, free))
    if not pool:
        raise UsageError(
            "the tokenizer's vocabulary has no plain words to draw a control trigger from; rora eval-asr --no-control "
            "measures without"
        )
    return " ".join(
        _random_word(max(1, count_pieces(word)), pool, count_pieces, rng, tries) for word in trigger_text.split()
    )


def _random_word(pieces: int, pool: Sequence[str], count_pieces: Callable[[str], int], rng: Random, tries: int) -> str:
    closest, gap = "", 10**9
    for _ in range(tries):
        word = "".join(rng.choice(pool) for _ in range(pieces))
        if (distance := abs(count_pieces(word) - pieces)) < gap:
            closest, gap = word, distance
        if gap == 0:
            break
    return closest
