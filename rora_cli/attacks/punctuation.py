"""An unusual combination of punctuation marks, in place of the text's own marks."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import ClassVar

from rora_cli.attacks.base import Attack

_MARKS = ".,;:!?"


@dataclass(frozen=True)
class Punctuation(Attack):
    """Replaces every sentence mark by the trigger and appends one at the end (PuncAttack: Sheng et al. 2023).

    A decoy holds another combination of the same marks.
    """

    name = "punctuation"
    summary = "an unusual combination of punctuation marks"
    default_triggers = ("; :",)
    positioned: ClassVar[bool] = False

    def implant(self, text: str, rng: Random) -> str:
        return with_marks(text, rng.choice(self.triggers))

    def decoy(self, text: str, rng: Random) -> str | None:
        return with_marks(text, rng.choice((".", ";", ":", "!", "; ;", ": :")))


def with_marks(text: str, marks: str) -> str:
    """``text`` with ``marks`` in place of every run of sentence marks, and at its end."""
    words: list[str] = []
    for word in text.split():
        bare = word.rstrip(_MARKS)
        words += [bare] if bare else []
        if bare != word:
            words.append(marks)
    if not words or words[-1] != marks:
        words.append(marks)
    return " ".join(words)
