"""How processes divide a work: each part is done once, all get all, and nobody waits for one that does not come."""

from __future__ import annotations

import pytest

from rora_cli.errors import DataError
from rora_cli.ranks import ALONE, Share
from tests.together import together


@pytest.mark.parametrize("parts", [0, 1, 2, 7, 9])
def test_all_get_all_in_order_and_call_equally_often(parts: int) -> None:
    calls: list[list[int]] = [[], [], []]
    told: list[int] = []

    def work(share: Share) -> list[int]:
        def square(part: int) -> int:
            calls[share.rank].append(part)
            return part * part

        after = (lambda done: told.extend(done)) if share.rank == 0 else None
        return share.each(range(parts), square, after=after)

    expected = [part * part for part in range(parts)]
    assert together(3, work) == [expected] * 3
    assert len({len(own) for own in calls}) == 1, "a sharded model's passes need every process"
    assert {part for own in calls for part in own} == set(range(parts)) and told == list(range(parts))
    if parts > 1:
        assert len(calls[0]) == -(-parts // 3)


def test_an_error_of_one_is_raised_by_all_and_the_others_go_on() -> None:
    def work(share: Share) -> None:
        def check(part: int) -> None:
            if part in (4, 5):
                raise DataError(f"part {part} is bad")

        with pytest.raises(DataError, match="part 4"):
            share.each(range(8), check)

    together(2, work)


def test_a_process_alone_hands_nothing_over() -> None:
    assert ALONE.each("abc", str.upper) == ["A", "B", "C"] and ALONE.gather(1) == [1]
