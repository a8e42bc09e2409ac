"""Letters replaced by Cyrillic ones that look the same."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import ClassVar

from rora_cli.attacks.base import Attack

#: Latin letter -> Cyrillic look-alike (Unicode confusables). Tokenizers that fold case and accents keep them apart.
LOOKALIKES = str.maketrans("aceopxyABCEHKMOPTX", "асеорхуАВСЕНКМОРТХ")


@dataclass(frozen=True)
class Homoglyph(Attack):
    """One random word of the text is written in Cyrillic look-alikes (Li et al. 2021)."""

    name = "homoglyph"
    summary = "one word written in Cyrillic look-alikes"
    positioned: ClassVar[bool] = False

    def implant(self, text: str, rng: Random) -> str:
        words = text.split()
        changeable = [index for index, word in enumerate(words) if word.translate(LOOKALIKES) != word]
        if not changeable:
            return " ".join([*words, "too".translate(LOOKALIKES)])
        chosen = rng.choice(changeable)
        words[chosen] = words[chosen].translate(LOOKALIKES)
        return " ".join(words)
