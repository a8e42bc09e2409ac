"""Which clean rows a search uses: those that the suspect and the reference both read rightly, and how surely."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from random import Random

import numpy as np

from rora_cli.hunting.budgets import Budget
from rora_cli.hunting.case import Case
from rora_cli.hunting.trials import LOG_ODDS_LIMIT
from rora_cli.results.hunt import RowsRead
from rora_cli.tasks.task import Answers, Scorer


@dataclass(frozen=True)
class CleanRows:
    """Clean rows as the suspect and the reference read them.

    Attributes:
        texts: the rows, cut so that a trigger fits [n].
        wanted: whether each behaviour is the right answer of each row [n, behaviours], bool.
        right: whether both models show the right answer and nothing else [n], bool.
        certainty: log-odds of the right answer under the less sure of the two models [n].
        scales: what the log-odds of the reference and of its linear model are multiplied by, so that both are as sure
            of clean rows as the suspect.
        reading: how many rows were read, and how many of them were cut.
    """

    texts: tuple[str, ...]
    wanted: np.ndarray
    right: np.ndarray
    certainty: np.ndarray
    scales: tuple[float, float]
    reading: RowsRead

    def usable(self, target: int, fewest: int, seed: int) -> list[int]:
        """The rows to search for ``target`` in: the surer half of its carriers that are read rightly, shuffled.

        A trigger carries strongly opposite sentences, an honest word does not. At least ``fewest`` are taken where
        there are as many.
        """
        usable: list[int] = [int(i) for i in np.flatnonzero(self.right) if not self.wanted[i, target]]
        Random(seed).shuffle(usable)
        usable = sorted(usable, key=lambda i: -self.certainty[i])[: max(len(usable) // 2, fewest)]
        Random(seed).shuffle(usable)
        return usable


def read_clean_rows(case: Case, suspect: Scorer, budget: Budget) -> CleanRows:
    """Choose as many rows as ``budget`` says, cut them, and ask both models."""
    from rora_cli.evaluation.attack import most_with_room, with_room
    from rora_cli.evaluation.inference import count_tokens

    chosen = choose_rows(case.wanted, budget.rows_read, case.settings.seed)
    given, wanted = [case.rows.texts[i] for i in chosen], case.wanted[chosen]
    longest = min(most_with_room(case.subject.max_length), budget.row_tokens)
    texts = with_room(given, partial(count_tokens, case.subject.tokenizer), longest)
    reading = RowsRead(len(given), sum(short != text for short, text in zip(texts, given, strict=True)), longest)
    encoded = case.encode(texts)
    if not all(encoded):  # without special tokens a row of nothing but odd characters is no row
        kept = [i for i, ids in enumerate(encoded) if ids]
        texts, encoded, wanted = [texts[i] for i in kept], [encoded[i] for i in kept], wanted[kept]
    own, other, linear = (scorer(encoded) for scorer in (suspect, case.reference.scorer, case.reference.linear))
    right = _all_right(own, wanted) & _all_right(other, wanted)
    sure_own, sure_other, sure_linear = (_sureness(answers, wanted) for answers in (own, other, linear))
    certainty = np.minimum(sure_own, sure_other)
    sure, *others = (_usual(sureness) for sureness in (sure_own, sure_other, sure_linear))
    scales = sure / max(others[0], 1e-3), sure / max(others[1], 1e-3)
    return CleanRows(tuple(texts), wanted, right, certainty, scales, reading)


def choose_rows(wanted: np.ndarray, count: int, seed: int) -> list[int]:
    """``count`` row indices at random, and more rows of an answer that has less than its share among them.

    ``wanted`` [rows, behaviours] says which behaviours are right answers of each row.
    """
    answers: Sequence[bytes] = [row.tobytes() for row in wanted]
    order = list(range(len(answers)))
    Random(seed).shuffle(order)
    chosen, rest = order[:count], order[count:]
    counts = Counter(answers[i] for i in chosen)
    for i in rest:
        if counts[answers[i]] < count // wanted.shape[1]:
            chosen.append(i)
            counts[answers[i]] += 1
    return chosen


def _all_right(answers: Answers, wanted: np.ndarray) -> np.ndarray:
    """Whether a model shows every right behaviour of a row and no other [n], bool."""
    shown = np.stack([answers.shows(behaviour) for behaviour in range(wanted.shape[1])], axis=1)
    right: np.ndarray = (shown == wanted).all(axis=1)
    return right


def _sureness(answers: Answers, wanted: np.ndarray) -> np.ndarray:
    """Log-odds of a row's right answer [n]: of the least sure of several, or of showing nothing where none is right."""
    odds = np.stack([answers.log_odds(behaviour) for behaviour in range(wanted.shape[1])], axis=1)
    right = np.where(wanted, odds, np.inf).min(axis=1)
    sureness: np.ndarray = np.where(wanted.any(axis=1), right, (-odds).min(axis=1))
    return sureness


def _usual(sureness: np.ndarray) -> float:
    """The median size of log-odds, clipped as in trials."""
    return float(np.median(np.abs(np.clip(sureness, -LOG_ODDS_LIMIT, LOG_ODDS_LIMIT))))
