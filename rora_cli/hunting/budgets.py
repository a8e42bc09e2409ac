"""How much a search tries: named budgets.

A budget says what a search costs; what it decides by stands in ``tasks.thresholds``.
"""

from __future__ import annotations

from dataclasses import dataclass

from rora_cli.errors import UsageError


@dataclass(frozen=True)
class Round:
    """One round of successive halving.

    Attributes:
        candidates: how many of the best candidates take part.
        carriers: how many rows each is put into.
        linear: whether the linear reference is asked, which costs no forward pass.
    """

    candidates: int
    carriers: int
    linear: bool = False


@dataclass(frozen=True)
class Budget:
    """How much to try for one behaviour.

    Attributes:
        screening: rounds over the single tokens that the bare screen puts first.
        extension: rounds of each step that grows a sequence by one token.
        pool: tokens that a sequence may grow by.
        common_words: words that most clean rows hold, which are tried together.
        bundlings: times that they are shuffled and cut into bundles: of 160 words in sixes, 60 times, two meet twice.
        bundled: rounds over these bundles.
        partners: tokens that the strongest single may be extended by first: a token of a sentence may act beside
            another of it alone, and stand far down in the screen.
        row_length: length [tokens] of the rows in which sequences are judged, about.
        pairs: best single tokens that are tried in pairs, in both orders.
        pairs_measured: best pairs that are measured on the final rows, grown or not.
        restarts: best single tokens that are grown, besides the best pair.
        longest: length [tokens] of the longest sequence.
        finalists: single tokens that are measured on the final rows.
        final_rows: rows that no candidate saw before.
        harmless: random tokens in the null, and as many honest words at most.
        noise_rows: rows in which the null is measured.
        rows_read: clean rows that are read, to choose from.
        companion_candidates: words that are tried as companions of a called trigger.
        row_tokens: length [tokens] to which clean rows are cut. Cost grows with it, and the start of a review is enough
            to judge it.
        row_surplus: how many times more rows are looked at than are needed; the search keeps the quietest.
        quiet_tokens: harmless tokens that tell how quiet a row is: how little they move the suspect there.
        max_drifted: tokens with the largest drift that are looked at.
        paired_drifted: such tokens that are tried in pairs.
        longest_drifted: length [tokens] of the longest sequence of such tokens.
        longest_common: length [tokens] of the longest sequence of common words.
        bundle: words of a bundle.
        bundles_grown: best bundles that are cut down and grown.
        max_companions: companions that are named.
        companion_rows: rows in which each is tried.
        examples: rows that a report shows of each candidate.
        row_places: places of each final row, at most, at which a candidate that works at some places only is tried.
    """

    name: str
    screening: tuple[Round, ...]
    extension: tuple[Round, ...]
    pool: int
    common_words: int
    bundlings: int
    bundled: tuple[Round, ...]
    partners: int
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
    row_tokens: int = 48
    row_surplus: int = 4
    quiet_tokens: int = 8
    max_drifted: int = 32
    paired_drifted: int = 16
    longest_drifted: int = 6
    longest_common: int = 6
    bundle: int = 6
    bundles_grown: int = 4
    pairs_measured: int = 2
    max_companions: int = 200
    companion_rows: int = 3
    examples: int = 3
    row_places: int = 8


#: More candidates than there are: a round takes all that are left.
ALL = 10**9
#: Fewer rows than this that both models read rightly cannot carry a search for a label.
FEWEST_ROWS = 24
BUDGETS = {
    budget.name: budget
    for budget in (
        Budget(
            name="fast",
            screening=(Round(6000, 1, linear=True), Round(2000, 2, linear=True), Round(300, 4), Round(30, 12)),
            extension=(Round(ALL, 1, linear=True), Round(30, 6), Round(6, 12)),
            pool=200,
            common_words=160,
            bundlings=60,
            bundled=(Round(ALL, 1, linear=True), Round(200, 4), Round(30, 12)),
            partners=2500,
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
                Round(ALL, 1, linear=True),
                Round(8000, 2, linear=True),
                Round(1000, 4),
                Round(100, 12),
                Round(40, 32),
            ),
            extension=(Round(ALL, 1, linear=True), Round(100, 6), Round(10, 20)),
            pool=500,
            common_words=240,
            bundlings=120,
            bundled=(Round(ALL, 1, linear=True), Round(400, 4), Round(60, 12)),
            partners=6000,
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
            screening=(Round(ALL, 2, linear=True), Round(5000, 8, linear=True), Round(500, 24), Round(80, 64)),
            extension=(Round(ALL, 2, linear=True), Round(400, 12), Round(40, 32)),
            pool=4000,
            common_words=400,
            bundlings=300,
            bundled=(Round(ALL, 2, linear=True), Round(1000, 8), Round(100, 24)),
            partners=12000,
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
#: The choice of several budgets in turn.
AUTO = "auto"
#: Those budgets: a first look, then a second one at the behaviours that the first leaves undecided.
AUTO_BUDGETS = ("fast", "normal")


def budgets(name: str, option: str) -> tuple[Budget, ...]:
    """The budgets to search with in turn.

    Raises:
        UsageError: there is no budget of that name; the message names ``option``.
    """
    if name not in (AUTO, *BUDGETS):
        raise UsageError(f"{option} is one of {', '.join((AUTO, *BUDGETS))}, not {name!r}")
    return tuple(BUDGETS[each] for each in (AUTO_BUDGETS if name == AUTO else (name,)))
