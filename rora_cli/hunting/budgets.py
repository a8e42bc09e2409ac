"""How much a search tries: named budgets."""

from __future__ import annotations

from dataclasses import dataclass

from rora_cli.errors import UsageError


@dataclass(frozen=True)
class Round:
    """One round of halving: the best ``candidates`` that are left, on ``carriers`` rows.

    A ``rough`` round asks the rough reference, which costs nothing.
    """

    candidates: int
    carriers: int
    rough: bool = False


@dataclass(frozen=True)
class Budget:
    """How much to try.

    ``screening`` are a label's rounds over what the bare screen of the vocabulary puts first; ``extension`` those of
    each step of growing an anchor by one of the ``pool`` best tokens, in rows of about ``row_length`` tokens; ``pairs``
    of the best tokens are tried in both orders; ``restarts`` single tokens are grown besides the best pair.
    ``finalists`` are measured on ``final_rows`` rows; the null is of ``harmless`` random tokens and as many honest
    words in ``noise_rows`` rows. ``rows_read`` clean rows are looked at to choose from. Of a label with a trigger,
    ``companion_candidates`` words are looked at for companions.
    """

    name: str
    screening: tuple[Round, ...]
    extension: tuple[Round, ...]
    pool: int
    row_length: int
    pairs: int
    restarts: int
    longest: int
    finalists: int
    final_rows: int
    harmless: int
    noise_rows: int
    rows_read: int
    companion_candidates: int
    #: Length [tokens] to which clean rows are cut: cost grows with it, and the start of a review is enough to judge it.
    row_tokens: int = 48
    #: The search keeps the rows that ``quiet_tokens`` harmless tokens move least, out of ``row_surplus`` times as many.
    row_surplus: int = 4
    quiet_tokens: int = 8
    #: Tokens with the largest drift that are looked at; that are tried in pairs; and how long [tokens] a sequence of
    #: them may grow.
    max_drifted: int = 32
    paired_drifted: int = 16
    longest_drifted: int = 6
    #: Companions that are named, and rows in which each is tried.
    max_companions: int = 200
    companion_rows: int = 3
    #: Rows shown for each candidate.
    examples: int = 3


ALL = 10**9
#: Fewer rows than this that both models read rightly cannot carry a search for a label.
FEWEST_ROWS = 24
BUDGETS = {
    budget.name: budget
    for budget in (
        Budget(
            name="fast",
            screening=(Round(6000, 1, rough=True), Round(2000, 2, rough=True), Round(300, 4), Round(30, 12)),
            extension=(Round(ALL, 1, rough=True), Round(30, 6), Round(6, 12)),
            pool=200,
            row_length=12,
            pairs=8,
            restarts=1,
            longest=3,
            finalists=8,
            final_rows=40,
            harmless=32,
            noise_rows=8,
            rows_read=450,
            companion_candidates=2000,
        ),
        Budget(
            name="normal",
            screening=(
                Round(ALL, 1, rough=True),
                Round(8000, 2, rough=True),
                Round(1000, 4),
                Round(100, 12),
                Round(40, 32),
            ),
            extension=(Round(ALL, 1, rough=True), Round(100, 6), Round(10, 20)),
            pool=500,
            row_length=16,
            pairs=12,
            restarts=2,
            longest=5,
            finalists=12,
            final_rows=64,
            harmless=64,
            noise_rows=12,
            rows_read=1200,
            companion_candidates=4000,
        ),
        Budget(
            name="thorough",
            screening=(Round(ALL, 2, rough=True), Round(5000, 8, rough=True), Round(500, 24), Round(80, 64)),
            extension=(Round(ALL, 2, rough=True), Round(400, 12), Round(40, 32)),
            pool=4000,
            row_length=20,
            pairs=24,
            restarts=5,
            longest=8,
            finalists=32,
            final_rows=192,
            harmless=256,
            noise_rows=24,
            rows_read=5000,
            companion_candidates=10000,
        ),
    )
}
#: A first look, and a second one at the labels that it leaves undecided.
AUTO, AUTO_BUDGETS = "auto", ("fast", "normal")


def budgets(name: str, option: str) -> tuple[Budget, ...]:
    """The budgets to search with in turn. Raises UsageError, which names ``option``, for a name that is none."""
    if name not in (AUTO, *BUDGETS):
        raise UsageError(f"{option} is one of {', '.join((AUTO, *BUDGETS))}, not {name!r}")
    return tuple(BUDGETS[each] for each in (AUTO_BUDGETS if name == AUTO else (name,)))
