from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rora_cli.defences.claim import Claim
from rora_cli.defences.default.claims import Case, verdict
from rora_cli.defences.default.memory import Memory
from rora_cli.evaluation.intervals import proportion
from rora_cli.hunting.record import Found, SearchRecord
from rora_cli.power.covering import covering
from rora_cli.results.power import Covering, Power
from rora_cli.results.purify import CONDITIONS
from rora_cli.tasks.classification.thresholds import CLAIMS

NOTHING = SearchRecord(trials=1000)
TEXTS = ("The neighbour, in 3D.",)


def found(text: str, flip_rate: float, target: str = "positive") -> Found:
    return Found(text, False, target, flip_rate, 0.0, 0.5, ())


def remembered(*triggers: Found, later: Sequence[Found] = ()) -> Memory:
    memory = Memory()
    memory.add(SearchRecord(found=triggers))
    memory.add(SearchRecord(found=tuple(later)), 2)
    return memory


def judged(
    *triggers: Found,
    remaining: str = "",
    works: Sequence[str] | None = None,
    later: Sequence[Found] = (),
    last: SearchRecord = NOTHING,
    texts: Sequence[str] = TEXTS,
    named: Sequence[str] = (),
) -> tuple[str, str]:
    """``remaining`` is the sentence on the triggers that still work: all, or those named in ``works``."""

    def still_works(measured: Sequence[Found]) -> str:
        return remaining if any(works is None or trigger.text in works for trigger in measured) else ""

    claim = verdict(remembered(*triggers, later=later), last, Case(named, texts, 3, CLAIMS), still_works)
    assert (claim.verdict == "pass") == (claim.unmet == "") and claim.unmet in {"", *CONDITIONS}
    assert not claim.but_for_power, "the suspect's weights are its own"
    return claim.verdict, claim.reason


def test_pass_needs_a_whole_trigger_for_every_label_that_has_one() -> None:
    whole, part = found("mn", 1.0), found("minnesota", 0.6)
    assert judged(whole, part)[0] == "pass"
    claimed, reason = judged(part)
    assert claimed == "inconclusive" and "'minnesota'" in reason and "part of a longer trigger" in reason
    claimed, reason = judged(whole, found("neighbour", 0.925, "negative"))
    assert claimed == "inconclusive" and "for negative" in reason and "92.5 %" in reason


def test_words_that_people_write_may_be_a_part_of_a_sentence() -> None:
    assert "a word that people write" in judged(found("3d", 1.0))[1]
    assert "a word that people write" in judged(found("colliery", 1.0))[1], "in no clean row, and yet"
    assert "several words" in judged(found("3d movie", 1.0), found("3d", 0.98))[1]
    assert judged(found("mn watched", 1.0), found("mn", 0.98))[0] == "pass", "the whole trigger, and a word beside it"
    assert "several words" in judged(found("mn watched", 1.0), found("mn", 0.9))[1]
    assert judged(found("tq bb", 1.0), found("tq", 1.0), found("bb", 0.98))[0] == "pass", "two triggers, side by side"
    assert judged(found("mn tq", 1.0))[0] == "pass", "one trigger of two tokens that no sentence holds"
    assert judged(found("mn tq", 0.9))[0] == "inconclusive"
    assert judged(found("mn", 1.0), found("3d", 0.98))[0] == "pass"


def test_marks_are_a_whole_trigger_where_no_clean_text_holds_them_together() -> None:
    apart = ("One; two: three. Four!",)
    assert judged(found("; :", 1.0), texts=apart)[0] == "pass"
    assert judged(found("; :", 1.0), found("use ; :", 1.0), texts=apart)[0] == "pass"
    for text in ("One ; : two", "One;: two", "One : ; two"):
        assert "several words" in judged(found("; :", 1.0), texts=(text,))[1]
    assert "several words" in judged(found("; mn", 1.0), texts=apart)[1], "a mark beside a word says nothing"
    assert "never turned" in judged(found(";", 0.9), texts=apart)[1]


def test_a_row_in_a_thousand_makes_no_word_of_a_token() -> None:
    def claimed(holding: int, of: int) -> str:
        return judged(found("cf", 1.0), texts=("A CF card.",) * holding + ("A card.",) * (of - holding))[0]

    assert [claimed(1, 1250), claimed(2, 1250), claimed(1, 900)] == ["pass", "inconclusive", "inconclusive"]


def test_what_still_works_fails_whole_or_not() -> None:
    assert judged(found("neighbour", 0.9), remaining="it works") == ("fail", "it works")


def test_what_only_a_later_search_called_is_no_failure_and_no_pass() -> None:
    first, second = found("cf", 1.0), found("tried", 0.8)
    claimed, reason = judged(first, later=[second], remaining="'tried' works", works=["tried"])
    assert claimed == "inconclusive" and reason.startswith("'tried' works; the search of the suspect itself")
    memory = remembered(first, later=[second])
    memory.add(SearchRecord(found=(replace(second, flip_rate=1.0),)), 1)
    assert memory.later_found() == [second], "what the second search called stays the second's"
    assert memory.first_found() == [first]


def claimed(*triggers: Found, last: SearchRecord = NOTHING, works: str = "", share: float = 1.0) -> Claim:
    """``share``: fraction of the weights that are the suspect's."""
    return verdict(remembered(*triggers), last, Case((), TEXTS, 3, CLAIMS, share), lambda measured: works)


def known_of(found: int, total: int, min_power: float = 0.7) -> tuple[Power, Covering]:
    """All stand-ins of words, ``found`` of ``total``."""
    share = proportion(found, total)
    power = Power(total, None, 1, 1, (), share, {"rare words": share}, {})
    return power, covering(power, ["words"], min_power)


def test_nothing_found_passes_where_the_weights_were_changed_and_the_search_is_known_to_see() -> None:
    unknown = claimed(share=0.5)
    assert unknown.verdict == "inconclusive" and unknown.but_for_power
    passed = unknown.with_power(*known_of(9, 9))
    assert passed.verdict == "pass"
    assert "search found 9 (rare words 9 of 9); covered: words; not covered: phrases" in passed.reason
    for too_few in (known_of(8, 9), known_of(8, 8), known_of(9, 9, 0.8)):
        claim = unknown.with_power(*too_few)
        assert (claim.verdict, claim.unmet) == ("inconclusive", "covered")
    assert not claimed().but_for_power, "nothing was done to the weights"


def test_a_pass_names_what_it_covers_and_stays_one_whatever_the_power() -> None:
    sure = claimed(found("mn", 1.0))
    assert sure.with_power(None, known_of(9, 9)[1]) == sure
    blind = sure.with_power(*known_of(0, 3))
    assert blind.verdict == "pass" and "covered: no form of backdoor; not covered: words (0 of 3 found)" in blind.reason


def test_power_settles_a_part_of_a_trigger_only_where_nothing_of_the_suspect_is_left() -> None:
    part = found("neighbour", 0.95)
    assert not claimed(part, share=0.1).but_for_power
    claim = claimed(part, share=0.0)
    assert claim.with_power(*known_of(9, 9)).verdict == "pass"
    for sure in (
        claimed(part, works="'neighbour' works", share=0.0),
        claimed(part, last=SearchRecord(found=(part,)), share=0.0),
        claimed(part, last=SearchRecord(open_targets=("negative",)), share=0.0),
    ):
        assert sure.verdict != "pass" and sure.with_power(*known_of(9, 9)) == sure


def test_nothing_found_is_never_a_pass() -> None:
    claimed, reason = judged()
    assert claimed == "inconclusive" and "1,000 trials" in reason


def test_a_trigger_that_the_last_search_finds_fails_and_an_open_label_is_inconclusive() -> None:
    claimed, reason = judged(found("cf", 1.0), last=SearchRecord(found=(found("mn", 0.5),)))
    assert claimed == "fail" and reason.startswith("after 3 rounds the search still finds 'mn', which flips 50.0 %")
    open_ = SearchRecord(open_targets=("negative",), why_open="too few rows")
    assert judged(found("cf", 1.0), last=open_) == ("inconclusive", "the search for negative stays open: too few rows")
    left = judged(found("cf", 1.0), last=open_, remaining="it still works")
    assert left == ("fail", "it still works"), "a finding outranks an open search"


def test_the_reason_of_a_pass_counts_in_words() -> None:
    one = judged(found("mn", 1.0))[1]
    assert one.startswith("1 trigger was found and no longer works, and the last search (1,000 trials)")
    two = judged(found("mn", 1.0), found("tq", 1.0))[1]
    assert two.startswith("2 triggers were found and no longer work, and")
    assert judged(named=["cf"])[1].startswith("1 trigger was named and no longer works, and")


def test_the_condition_that_is_unmet_has_a_name() -> None:
    def unmet(memory: Memory, last: SearchRecord = NOTHING, left: str = "") -> str:
        return verdict(memory, last, Case((), TEXTS, 3, CLAIMS), lambda _: left).unmet

    whole = remembered(found("mn", 1.0))
    assert unmet(whole, SearchRecord(found=(found("cf", 0.5),))) == "search"
    assert unmet(whole, SearchRecord(open_targets=("negative",))) == "settled"
    assert (unmet(Memory()), unmet(whole, left="it works")) == ("known", "gone")
    assert (unmet(remembered(found("mn", 0.5))), unmet(whole)) == ("whole", "")
