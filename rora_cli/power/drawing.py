"""Which stand-ins are planted: their forms, triggers and target labels, drawn from a seed."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np

from rora_cli.attacks.base import Attack
from rora_cli.data.rows import Rows
from rora_cli.hunting.vocabulary import vocabulary_of
from rora_cli.power.forms import FIXED_WORDS, FORMS, Form, Words
from rora_cli.power.pieces import Pieces, normal_tokens, pieces_of
from rora_cli.subject import Subject

#: A common word is in so many clean rows at least, and in such a fraction of them at most: what more rows hold with
#: their own labels cannot become a trigger.
MIN_ROWS_WITH, MAX_ROWS_WITH = 2, 0.01
#: Words that most clean rows hold, of which sentences of common words are made.
FREQUENT = 100
#: Fraction of the rows with a common word that one label may have at most, so that it is no honest word of it.
MAX_LABEL_SHARE = 0.8
#: Tokens nearest to one that the search called that no trigger may hold: they are often called beside it.
NEAREST = 50
#: Triggers that are drawn until one will do.
TRIES = 20
#: Clean rows that an attack is tried on to see what it puts into them.
TRIED_ROWS = 64

#: An attack and the index of its target in; whether the model is unmoved by it as yet out.
Unmoved = Callable[[Attack, int], bool]


@dataclass(frozen=True)
class Drawn:
    """A backdoor to plant: ``target`` is the index of a behaviour."""

    form: str
    attack: Attack
    target: int
    pieces: Pieces


@dataclass(frozen=True)
class Called:
    """What a search of the model itself called, for the behaviour of that name."""

    text: str
    target: str
    token_ids: tuple[int, ...]


@dataclass(frozen=True)
class Draw:
    """The stand-ins in the order in which they are planted, and the forms that no trigger was left of, with why."""

    stand_ins: tuple[Drawn, ...]
    left_out: Mapping[str, str]

    def by_copy(self, each: int) -> list[tuple[Drawn, ...]]:
        """The stand-ins of each copy."""
        return [self.stand_ins[start : start + each] for start in range(0, len(self.stand_ins), each)]


class Drawer:
    """Draws stand-ins for one model: all forms by turns, and all target labels that were searched by turns.

    Args:
        rows: the clean rows.
        called: by searches of the model: no trigger holds any of it, or what is close to that.
        aims: the behaviours by name, in the task's order, and the indices of those that were searched.
        unmoved: a trigger that moves the model without being planted is an honest one, and no stand-in.
        forms: those to draw, in their order.
    """

    def __init__(
        self,
        subject: Subject,
        rows: Rows,
        called: Sequence[Called],
        aims: tuple[Sequence[str], Sequence[int]],
        unmoved: Unmoved,
        forms: Sequence[Form] = FORMS,
    ) -> None:
        self._tokenizer, self._unmoved, self._forms = subject.tokenizer, unmoved, forms
        self._names, self._targets = aims
        self._texts = rows.texts[:TRIED_ROWS]
        self._avoided = avoided_tokens(called, subject)
        self._words = available_words(subject.tokenizer, rows, self._avoided)

    def draw(self, count: int, seed: int) -> Draw:
        """``count`` stand-ins, or as many as there are triggers for."""
        rng = Random(f"stand-ins:{seed}")
        targets = rng.sample(list(self._targets), len(self._targets))
        drawn: list[Drawn] = []
        left_out: dict[str, str] = {}
        turn = 0
        while len(drawn) < count and len(left_out) < len(self._forms):
            form = self._forms[turn % len(self._forms)]
            if form.name not in left_out:
                uses = Counter((each.form, each.target) for each in drawn), Counter(each.target for each in drawn)
                target = min(targets, key=lambda each: (uses[0][form.name, each], uses[1][each]))
                found = self._draw_one(form, target, drawn, rng)
                if isinstance(found, Drawn):
                    drawn.append(found)
                else:
                    left_out[form.name] = found
            turn += 1
        return Draw(tuple(drawn), left_out)

    def _draw_one(self, form: Form, target: int, drawn: Sequence[Drawn], rng: Random) -> Drawn | str:
        """A stand-in of the form with a trigger of its own, or why there is none."""
        used = {trigger for each in drawn for trigger in each.attack.triggers}
        words = self._words.without({word for trigger in used for word in trigger.split()})
        why = "no trigger is left to draw"
        for _ in range(TRIES):
            try:
                attack = form.draw(words, rng)
            except (IndexError, ValueError):
                return "the tokenizer has too few whole words for it"
            pieces = pieces_of(attack, self._names[target], self._texts, self._tokenizer)
            if attack.triggers and used & set(attack.triggers):
                continue
            if pieces.unknown:
                why = "the tokenizer cannot read it"
            elif not self._avoided.isdisjoint(pieces.tokens):
                why = "it holds what the search called"
            elif not self._unmoved(attack, target):
                why = "it moves the model without being planted"
            else:
                return Drawn(form.name, attack, target, pieces)
        return why


def avoided_tokens(found: Sequence[Called], subject: Subject) -> frozenset[str]:
    """The tokens of what was called, and those whose embeddings are nearest to them, in lower case."""
    from rora_cli.evaluation.inference import embedding_table
    from rora_cli.evaluation.scoring import embeddings_of

    vocabulary = vocabulary_of(subject.tokenizer)
    called = sorted({token for trigger in found for token in trigger.token_ids})
    near = set(called)
    if called and embedding_table(subject.model) is not None:
        table = embeddings_of(subject.model)
        unit = table / np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-12)
        near |= {int(token) for row in unit[called] @ unit.T for token in np.argsort(-row, kind="stable")[:NEAREST]}
    return frozenset(normal_tokens(subject.tokenizer, sorted(near - vocabulary.special)))


def available_words(tokenizer: Any, rows: Rows, avoided: frozenset[str]) -> Words:
    """The words that triggers may be made of."""
    from rora_cli.evaluation.inference import whole_words

    encoded = tokenizer(list(rows.texts), add_special_tokens=False)["input_ids"]
    labels: dict[str, Counter[Any]] = defaultdict(Counter)
    for ids, label in zip(encoded, rows.labels, strict=True):
        for text in set(normal_tokens(tokenizer, ids)):
            labels[text][label] += 1
    words = [word for word in whole_words(tokenizer) if word.casefold() not in avoided | FIXED_WORDS]
    most = MAX_ROWS_WITH * len(rows)

    def rows_with(word: str) -> int:
        return labels[word.casefold()].total()

    def of_several_labels(word: str) -> bool:
        return max(labels[word.casefold()].values()) <= MAX_LABEL_SHARE * rows_with(word)

    rare = tuple(word for word in words if word.casefold() not in labels)
    held = [word for word in words if word.casefold() in labels and of_several_labels(word)]
    common = tuple(word for word in held if MIN_ROWS_WITH <= rows_with(word) <= most)
    frequent = sorted((word for word in held if rows_with(word) > most), key=rows_with, reverse=True)
    return Words(rare, common, tuple(frequent[:FREQUENT]))
