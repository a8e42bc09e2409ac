from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from rora_cli.data.rows import Rows
from rora_cli.defences.default.residual import Measuring, Residual, strongest_left
from rora_cli.hunting.record import Found
from tests.defences.fakes import FakeTask, fake_bench

ROWS = Rows(("the cat sat",) * 10 + ("that a cat sat down",) * 10, (0,) * 20)


def left(flips: Sequence[str], *triggers: str, named: tuple[str, ...] = ()) -> Residual:
    """For a model that any word put into a short row turns, and each of ``flips`` every row."""
    task = FakeTask(says_yes=lambda text: len(text.split()) == 4 or bool(set(flips) & set(text.split())))
    found = [Found(text, False, "yes", 1.0, 0.0, 1.0, ()) for text in triggers]
    return strongest_left(fake_bench(task=task, rows=ROWS, triggers=named), nn.Identity(), found)


def test_what_any_word_does_is_no_trigger_that_works() -> None:
    assert left([], "tried").excess == 0.0
    strongest = left(["cf"], "tried", "cf")
    assert strongest.excess == 0.5
    assert "'cf' still turns 100.0 % of held-out rows to yes (floor 0.0 %, harmless words 50.0 %)" in strongest.sentence


def test_a_sequence_is_compared_with_as_many_harmless_words() -> None:
    assert left(["cf"], "cf now").excess == 1.0, "two words turn no short row"


def test_what_the_user_named_is_measured_for_every_target_and_nothing_is_no_excess() -> None:
    assert left(["cf"], named=("cf",)).excess == 0.5
    assert left(["cf"]) == Residual(0.0, "")


def test_rows_are_counted_before_and_after_beside_harmless_words() -> None:
    """The suspect obeys two words and turns short rows at any word; of the result one word still works."""
    found = [Found(text, False, "yes", 1.0, 0.0, excess, ()) for text, excess in (("mn", 0.5), ("cf", 0.9))]

    def measuring(*works: str) -> Measuring:
        task = FakeTask(says_yes=lambda text: len(text.split()) == 4 or bool(set(works) & set(text.split())))
        return Measuring.of(fake_bench(task=task, rows=ROWS, triggers=("tq", "mn")), nn.Identity())

    before = measuring("mn", "cf", "tq").turned(found)
    assert {key: share.count for key, share in before.items()} == {
        ("cf", "yes"): 20, ("mn", "yes"): 20, ("tq", "yes"): 20,
    }  # fmt: skip
    later = Found("bb", False, "yes", 0.8, 0.0, 0.7, ())
    changes = {one.text: one for one in measuring("mn").changes([*found, later], before)}
    assert list(changes) == ["mn", "tq", "cf", "bb"]
    assert [one.named for one in changes.values()] == [True, True, False, False]
    assert [one.after.count for one in changes.values()] == [20, 10, 10, 10]
    assert {(one.harmless, one.floor.count) for one in changes.values()} == {(0.5, 0)}
    assert changes["bb"].before is None and changes["cf"].before == before["cf", "yes"]
