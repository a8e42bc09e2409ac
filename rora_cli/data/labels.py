"""Maps the labels in the data to the model's label ids, by their names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rora_cli.data import integers
from rora_cli.data.integers import UNLABELLED
from rora_cli.data.suggestions import LEFT_OUT, listed, suggested
from rora_cli.errors import DataError

#: Groups of names that public data sets and models use for one class. A name is in one group only.
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

#: The orders of labels in all public data sets of their kind, for a model without names (LABEL_0, LABEL_1).
CONVENTIONAL_ORDERS = (("negative", "positive"), ("negative", "neutral", "positive"), ("unacceptable", "acceptable"))

_GENERIC = re.compile(r"label[ _-]?(\d+)|(\d+)", re.IGNORECASE | re.ASCII)
_INTEGER = re.compile(r"[+-]?\d{1,9}(?:\.0*)?", re.ASCII)
_TRUTHS = {"false": 0, "true": 1}


def canonical(name: str) -> str:
    """``name`` without case, spacing and punctuation between words, replaced by the first of its synonyms."""
    plain = " ".join(re.split(r"[\s_-]+", name.strip().casefold()))
    return _CANONICAL.get(plain, plain)


class LabelMap:
    """Maps label values of one data set to ids 0..n-1 of a model with ``label_names``.

    Names in the rows, and ``class_names`` of integer labels, are matched to the model's names as they are, then by
    :func:`canonical`. If the model has no names (LABEL_0, ...), named integers keep their id, and names with a
    conventional order get their place in it. :mod:`rora_cli.data.integers` decides what integers without names mean,
    for all values seen so far. ``notes`` explain every decision that is not plain from the values.

    Args:
        label_names: the model's names, by id.
        class_names: the names of the data's integer labels, by integer, if the source tells them.
        given: the user's own mapping from labels in the data to labels (names or ids) of the model, or to nothing for
            rows to leave out; it takes precedence.
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
        self.notes: list[str] = []
        self.is_generic = all(_is_id_name(name, i) for i, name in enumerate(self.label_names))
        self._exact = _unique({name.strip().casefold(): i for i, name in enumerate(self.label_names)}, self.label_names)
        self._canonical: dict[str, int | None] = {}
        for i, name in enumerate(self.label_names):
            key = canonical(name)
            self._canonical[key] = None if key in self._canonical else i
        # Names that are numbers ("1" and "2") mean nothing, unless the model has the same names.
        numbers = all(_INTEGER.fullmatch(name) for name in class_names or ())
        known = not self.is_generic and all(name.strip() in self._exact for name in class_names or ())
        self.class_names = None if numbers and not known else class_names
        self._given = {label_key(value): self._model_id(target) for value, target in (given or {}).items()}
        self._integers: dict[int, int] = {}
        self._numbers = integers.numbers_in(self.label_names)
        self._names_here: list[str] = []
        #: Keys of ``given`` that the data hold.
        self.used: set[str] = set()
        self.mapping: dict[str, int] = {}

    def ids(self, values: Sequence[Any]) -> list[int]:
        """The model's id of every value; -1 for a row that has no label or is left out.

        Raises:
            DataError: a label cannot be mapped; the message names it, the labels of both sides, and a --label-map.
        """
        distinct = {(type(value), value) for value in values if isinstance(value, (str, int, float))}
        self._names_here = [value for _, value in distinct if isinstance(value, str) and value.strip()]
        strings_are_ids = self._strings_are_ids([value for _, value in distinct if isinstance(value, str)])
        truths = self._truths([value for _, value in distinct])
        self._decide_integers([value for _, value in distinct], strings_are_ids, truths)
        cache: dict[tuple[type, Any], int] = {}
        ids = []
        for row, value in enumerate(values, 1):
            try:
                found = cache.get((type(value), value))
            except TypeError:
                raise self._not_a_label(value, row) from None
            if found is None:
                found = cache[type(value), value] = self._id(value, row, strings_are_ids, truths)
                if found != UNLABELLED:
                    self.mapping[self._shown(value)] = found
            ids.append(found)
        return ids

    def _shown(self, value: Any) -> str:
        named = self.class_names is not None and type(value) is int and 0 <= value < len(self.class_names)
        return f"{value} ({self.class_names[value]})" if named and self.class_names else str(value)

    def _strings_are_ids(self, values: list[str]) -> bool:
        """Whether strings such as "0" are ids, because CSV has no integers, and not names that consist of digits."""
        numbers = [value for value in values if value.strip() and label_key(value) not in self._given]
        return all(_INTEGER.fullmatch(value.strip()) for value in numbers) and not all(
            value.strip().casefold() in self._exact for value in numbers
        )

    def _truths(self, values: Sequence[Any]) -> dict[str, int]:
        """Ids of true and false, if all values are truths and the model's names are not; else empty."""
        keys = {label_key(value) for value in values if str(value).strip()} - self._given.keys()
        if not keys or not keys <= _TRUTHS.keys() or keys <= self._exact.keys():
            return {}
        order = self._order(2)
        if order is None:
            raise self._mismatch("true and false name none of them", ["False", "True"])
        self._note(f"false was taken as {self.label_names[order[0]]!r} and true as {self.label_names[order[1]]!r}")
        return {key: order[truth] for key, truth in _TRUTHS.items()}

    def _order(self, count: int) -> tuple[int, ...] | None:
        """Ids of ``count`` labels from least to most; None if the model's names do not tell."""
        if len(self.label_names) != count:
            return None
        if self.is_generic:
            return tuple(range(count))
        for order in CONVENTIONAL_ORDERS:
            found = [self._canonical.get(name) for name in order]
            if len(order) == count and None not in found:
                return tuple(id_ for id_ in found if id_ is not None)
        names = [canonical(name) for name in self.label_names]
        for least, most in ((0, 1), (1, 0)):
            if count == 2 and names[least] in (f"not {names[most]}", f"non {names[most]}", f"no {names[most]}"):
                return least, most
        return None

    def _decide_integers(self, values: Iterable[Any], strings_are_ids: bool, truths: Mapping[str, int]) -> None:
        """Decide what the unnamed integers seen so far mean; a decision for an integer never changes."""
        found = {int(float(value)) for value in values if self._is_integer(value, strings_are_ids, truths)}
        if self.class_names is not None:
            found = {value for value in found if not 0 <= value < len(self.class_names)}
        # A split with only -1, as many public test splits, has no labels and says nothing about the other splits.
        if found <= self._integers.keys() or (found == {UNLABELLED} and UNLABELLED not in self._numbers):
            return
        given = {int(key): id_ for key, id_ in self._given.items() if _INTEGER.fullmatch(key)}
        model = integers.ModelLabels(self.label_names, self._order(2), self._order(3))
        decided = integers.decide(found | self._integers.keys(), model, self.where, given)
        changed = [value for value, id_ in self._integers.items() if decided.ids[value] != id_]
        if changed:
            raise DataError(
                f"the splits do not count their labels alike: {changed[0]} was read as "
                f"{self.label_names[self._integers[changed[0]]]!r} before {self.where}, which does not fit the labels "
                f"there ({listed(sorted(found))}); say which is which with {suggested(sorted(found), self.label_names)}"
            )
        self._integers = decided.ids
        self._note(*decided.notes)

    def _is_integer(self, value: Any, strings_are_ids: bool, truths: Mapping[str, int]) -> bool:
        if isinstance(value, str):
            return strings_are_ids and _INTEGER.fullmatch(value.strip()) is not None
        if isinstance(value, bool) and (truths or label_key(value) in self._exact):
            return False
        return not isinstance(value, float) or value.is_integer()

    def _note(self, *sentences: str) -> None:
        self.notes += [sentence for sentence in sentences if sentence not in self.notes]

    def _id(self, value: Any, row: int, strings_are_ids: bool, truths: Mapping[str, int]) -> int:
        if label_key(value) in self._given:
            return self._by_given(value)
        if value is None or value != value or (isinstance(value, str) and not value.strip()):
            return UNLABELLED
        if isinstance(value, (bool, str)) and label_key(value) in truths:
            return truths[label_key(value)]
        if isinstance(value, str):
            if strings_are_ids:
                return self._integer_id(int(float(value)))
            return self._named_id(value)
        if isinstance(value, bool) and label_key(value) in self._exact:
            return self._exact[label_key(value)]
        if isinstance(value, (bool, int)) or (isinstance(value, float) and value.is_integer()):
            return self._integer_id(int(value))
        raise self._not_a_label(value, row)

    def _integer_id(self, value: int) -> int:
        names = self.class_names
        if names is not None and 0 <= value < len(names):
            if label_key(names[value]) in self._given:
                return self._by_given(names[value])
            if not self.is_generic:
                return self._named_id(names[value])
            if len(names) != len(self.label_names):
                raise self._mismatch(f"{len(names)} labels against {len(self.label_names)}", names)
            return value
        return self._integers.get(value, UNLABELLED)

    def _by_given(self, label: Any) -> int:
        found = self._given[label_key(label)]
        self.used.add(label_key(label))
        if found == UNLABELLED:
            self._note(f"rows with the label {str(label)!r} were left out, as the label map says")
        return found

    def _named_id(self, name: str) -> int:
        found = self._exact.get(name.strip().casefold())
        if found is None:
            found = self._canonical.get(canonical(name))
        if found is None:
            found = self._conventional_id(name)
        if found is None:
            raise self._mismatch(f"{name!r} has no match", self.class_names or self._names_here or [name])
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
                self._note(f"the model names no labels, so {' < '.join(order)} was taken as its order of ids")
                return order.index(canonical(name))
        return None

    def _model_id(self, target: str) -> int:
        if not target.strip():
            return UNLABELLED
        found = self._exact.get(target.strip().casefold())
        if found is None and target.strip().isdecimal() and int(target) < len(self.label_names):
            found = int(target)
        if found is None:
            raise DataError(f"--label-map has {target!r}, which is no label of the model: {listed(self.label_names)}")
        return found

    def _mismatch(self, what: str, labels: Iterable[str]) -> DataError:
        labels = sorted(dict.fromkeys(labels), key=canonical)
        return DataError(
            f"the data's labels {listed(labels)} do not fit the model's {listed(self.label_names)} in {self.where} "
            f"({what}); use data of the model's task, or say which is which, as with "
            f"{suggested(labels, self.label_names, self._named_or_none)} ({LEFT_OUT})"
        )

    def _named_or_none(self, name: str) -> int | None:
        return self._exact.get(name.strip().casefold(), self._canonical.get(canonical(name)))

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


def label_key(value: Any) -> str:
    """The key of a label in a mapping: 1, 1.0, "1" and "1.0" have the same."""
    text = str(value).strip().casefold()
    return str(int(float(text))) if _INTEGER.fullmatch(text) else text
