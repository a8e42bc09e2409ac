"""How many tokens go forward in each stage, at least and at most. Searches stop early, and rounds repeat."""

from __future__ import annotations

from dataclasses import dataclass

from rora_cli.hunting.budgets import Budget, Round

#: Tokens of the rows in which single tokens are screened: the shortest that are quiet.
_SHORT_ROW = 8
#: How far below and above the count of a budget's rounds a search may lie: a guess, held against no search yet.
SEARCH_RANGE = 0.6, 1.8
#: Sequences that are grown from each budget's restarts and its best pair, and steps of each.
_STEPS = 2


@dataclass(frozen=True)
class Range:
    """A number that is at least ``least`` and at most ``most``."""

    least: float
    most: float

    def __add__(self, other: Range) -> Range:
        return Range(self.least + other.least, self.most + other.most)

    def times(self, least: float, most: float | None = None) -> Range:
        """So many times as much."""
        return Range(self.least * least, self.most * (least if most is None else most))


def search_tokens(budgets: tuple[Budget, ...], vocabulary: int, row: float, labels: int, *, model: bool) -> Range:
    """Tokens of a search for ``labels`` behaviours: of the suspect and, where the reference is a ``model``, of both.

    Args:
        budgets: the first serves every behaviour, a further one those that stay undecided.
        vocabulary: tokens that are tried.
        row: mean length of a clean row [tokens], special tokens included.
    """
    first, *deeper = (_one_search(budget, vocabulary, row, labels, model) for budget in budgets)
    low, high = SEARCH_RANGE
    return Range(low * first, high * (first + sum(deeper)))


def _one_search(budget: Budget, vocabulary: int, row: float, labels: int, model: bool) -> float:
    both = 2 if model else 1
    short, long = min(_SHORT_ROW, row) + 1, min(max(budget.row_length, row), budget.row_tokens) + 1
    screen = 3.0 * vocabulary
    read = budget.rows_read * min(row, budget.row_tokens) * both
    screening = sum(_tokens(stage, min(stage.candidates, vocabulary), short, both) for stage in budget.screening)
    quiet = 4 * budget.row_surplus * max(s.carriers for s in budget.screening) * budget.quiet_tokens / 4 * short
    pairs = sum(_tokens(s, min(s.candidates, budget.pairs**2), long, both) for s in budget.extension)
    step = sum(_tokens(s, min(s.candidates, 2 * budget.pool), long, both) for s in budget.extension)
    grown = (budget.restarts + 1) * _STEPS * step
    null = 2 * budget.harmless * (budget.noise_rows + sum(s.carriers for s in budget.screening)) * long * both
    final = 2 * budget.finalists * budget.final_rows * row * both
    return screen + read + labels * (screening + quiet + pairs + grown + null + final)


def _tokens(stage: Round, candidates: int, length: float, both: int) -> float:
    return candidates * stage.carriers * length * (1 if stage.rough else both)
