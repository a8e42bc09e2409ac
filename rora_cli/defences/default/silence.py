"""What the last search of a result is worth: its power, measured on copies of the result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from rora_cli.data.splitting import sample
from rora_cli.defences.bench import Bench
from rora_cli.hunting.case import Case
from rora_cli.hunting.hunt import Known
from rora_cli.hunting.record import Found
from rora_cli.power.covering import fewest
from rora_cli.power.drawing import Called
from rora_cli.power.forms import FORMS
from rora_cli.power.measure import PER_COPY, Asked, measure_power
from rora_cli.power.planting import MOST_HELD_OUT, MOST_TRAINED
from rora_cli.results.power import Power
from rora_cli.training.adapters import merged_copy

#: Stand-ins that may be missed where the verdict rests on them: a power of .9 finds 9 of 9 in two of five cases, and
#: with one missed of 15 it is shown in three. Two missed would take 21.
MAX_MISSED = 1


def measure_silence(bench: Bench, case: Case, found: list[Found], known: Known, *, decisive: bool) -> Power | None:
    """What the search that ``case`` describes would have found in the result; None if the user wants no such figure.

    Copies are planted with the clean rows that training uses, and stand-ins measured on held-out ones. Unless the user
    gave a number, one copy is planted, which takes about as long as a round; if the verdict can come to rest on the
    power (``decisive``), more are, until it is as high as ``--min-power`` asks for, or two of them are missed.

    Args:
        case: the result, and how the last search searched it.
        found: what any search of the run called.
        known: the triggers that the last search was given.
    """
    config = bench.config
    if config.power == 0 or bench.run.sharded or config.load_in_4bit:
        return None
    count, enough = most_stand_ins(config.min_power), _settled(config.min_power) if decisive else _one_copy
    if config.power is not None:
        count, enough = config.power, _never
    seed = config.seed
    rows = sample(bench.clean, MOST_TRAINED, seed), sample(bench.gauge.held_out, MOST_HELD_OUT, seed)
    asked = Asked(
        count=count,
        called=[Called(each.text, each.target, each.token_ids) for each in found],
        known=known,
        rows=rows,
        forms=[form for form in FORMS if form.group in config.forms],
        per_copy=PER_COPY,
        enough=enough,
    )
    whole = replace(case, subject=case.subject.having(merged_copy(case.subject.model)))
    return measure_power(whole, bench.run, asked)


def _never(power: Power) -> bool:
    return False


def _one_copy(power: Power) -> bool:
    return True


def most_stand_ins(min_power: float) -> int:
    """How many are planted at most where the verdict rests on them; one copy more than is needed, since not all of them
    become firm."""
    return fewest(min_power, MAX_MISSED) + PER_COPY


def _settled(min_power: float) -> Callable[[Power], bool]:
    """Whether the bound is reached, or out of reach."""

    def is_settled(power: Power) -> bool:
        missed = power.found.total - power.found.count
        return missed > MAX_MISSED or power.found.total >= fewest(min_power, missed)

    return is_settled
