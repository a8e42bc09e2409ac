"""JSON from untrusted files: anything that two parsers could read differently is refused."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any, NoReturn

MAX_DEPTH = 64

_MAX_DIGITS = 40
_DIGITS_ALIKE = bytes.maketrans(b"123456789", b"000000000")


class JsonError(ValueError):
    """Something that is not JSON, or JSON that rora refuses; the text is the rest of the sentence "FILE ..."."""


def loads(data: bytes, *, max_values: int) -> Any:
    """Parse UTF-8 JSON without duplicate keys, NaN or Infinity, at most ``MAX_DEPTH`` deep.

    ``max_values`` limits how many values parsing may allocate; this is checked before parsing.

    Raises:
        JsonError: naming the fault.
    """
    if sum(map(data.count, (b",", b"[", b"{"))) > max_values:
        raise JsonError(f"holds more than {max_values:,} JSON values")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise JsonError(f"is not UTF-8 (byte {error.start})") from None
    # A Python call for every number would dominate the time for a vocabulary, so only if there may be a long number.
    whole = _bounded_int if b"0" * (_MAX_DIGITS + 1) in data.translate(_DIGITS_ALIKE) else None
    try:
        with collector_paused():
            value = json.loads(
                text, object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite, parse_int=whole
            )
    except JsonError:
        raise
    except RecursionError:
        raise JsonError(f"is nested more than {MAX_DEPTH} levels deep") from None
    except ValueError as error:
        raise JsonError(f"is not JSON ({error})") from None
    if _too_deep(value):
        raise JsonError(f"is nested more than {MAX_DEPTH} levels deep")
    return value


def walk(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """(keys that lead to it, value) for every value inside of ``value``, itself first."""
    pending: list[tuple[tuple[str, ...], Any]] = [(path, value)]
    while pending:
        where, item = pending.pop()
        yield where, item
        if isinstance(item, dict):
            pending += [((*where, str(key)), inner) for key, inner in item.items() if isinstance(inner, dict | list)]
            yield from (((*where, str(k)), v) for k, v in item.items() if not isinstance(v, dict | list))
        elif isinstance(item, list):
            pending += [((*where, str(i)), inner) for i, inner in enumerate(item) if isinstance(inner, dict | list)]


@contextmanager
def collector_paused() -> Iterator[None]:
    """Inside, the garbage collector pauses: parsed JSON has no cycles, and the search for them doubles the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise JsonError(f"has the key {twice[:80]!r} twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise JsonError(f"holds {name}, which is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise JsonError(f"holds the number {text[:40]}, which is out of range")
    return number


def _bounded_int(text: str) -> int:
    if len(text.lstrip("-")) > _MAX_DIGITS:  # transformers itself writes int(1e30) as model_max_length
        raise JsonError(f"holds a whole number of {len(text)} digits")
    return int(text)


def _too_deep(value: Any) -> bool:
    """Whether ``value`` is nested too deeply; goes level by level, since a tokenizer has 100,000s of small lists."""
    level = [value]
    for _ in range(MAX_DEPTH):
        if not level:
            return False
        lists = [item for item in level if type(item) is list]
        members = chain.from_iterable(item.values() for item in level if type(item) is dict)
        level = [i for i in chain(chain.from_iterable(lists), members) if type(i) is list or type(i) is dict]
    return bool(level)
