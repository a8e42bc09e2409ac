"""Decides what integer labels without names mean: the model's ids, numbers in its names, or a count from 1 or from -1.

rora shifts labels only if a single reading fits, and then says so. If several fit, it refuses, and names the option
that tells them apart: one pair from the user settles how all labels are counted.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from rora_cli.data.suggestions import LEFT_OUT, listed, pair, pairs, suggested
from rora_cli.errors import DataError

#: Label id of rows without a label.
UNLABELLED = -1

_NUMBER = re.compile(r"(?<![\w.])-?\d{1,9}(?![\w.])", re.ASCII)


class ModelLabels(NamedTuple):
    """The model's names by id; and, if the names tell an order, the ids of two or three labels from least to most."""

    names: tuple[str, ...]
    of_two: tuple[int, ...] | None = None
    of_three: tuple[int, ...] | None = None


class Decision(NamedTuple):
    """The model's id of every value (UNLABELLED for none), and sentences for the user about doubtful readings."""

    ids: dict[int, int]
    notes: tuple[str, ...] = ()


class _Reading(NamedTuple):
    ids: dict[int, int]
    how: str


def decide(
    values: Collection[int],
    model: ModelLabels,
    where: str,
    given: Mapping[int, int],
) -> Decision:
    """Decide what ``values`` mean.

    Args:
        given: ids of some values, as the user states them; UNLABELLED for rows to leave out.

    Raises:
        DataError: no reading fits, or several do; the message holds the options that settle it.
    """
    present = sorted(set(values))
    free = [value for value in present if value not in given]
    if set(free) <= {UNLABELLED} and UNLABELLED not in numbers_in(model.names):
        return Decision(dict.fromkeys(free, UNLABELLED) | dict(given))
    if len(free) < len(present):
        return _decide_with(given, present, free, model, where)
    return _decide(present, model, where)


def _decide_with(
    given: Mapping[int, int],
    present: Sequence[int],
    free: Sequence[int],
    model: ModelLabels,
    where: str,
) -> Decision:
    """Choose the reading that agrees with ``given``; if none does, decide about the other values without it."""
    agreeing = [
        reading
        for reading in _readings(present, model)
        if all(reading.ids[value] == given[value] for value in present if value in given)
    ]
    if len({tuple(reading.ids[value] for value in free) for reading in agreeing}) == 1:
        return _said(agreeing[0], model.names)
    decided = _decide(free, model, where) if not agreeing else None
    if decided is None or {*decided.ids.values()} & {id_ for id_ in given.values() if id_ != UNLABELLED}:
        raise DataError(
            f"--label-map names only some of the labels {listed(present)} of {where}, and not how the others are "
            f"counted; name them all, as in {_in_order(present, model)} ({LEFT_OUT})"
        )
    return Decision({**decided.ids, **given}, decided.notes)


def _decide(
    present: list[int] | Sequence[int],
    model: ModelLabels,
    where: str,
) -> Decision:
    count = len(model.names)
    readings = {reading.how: reading for reading in _readings(present, model)}
    found = set(present)
    ids, named = readings.get(_AS_IDS), readings.get(_AS_NAMED)
    if named is not None and (ids is None or ids.ids == named.ids or _are_numbers(model.names)):
        return _said(named, model.names)
    if ids is not None and named is None:
        if 0 in found:
            return Decision(ids.ids, _reversed(ids, model))
        if len(found) == 1:
            return _said(ids, model.names)
    if UNLABELLED in found:
        if found == {-1, 1} and count == 2:
            return _said(readings[_AS_SIGNS], model.names)
        if found == {-1, 0, 1} and count == 3 and model.of_three is not None:
            return _said(readings[_FROM_MINUS_ONE], model.names)
        if found == {-1, *range(count)} and count > 2:
            return _said(readings[_UNLABELLED_TOO], model.names)
    if found == set(range(1, count + 1)) and count > 1:
        return _said(readings[_FROM_ONE], model.names)
    raise _refusal(present, list(readings.values()), model, where)


_AS_IDS = "as the model's ids"
_AS_NAMED = "by the numbers in the model's names"
_AS_SIGNS = "as the lower and the higher of two classes"
_UNLABELLED_TOO = "as the model's ids, with -1 for rows without a label"
_FROM_MINUS_ONE = "as a count from -1"
_FROM_ONE = "as a count from 1"


def _readings(
    present: Sequence[int],
    model: ModelLabels,
) -> list[_Reading]:
    """The readings that give every value a meaning."""
    count = len(model.names)
    signs = model.of_two or (0, 1)
    counted = model.of_three or tuple(range(count))
    numbers = numbers_in(model.names)
    candidates: list[tuple[str, dict[int, int]]] = [
        (_AS_NAMED, numbers),
        (_AS_IDS, {i: i for i in range(count)}),
        (_UNLABELLED_TOO, {i: i for i in range(-1, count)} if UNLABELLED in present else {}),
        (_AS_SIGNS, {-1: signs[0], 1: signs[1]} if count == 2 else {}),
        (_FROM_MINUS_ONE, {i - 1: id_ for i, id_ in enumerate(counted)} if UNLABELLED in present else {}),
        (_FROM_ONE, {i + 1: i for i in range(count)}),
    ]
    return [
        _Reading({value: meaning[value] for value in present}, how)
        for how, meaning in candidates
        if all(value in meaning for value in present)
    ]


def numbers_in(label_names: Sequence[str]) -> dict[int, int]:
    """Number -> id, if every name holds one number ("1 star") and these are not just the ids; else empty."""
    found = [_NUMBER.findall(re.sub(r"[_-](?=\d)(?<=\w.)", " ", name)) for name in label_names]
    if any(len(numbers) != 1 for numbers in found):
        return {}
    by_number = {int(numbers[0]): i for i, numbers in enumerate(found)}
    plain = all(number == i for number, i in by_number.items())
    return {} if plain or len(by_number) < len(found) else by_number


def _are_numbers(label_names: Sequence[str]) -> bool:
    return all(re.fullmatch(r"-?\d+", name.strip()) for name in label_names)


def _said(reading: _Reading, label_names: Sequence[str]) -> Decision:
    shown = [(value, label_names[id_]) for value, id_ in sorted(reading.ids.items()) if id_ != UNLABELLED]
    means = ", ".join(f"{value} is {name!r}" for value, name in shown[:8]) + (", ..." if len(shown) > 8 else "")
    return Decision(reading.ids, (f"integer labels were read {reading.how}: {means}",))


def _reversed(
    reading: _Reading,
    model: ModelLabels,
) -> tuple[str, ...]:
    """A sentence for the user if labels are read as ids, but the model's order is the reverse of the usual one."""
    return _said(reading, model.names).notes if model.of_two == (1, 0) or model.of_three == (2, 1, 0) else ()


def _in_order(
    present: Sequence[int],
    model: ModelLabels,
) -> str:
    if len(present) == 3 and len(model.names) == 2:  # the model does not know the middle class
        least, most = model.of_two or (0, 1)
        return pairs(zip(present, (model.names[least], "", model.names[most]), strict=True))
    order = next(
        (order for order in (model.of_two, model.of_three) if order and len(order) == len(present)),
        range(len(model.names)),
    )
    return suggested(present, [model.names[i] for i in order])


def _refusal(
    present: Sequence[int],
    readings: Sequence[_Reading],
    model: ModelLabels,
    where: str,
) -> DataError:
    """The error, with the option for each reading that tells it from the others; if none fits, with all pairs."""
    count = len(model.names)
    has = f"the model has {count} labels, ids 0 to {count - 1} ({listed(model.names)})"
    readings = list({tuple(reading.ids.items()): reading for reading in readings}.values())
    telling = next((value for value in present if len({r.ids[value] for r in readings}) == len(readings)), None)
    if telling is None or len(readings) < 2 or (len(present) > count and UNLABELLED in present):
        unlabelled = f", or {pair(-1, '')} if -1 marks rows without a label" if UNLABELLED in present else ""
        return DataError(
            f"{where} has the label{'s'[: len(present) - 1]} {listed(present)}, but {has}; use data of the model's "
            f"task, or say which is which, as with {_in_order(present, model)}{unlabelled} ({LEFT_OUT})"
        )
    ways = [
        f"{pair(telling, model.names[r.ids[telling]] if r.ids[telling] != UNLABELLED else '')} to read them {r.how}"
        for r in readings
    ]
    return DataError(
        f"{where} has the labels {listed(present)}, and {has}, so how they are counted is open; add "
        + ", or ".join(ways)
    )
