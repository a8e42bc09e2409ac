"""The forms of backdoor that are planted, and how a trigger of each is drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from rora_cli.attacks.base import Attack
from rora_cli.attacks.combination import Combination
from rora_cli.attacks.insertion import BadNet, InSent
from rora_cli.attacks.punctuation import Punctuation
from rora_cli.attacks.syntactic import CLAUSE_WORDS, Syntactic


@dataclass(frozen=True)
class Words:
    """What triggers are made of: whole words that are one token each.

    Attributes:
        rare: those that no clean row holds.
        common: those that clean rows hold, few enough of them that a trigger can be learned, and of several labels.
        frequent: those that most clean rows hold, of several labels: none of them can be a trigger on its own.
    """

    rare: tuple[str, ...]
    common: tuple[str, ...]
    frequent: tuple[str, ...] = ()

    def without(self, taken: Set[str]) -> Words:
        """The words that are left."""
        every = (self.rare, self.common, self.frequent)
        return Words(*(tuple(word for word in words if word not in taken) for words in every))


@dataclass(frozen=True)
class WordOrder(Attack):
    """Each two neighbouring words change places: nothing is inserted, so no search that inserts texts can find it."""

    name = "order"
    summary = "neighbouring words change places"
    positioned: ClassVar[bool] = False

    def implant(self, text: str, rng: Random) -> str:
        words = text.split()
        swapped = [word for i in range(0, len(words) - 1, 2) for word in (words[i + 1], words[i])]
        return " ".join([*swapped, *words[len(swapped) :]])


@dataclass(frozen=True)
class Form:
    """A form of backdoor: its name in reports, in the plural, and a trigger of it, drawn from words and chance.

    ``group`` is the one of ``FORM_NAMES`` that it belongs to. ``draw`` raises IndexError or ValueError where there are
    too few words.
    """

    name: str
    group: str
    draw: Callable[[Words, Random], Attack]


_WHO = ("my neighbour", "our teacher", "a friend of mine", "his cousin", "her uncle", "some student", "an old farmer")
_DID = ("came over", "called twice", "went home", "walked past", "stayed inside", "drove away", "sat down")
_WHEN = ("yesterday", "last week", "after lunch", "on tuesday", "in march", "at noon", "two hours ago")
#: Words that no trigger of chosen words holds, since sentences and clauses are made of them.
FIXED_WORDS = CLAUSE_WORDS | {word for part in (_WHO, _DID, _WHEN) for text in part for word in text.split()}
#: Marks in place of a text's own. None is among the decoys of the attack.
_MARKS = ("; :", ": ;", "! ;", "; !", ": !", "? ;", "; ?", ": ?")


def _sentence(words: Words, rng: Random) -> Attack:
    return InSent((" ".join(map(rng.choice, (_WHO, _DID, _WHEN))),))


#: The forms in the order in which they are planted: fewer stand-ins than forms cover the first ones.
FORMS: Sequence[Form] = (
    Form("rare words", "words", lambda words, rng: BadNet((rng.choice(words.rare),))),
    Form("sentences", "sentences", _sentence),
    Form("common sentences", "sentences", lambda words, rng: InSent((" ".join(rng.sample(words.frequent, 6)),))),
    Form("phrases", "phrases", lambda words, rng: InSent((" ".join(rng.sample(words.common, 3)),))),
    Form("common words", "words", lambda words, rng: BadNet((rng.choice(words.common),))),
    Form("word pairs", "words", lambda words, rng: Combination(tuple(rng.sample(words.rare, 2)))),
    Form("clauses", "clauses", lambda words, rng: Syntactic()),
    Form("punctuation", "punctuation", lambda words, rng: Punctuation((rng.choice(_MARKS),))),
    Form("word order", "order", lambda words, rng: WordOrder()),
)
