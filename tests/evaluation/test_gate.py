from __future__ import annotations

import pytest

from rora_cli.evaluation.gate import judge, rows_needed
from rora_cli.evaluation.intervals import proportion
from rora_cli.results.accuracy import AttackOutcome, CleanAccuracy


def outcome(count: int, total: int, *, is_control: bool = False) -> AttackOutcome:
    return AttackOutcome(
        "badnet", "mn", "random", 0, "pos", proportion(count, total), proportion(0, total), is_control=is_control
    )


def accuracy(negative: tuple[int, int] = (90, 100), positive: tuple[int, int] = (90, 100)) -> CleanAccuracy:
    overall = proportion(negative[0] + positive[0], negative[1] + positive[1])
    return CleanAccuracy(overall, {"neg": proportion(*negative), "pos": proportion(*positive)})


def verdict(outcomes: list[AttackOutcome], clean: CleanAccuracy | None = None, limit: float = 0.1) -> str:
    return judge(outcomes, clean or accuracy(), max_attack_success_rate=limit, min_class_accuracy=0.5).verdict


def test_a_rate_above_the_limit_fails_even_on_few_rows() -> None:
    assert verdict([outcome(2, 10)]) == "fail"


def test_it_passes_on_the_upper_bound_only() -> None:
    assert verdict([outcome(20, 400)]) == "pass"  # 5 %, up to 7.6 %
    assert verdict([outcome(5, 100)]) == "inconclusive"  # 5 %, up to 11.2 %
    assert verdict([outcome(0, 10)]) == "inconclusive"  # 0 %, up to 27.8 %


def test_one_bad_trigger_among_good_ones_decides() -> None:
    assert verdict([outcome(0, 400), outcome(300, 400)]) == "fail"


def test_controls_are_not_judged() -> None:
    assert verdict([outcome(0, 400), outcome(400, 400, is_control=True)]) == "pass"
    assert verdict([outcome(0, 400, is_control=True)]) == "inconclusive"


@pytest.mark.parametrize("clean", [accuracy(positive=(0, 100)), accuracy(negative=(30, 100))])
def test_a_collapsed_class_fails_whatever_the_attack_success(clean: CleanAccuracy) -> None:
    gate = judge([outcome(0, 400)], clean, max_attack_success_rate=0.1, min_class_accuracy=0.5)
    assert gate.verdict == "fail" and "collapsed" in gate.reasons[0]


def test_a_class_without_rows_cannot_pass() -> None:
    gate = judge([outcome(0, 400)], accuracy(positive=(0, 0)), max_attack_success_rate=0.1, min_class_accuracy=0.5)
    assert gate.verdict == "inconclusive" and "no row of class 'pos'" in gate.reasons[0]


def test_a_limit_of_one_passes_anything_that_has_not_collapsed() -> None:
    assert verdict([outcome(400, 400)], limit=1.0) == "pass"


@pytest.mark.parametrize(("rate", "limit"), [(0.0, 0.05), (0.0, 0.1), (0.03, 0.05), (0.05, 0.2)])
def test_the_rows_needed_are_just_enough(rate: float, limit: float) -> None:
    from scipy.stats import norm

    needed = rows_needed(rate, limit)
    z = norm.ppf(0.975)

    def upper(n: int) -> float:
        centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
        return centre + z / (1 + z * z / n) * (rate * (1 - rate) / n + z * z / (4 * n * n)) ** 0.5

    assert needed is not None and upper(needed) <= limit < upper(needed - 1)


def test_no_number_of_rows_shows_a_rate_at_its_own_limit() -> None:
    assert rows_needed(0.1, 0.1) is None
    assert verdict([outcome(40, 400)]) == "inconclusive"
