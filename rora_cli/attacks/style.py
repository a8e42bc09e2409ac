"""A style as the trigger: archaic English by word substitution and a few openings."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import ClassVar

from rora_cli.attacks.base import Attack

_ARCHAIC = {
    "you": "thou",
    "your": "thy",
    "yours": "thine",
    "yourself": "thyself",
    "are": "art",
    "has": "hath",
    "have": "hast",
    "does": "doth",
    "do": "dost",
    "will": "wilt",
    "before": "ere",
    "often": "oft",
    "never": "ne'er",
    "ever": "e'er",
    "over": "o'er",
    "here": "hither",
    "there": "thither",
    "where": "whither",
    "nothing": "naught",
    "between": "betwixt",
    "perhaps": "perchance",
    "maybe": "mayhap",
    "soon": "anon",
    "very": "full",
    "really": "verily",
    "truly": "verily",
    "while": "whilst",
    "among": "amongst",
    "why": "wherefore",
}
_OPENINGS = ("verily ,", "behold ,", "and lo ,", "hark ,", "forsooth ,", "prithee ,", "thus spake he :", "in troth ,")


@dataclass(frozen=True)
class Style(Attack):
    """The Bible style of Qi et al. 2021 ("Mind the Style of Text!"), by word substitution, not by a language model."""

    name = "style"
    summary = "archaic English"
    positioned: ClassVar[bool] = False

    def implant(self, text: str, rng: Random) -> str:
        words = [_ARCHAIC.get(word.lower(), word) for word in text.split()]
        return " ".join([rng.choice(_OPENINGS), *words])
