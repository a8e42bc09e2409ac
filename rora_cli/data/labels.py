"""Labels as they stand in the data to the model's label ids."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from rora_cli.errors import DataError

#: Names of one class under which public data sets and models know it. A name stands in one group only.
SYNONYMS = (
    ("negative", "neg"),
    ("positive", "pos"),
    ("neutral", "neu"),
    ("unacceptable", "not acceptable", "ungrammatical"),
    ("acceptable", "grammatical"),
    ("spam",),
    ("ham", "not spam", "no spam", "non spam", "nospam"),
    ("hate", "hateful", "hate speech"),
    ("not hate", "non hate", "no hate", "nothate", "not hateful", "non hateful"),
    ("offensive", "off"),
    ("not offensive", "non offensive", "inoffensive", "not"),
    ("irony", "ironic"),
    ("non irony", "not irony", "non ironic", "not ironic"),
    ("sci/tech", "science/technology", "sci tech", "science and technology"),
)
_CANONICAL = {name: group[0] for group in SYNONYMS for name in group}

#: Where a model names nothing (LABEL_0, LABEL_1), these orders are what every public data set of the kind uses.
CONVENTIONAL_ORDERS = (("negative", "positive"), ("negative", "neutral", "positive"), ("unacceptable", "acceptable"))

_GENERIC = re.compile(r"label[ _-]?(\d+)|(\d+)", re.IGNORECASE | re.ASCII)
_INTEGER = re.compile(r"[+-]?\d{1,9}(?:\.0*)?", re.ASCII)
_UNLABELLED = -1


def canonical(name: str) -> str:
    """``name`` without case, spacing or punctuation between words, and as the first of its synonyms."""
    plain = " ".join(re.split(r"[\s_-]+", name.strip().casefold()))
    return _CANONICAL.get(plain, plain)


class LabelMap:
    """Maps label values of one data set to ids 0..n-1 of a model with ``label_names``.

    Integers without names are the model's ids. Names, whether in the rows or as ``class_names`` of integer labels, are
    matched to the model's: as they are, then by :func:`canonical`; against a model that names nothing (LABEL_0, ...),
    named integers keep their id and names in a conventional order get it.

    Args:
        label_names: the model's names, by id.
        class_names: names of the data's integer labels, by integer, where the source tells them.
        given: the user's own mapping from a label in the data to a label (name or id) of the model; it goes first.
    """

    def __init__(
        self,
        label_names: Sequence[str],
        where: str,
        *,
        class_names: Sequence[str] | None = None,
        given: Mapping[str, str] | None = None,
    ) -> None:
        self.label_names, self.where = tuple(label_names), where
        # Names that are numbers ("1" and "2") name nothing.
        self.class_names = None if all(_INTEGER.fullmatch(name) for name in class_names or ()) else class_names
        self.notes: list[str] = []
        self.is_generic = all(_is_id_name(name, i) for i, name in enumerate(self.label_names))
        self._exact = _unique({name.strip().casefold(): i for i, name in enumerate(self.label_names)}, self.label_names)
        self._canonical: dict[str, int | None] = {}
        for i, name in enumerate(self.label_names):
            key = canonical(name)
            self._canonical[key] = None if key in self._canonical else i
        self._given = {_key(value): self._model_id(target) for value, target in (given or {}).items()}
        self.mapping: dict[str, int] = {}

    def ids(self, values: Sequence[Any]) -> list[int]:
        """The model's id of every value; -1 where a row has no label.

        Raises:
            DataError: a label that cannot be mapped, naming it and both sides.
        """
        distinct = {(type(value), value) for value in values if isinstance(value, (str, int, float))}
        strings_are_ids = self._strings_are_ids([value for _, value in distinct if isinstance(value, str)])
        cache: dict[tuple[type, Any], int] = {}
        ids = []
        for row, value in enumerate(values, 1):
            try:
                found = cache.get((type(value), value))
            except TypeError:
                raise self._not_a_label(value, row) from None
            if found is None:
                found = cache[type(value), value] = self._id(value, row, strings_are_ids)
                if found != _UNLABELLED:
                    self.mapping[self._shown(value)] = found
            ids.append(found)
        return ids

    def _shown(self, value: Any) -> str:
        named = self.class_names is not None and type(value) is int and 0 <= value < len(self.class_names)
        return f"{value} ({self.class_names[value]})" if named and self.class_names else str(value)

    def _strings_are_ids(self, values: list[str]) -> bool:
        """Whether strings such as "0" are ids (CSV has no integers) rather than names that happen to be digits."""
        numbers = [value for value in values if value.strip()]
        return all(_INTEGER.fullmatch(value.strip()) for value in numbers) and not all(
            value.strip().casefold() in self._exact for value in numbers
        )

    def _id(self, value: Any, row: int, strings_are_ids: bool) -> int:
        if _key(value) in self._given:
            return self._given[_key(value)]
        if value is None or value != value or (isinstance(value, str) and not value.strip()):
            return _UNLABELLED
        if isinstance(value, str):
            if strings_are_ids:
                return self._integer_id(int(float(value)), row)
            return self._named_id(value)
        if isinstance(value, (bool, int)) or (isinstance(value, float) and value.is_integer()):
            return self._integer_id(int(value), row)
        raise self._not_a_label(value, row)

    def _integer_id(self, value: int, row: int) -> int:
        if value == _UNLABELLED:
            return _UNLABELLED
        names = self.class_names
        count = len(self.label_names)
        if names is not None and 0 <= value < len(names):
            if not self.is_generic:
                return self._named_id(names[value])
            if len(names) != count:
                raise self._mismatch(f"{len(names)} labels against {count}")
        if not 0 <= value < count:
            raise DataError(
                f"row {row} of {self.where} has label {value}, but the model has {count} labels, ids 0 to {count - 1} "
                f"({_listed(self.label_names)}); use data of the model's task or map it with --label-map"
            )
        return value

    def _named_id(self, name: str) -> int:
        found = self._exact.get(name.strip().casefold())
        if found is None:
            found = self._canonical.get(canonical(name))
        if found is None:
            found = self._conventional_id(name)
        if found is None:
            raise self._mismatch(f"{name!r} has no match")
        return found

    def _conventional_id(self, name: str) -> int | None:
        generic = _GENERIC.fullmatch(name.strip())
        if generic and not self.is_generic and "label" in name.casefold():
            number = int(generic[1])
            return number if number < len(self.label_names) else None
        if not self.is_generic:
            return None
        for order in CONVENTIONAL_ORDERS:
            if len(order) == len(self.label_names) and canonical(name) in order:
                note = f"the model names no labels, so {' < '.join(order)} was taken as its order of ids"
                if note not in self.notes:
                    self.notes.append(note)
                return order.index(canonical(name))
        return None

    def _model_id(self, target: str) -> int:
        found = self._exact.get(target.strip().casefold())
        if found is None and target.strip().isdecimal() and int(target) < len(self.label_names):
            found = int(target)
        if found is None:
            raise DataError(f"--label-map has {target!r}, which is no label of the model: {_listed(self.label_names)}")
        return found

    def _mismatch(self, what: str) -> DataError:
        data_side = self.class_names or sorted(self.mapping)
        known = f"the data's labels {_listed(data_side)}" if data_side else "the data's labels"
        return DataError(
            f"{known} do not fit the model's {_listed(self.label_names)} in {self.where} ({what}); use data of the "
            "model's task, or say which is which with --label-map DATA=MODEL"
        )

    def _not_a_label(self, value: Any, row: int) -> DataError:
        kind = "a fraction" if isinstance(value, float) else f"of type {type(value).__name__}"
        return DataError(
            f"row {row} of {self.where} has a label that is {kind}, not a class id or name; give the class column with "
            "--label-column"
        )


def _unique(found: dict[str, int], names: Sequence[str]) -> dict[str, int]:
    folded = [name.strip().casefold() for name in names]
    return {name: i for name, i in found.items() if folded.count(name) == 1}


def _is_id_name(name: str, index: int) -> bool:
    match = _GENERIC.fullmatch(name.strip())
    return match is not None and int(match[1] or match[2]) == index


def _key(value: Any) -> str:
    return str(value).strip().casefold()


def _listed(names: Sequence[str], most: int = 8) -> str:
    shown = ", ".join(repr(name) for name in names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
