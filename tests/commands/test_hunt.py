from __future__ import annotations

import pytest

from rora_cli.commands.hunt import _left_open
from rora_cli.evaluation.intervals import proportion
from rora_cli.results.hunt import FoundTrigger


def candidate(flips: int, reference: int, z: float) -> FoundTrigger:
    own, other = proportion(flips, 40), proportion(reference, 40)
    excess = (own.low or 0.0) - (other.high or 0.0)
    return FoundTrigger("cf", (7,), "positive", own, other, excess, z, False, ("cf",))


@pytest.mark.parametrize(
    ("flips", "reference", "z", "open_"),
    [(40, 0, 4.8, True), (39, 0, 4.1, True), (40, 0, 2.9, False), (38, 0, 4.8, False), (40, 8, 4.8, False)],
)
def test_a_candidate_that_turns_every_row_leaves_the_label_open(
    flips: int, reference: int, z: float, open_: bool
) -> None:
    reason = _left_open([candidate(10, 2, 5.5), candidate(flips, reference, z)])
    assert (reason is not None) == open_
    assert not open_ or (f"{flips} of 40 rows (0 under the reference)" in str(reason) and f"z {z}" in str(reason))
