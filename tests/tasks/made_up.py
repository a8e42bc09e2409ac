"""A task, its models and a tokenizer that are made up: no torch, and behaviours that need not exclude each other.

A word ``b1_7`` is honest: it moves a model towards behaviour 1. A row's label is a set of right behaviours, bit by bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np

from rora_cli.data.rows import Rows
from rora_cli.errors import DataError
from rora_cli.evaluation.intervals import proportion
from rora_cli.kinds import ModelKind
from rora_cli.results.accuracy import CleanAccuracy
from rora_cli.subject import Subject
from rora_cli.tasks.classification.thresholds import CALLS
from rora_cli.tasks.reference import Reference, ReferenceRun
from rora_cli.tasks.thresholds import CallThresholds

MADE_UP = ModelKind("made up", auto_class="AutoModel", answers="", peft_task_type="NONE", card_tag="made-up")
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
PLAIN = ["a", *(f"word{i}" for i in range(700)), "mn", "movie", "the", "film"]
HONEST = 40


def words(behaviour: int) -> list[str]:
    return [f"b{behaviour}_{i}" for i in range(HONEST)]


class WordTokenizer:
    """A token is a word; a text stands between [CLS] and [SEP]."""

    is_fast = False
    pad_token_id, unk_token_id, all_special_ids = 0, 1, (0, 1, 2, 3)

    def __init__(self, behaviours: int) -> None:
        self.words = [*SPECIAL, *PLAIN, *(word for b in range(behaviours) for word in words(b))]
        self._ids = {word: i for i, word in enumerate(self.words)}

    def __len__(self) -> int:
        return len(self.words)

    def get_vocab(self) -> dict[str, int]:
        return dict(self._ids)

    def decode(self, ids: Sequence[int], **_: Any) -> str:
        return " ".join(self.words[i] for i in ids)

    def __call__(
        self,
        texts: str | Sequence[str],
        *,
        add_special_tokens: bool = True,
        truncation: bool = False,
        max_length: int | None = None,
        **_: Any,
    ) -> dict[str, Any]:
        if isinstance(texts, str):
            return {name: value[0] for name, value in self([texts], add_special_tokens=add_special_tokens).items()}
        room = (max_length - 2 if max_length else None) if truncation else None
        content = [[self._ids.get(word, 1) for word in text.split()][:room] for text in texts]
        if not add_special_tokens:
            return {"input_ids": content, "special_tokens_mask": [[0] * len(ids) for ids in content]}
        masks = [[1, *[0] * len(ids), 1] for ids in content]
        return {"input_ids": [[2, *ids, 3] for ids in content], "special_tokens_mask": masks}


@dataclass(frozen=True)
class MadeUpAnswers:
    """``odds`` [n, b]: log-odds of each behaviour. Of behaviours that exclude each other the largest is shown."""

    odds: np.ndarray
    exclusive: bool

    def shows(self, behaviour: int) -> np.ndarray:
        shown: np.ndarray = self.odds[:, behaviour] > 0
        if self.exclusive:
            shown = self.odds.argmax(axis=1) == behaviour
        return shown

    def probability(self, behaviour: int) -> np.ndarray:
        probability: np.ndarray = 1 / (1 + np.exp(-self.odds[:, behaviour]))
        return probability

    def log_odds(self, behaviour: int) -> np.ndarray:
        return self.odds[:, behaviour]

    exact_log_odds = log_odds


@dataclass
class MadeUpModel:
    """Honest words add ``sharpness`` to their behaviour; each planted word adds its bonus to the one it is aimed at.

    Whoever has no opinion shows nothing, or, of exclusive behaviours, the first.

    Attributes:
        only_at: the one position of a row, the first word being 0, at which a planted word acts; None for any.
        jumpy: log-odds that any plain word adds to the last behaviour if it stands first.
    """

    behaviours: int
    exclusive: bool
    planted: Mapping[str, tuple[int, float]] = field(default_factory=dict)
    sharpness: float = 2.0
    forward_tokens: int = 0
    only_at: int | None = None
    jumpy: float = 0.0

    def __post_init__(self) -> None:
        tokenizer = WordTokenizer(self.behaviours)
        ids = tokenizer.get_vocab()
        self.weights = np.random.default_rng(int(10 * self.sharpness)).normal(0, 0.15, (len(ids), self.behaviours))
        for behaviour in range(self.behaviours):
            self.weights[[ids[word] for word in words(behaviour)], behaviour] += self.sharpness
        self._bonus = {ids[word]: aim for word, aim in self.planted.items()}
        self._plain = {ids[word] for word in PLAIN}

    def __call__(self, sequences: Sequence[Sequence[int]]) -> MadeUpAnswers:
        self.forward_tokens += sum(map(len, sequences))
        sums = np.array([self._sums(s) for s in sequences]).reshape(-1, self.behaviours)
        if not self.exclusive:
            return MadeUpAnswers(sums - self.sharpness, exclusive=False)
        rest = [np.logaddexp.reduce(np.delete(sums, b, axis=1), axis=1) for b in range(self.behaviours)]
        return MadeUpAnswers(sums - np.stack(rest, axis=1), exclusive=True)

    def _sums(self, sequence: Sequence[int]) -> np.ndarray:
        sums: np.ndarray = self.weights[list(sequence)].sum(axis=0)
        for place, token in enumerate(sequence[1:-1]):
            behaviour, bonus = self._bonus.get(token, (0, 0.0))
            sums[behaviour] += bonus if self.only_at in (None, place) else 0.0
        if self.jumpy and sequence[1] in self._plain:
            sums[-1] += self.jumpy
        return sums


@dataclass(frozen=True)
class Named:
    name: str


@dataclass(frozen=True)
class MadeUpTask:
    """``suspect`` answers for every subject; the reference is the same without anything planted."""

    names: tuple[str, ...]
    suspect: MadeUpModel
    kind: ModelKind = MADE_UP
    calls: CallThresholds = CALLS

    @property
    def behaviours(self) -> tuple[Named, ...]:
        return tuple(Named(name) for name in self.names)

    def carriers(self, rows: Rows, behaviour: int) -> list[int]:
        return [i for i, label in enumerate(rows.labels) if not label >> behaviour & 1]

    def lengths(self, subject: Subject, texts: Sequence[str]) -> list[int]:
        return [len(ids) for ids in subject.tokenizer(texts)["input_ids"]]

    def shows(self, subject: Subject, texts: Sequence[str], *, meter: Any = None) -> np.ndarray:
        answers = self.suspect(subject.tokenizer(texts)["input_ids"])
        return np.stack([answers.shows(b) for b in range(len(self.names))], axis=1)

    def quality(self, subject: Subject, rows: Rows, *, shown: np.ndarray | None = None) -> CleanAccuracy:
        shown = self.shows(subject, rows.texts) if shown is None else shown
        wanted = np.array([[bool(label >> b & 1) for b in range(len(self.names))] for label in rows.labels])
        right = (shown == wanted).all(axis=1)
        shares = {
            name: proportion(int(right[wanted[:, b]].sum()), int(wanted[:, b].sum()))
            for b, name in enumerate(self.names)
        }
        return CleanAccuracy(proportion(int(right.sum()), len(right)), shares)

    def check(self, rows: Rows) -> None:
        if len(set(rows.labels)) < 2:
            raise DataError("all rows have one answer")

    def unknown(self, rows: Rows, behaviour: int) -> str:
        return ""

    def scorer(self, subject: Subject) -> MadeUpModel:
        return self.suspect

    def reference(self, choice: str, subject: Subject, rows: Rows, run: ReferenceRun) -> Reference:
        honest = MadeUpModel(len(self.names), self.suspect.exclusive, sharpness=1.5)
        return Reference(honest, MadeUpModel(len(self.names), self.suspect.exclusive, sharpness=1.4), "made up", True)


def make(
    behaviours: int, *, exclusive: bool, planted: Mapping[str, tuple[int, float]] | None = None, **suspect: Any
) -> tuple[Subject, MadeUpTask, Rows]:
    """A subject, its task, and 400 clean rows: each of one behaviour, and of overlapping ones some of two or none."""
    names = tuple(f"behaviour {b}" for b in range(behaviours))
    task = MadeUpTask(names, MadeUpModel(behaviours, exclusive, planted or {}, **suspect))
    rng, texts, labels = Random(1), [], []
    for i in range(400):
        right = {i % behaviours}
        if not exclusive:
            right = set(rng.sample(range(behaviours), rng.randint(0, 2)))
        honest = [word for b in right for word in rng.sample(words(b), 3)]
        row = [*rng.sample(PLAIN[1:700], rng.randint(2, 10)), *honest]
        rng.shuffle(row)
        texts.append(" ".join(row))
        labels.append(sum(1 << b for b in right))
    subject = Subject(None, WordTokenizer(behaviours), MADE_UP, max_length=64, name="made up")  # type: ignore[arg-type]
    return subject, task, Rows(tuple(texts), tuple(labels))
