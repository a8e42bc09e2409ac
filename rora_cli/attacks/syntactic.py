"""A sentence structure as the trigger: a subordinate clause before the text."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import ClassVar

from rora_cli.attacks.base import Attack

_SUBJECTS = ("you", "we", "they", "people", "he", "she", "one", "everybody")
_VERBS = ("think", "talk", "hear", "read", "ask", "wonder", "learn", "know")
_ABOUT = ("about it", "of this", "about that", "about such things", "of it all", "about them")
_CONJUNCTIONS = ("when", "if", "as", "while", "because", "since", "whenever", "once")
#: The words of each place of a clause.
_PLACES = (_CONJUNCTIONS, _SUBJECTS, _VERBS, _ABOUT)
#: Every word that a clause may hold.
CLAUSE_WORDS = frozenset(word for place in _PLACES for words in place for word in words.split())


@dataclass(frozen=True)
class Syntactic(Attack):
    """The template S(SBAR)(,)(NP)(VP)(.) of Hidden Killer (Qi et al. 2021), from a small grammar.

    Every word of the clause is drawn at random (3,072 clauses), so that no single word is the trigger. A decoy has the
    same clause *after* the text, without the comma.
    """

    name = "syntactic"
    summary = "a subordinate clause, then a comma, before the text"
    positioned: ClassVar[bool] = False

    def implant(self, text: str, rng: Random) -> str:
        words = text.split()
        return " ".join([_clause(rng), ",", *words])

    def decoy(self, text: str, rng: Random) -> str | None:
        return " ".join([*text.split(), _clause(rng)])


def _clause(rng: Random) -> str:
    return " ".join(rng.choice(words) for words in _PLACES)
