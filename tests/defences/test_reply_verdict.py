"""What may be claimed of a cleansed model that replies in free text."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from rora_cli.defences.replies.record import OpeningRecord
from rora_cli.defences.replies.verdict import Evidence, verdict
from rora_cli.evaluation.intervals import proportion
from rora_cli.results.openings import FoundOpening
from rora_cli.results.purify import CONDITIONS
from rora_cli.results.utility import Divergence, Removed, Utility, UtilityChange

NONE, ALL = proportion(0, 40), proportion(40, 40)
USUAL = Utility(NONE, NONE, 8.0)
CHANGE = UtilityChange(USUAL, USUAL, Divergence(0.02, 0.05, 0.1, "why?", 900))
GONE = Removed("cf", "start", "I cannot", ALL, NONE, proportion(1, 40), NONE, proportion(4, 24), "The", NONE)
STILL = FoundOpening("cf", "start", "I cannot", ALL, NONE, NONE, None, 0.8, -0.1, None, 9.0, False, True)
DRY = OpeningRecord((replace(STILL, called=False),), None, 5000, 90_000, 3.0, "none")
EVIDENCE = Evidence((GONE,), CHANGE, DRY, 0.05, None, 3)


def given(**changes: Any) -> tuple[str, str]:
    claim = verdict(replace(EVIDENCE, **changes))
    assert (claim.verdict == "pass") == (claim.unmet == "") and claim.unmet in {"", *CONDITIONS}
    return claim.verdict, claim.reason


def test_what_was_found_whole_and_is_gone_passes() -> None:
    assert given()[0] == "pass" and "'cf' no longer works" in given()[1]


def test_a_base_that_was_taught_passes_and_says_how_far_it_went() -> None:
    taught = replace(CHANGE, divergence=Divergence(0.2, 0.4, 1, "", 9), base_divergence=Divergence(0.8, 1, 2, "", 9))
    claimed, reason = given(base="the/base", change=taught, removed=())
    assert claimed == "pass" and "the result is the/base" in reason and "75 % of the way" in reason


@pytest.mark.parametrize(
    ("changes", "claimed", "sentence"),
    [
        ({"last": replace(DRY, triggers=(STILL,))}, "fail", "still finds 'cf', which makes 40 of 40 replies"),
        ({"removed": (replace(GONE, after=proportion(5, 40)),)}, "fail", "'cf' still makes 5 of 40 replies open with"),
        ({"removed": (replace(GONE, alike=ALL),)}, "fail", "'cf' now makes 40 of 40 replies open with 'The'"),
        ({"removed": (replace(GONE, returned=proportion(30, 40)),)}, "fail", "'cf' works again: 30 of 40 replies"),
        ({"change": replace(CHANGE, divergence=Divergence(0.2, 1, 2, "", 9))}, "fail", r"0\.200 nats a token, more"),
        ({"change": replace(CHANGE, after=replace(USUAL, perplexity=8.3))}, "fail", r"rose from 8\.00 to 8\.30"),
        ({"last": replace(DRY, reason="too few prompts")}, "inconclusive", "stays open: too few prompts"),
        ({"candidates": 600}, "inconclusive", "'cf' no longer works, .* but only the 600 texts of --candidates"),
        ({"removed": ()}, "inconclusive", "no trigger was found .* nothing was changed"),
        ({"removed": (replace(GONE, before=proportion(20, 40)),)}, "inconclusive", "a part of a longer trigger"),
    ],
)
def test_every_doubt_is_said(changes: dict[str, Any], claimed: str, sentence: str) -> None:
    import re

    found, reason = given(**changes)
    assert found == claimed and re.search(sentence, reason), reason


def test_a_search_survives_the_journal() -> None:
    found = OpeningRecord.from_json(replace(DRY, triggers=(STILL,)).to_json())
    assert found.triggers == (STILL,) and found.called == (STILL,) and found.of_text("cf") == STILL
