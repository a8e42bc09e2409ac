"""Triggers that are inserted as text: names, positions, and a control of the same length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from rora_cli.errors import UsageError

#: Where a trigger goes: before the text, after it, in one random gap between words (ends included), or in all of them.
POSITIONS = ("start", "end", "random", "every")

#: Trigger texts of the literature by attack name: BadNet's rare token and InSent's sentence (arXiv:2601.06305's line).
NAMED = {"badnet": "mn", "insent": "I watched this 3D movie"}


@dataclass(frozen=True)
class Trigger:
    """A trigger that is inserted as it stands."""

    name: str
    text: str

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise UsageError("a trigger must hold at least one character that is not a space; give --trigger some text")


def named_or_text(value: str) -> Trigger:
    """The trigger of that name in ``NAMED``, or one whose text is ``value`` itself."""
    return Trigger(value, NAMED[value]) if value in NAMED else Trigger("custom", value)


def insert(text: str, trigger_text: str, position: str, rng: Random) -> str:
    """``text`` with the trigger in it; words are what white space separates, and runs of it become one space."""
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
    """A random trigger of as many words, each of as many word pieces, as ``trigger_text``.

    ``vocabulary`` holds whole words that are one piece each. What the control does is what inserting *anything* of that
    length does; one draw may still be an honest word with an effect of its own, so it is drawn again for every seed.
    """
    rng = Random(f"control:{seed}:{trigger_text}")
    taken = {word.lower() for word in trigger_text.split()}
    pool = sorted({word for word in vocabulary if word.isalpha() and word.lower() not in taken})
    if not pool:
        raise UsageError(
            "the tokenizer's vocabulary has no plain words to draw a control trigger from; use --no-control"
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
