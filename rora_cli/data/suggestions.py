"""Writes ``--label-map`` options out, so that the user can copy them from an error message."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Sequence

#: The meaning of an option without a target, for a sentence.
LEFT_OUT = "nothing after the = leaves those rows out"

_MOST = 12


def pair(label: object, target: str) -> str:
    """The option that maps ``label`` to ``target``, quoted for a shell."""
    return f"--label-map {shlex.quote(f'{label}={target}')}"


def pairs(mapping: Iterable[tuple[object, str]]) -> str:
    """The options for all pairs of ``mapping``; only the first if there are many."""
    options = [pair(label, target) for label, target in mapping]
    return " ".join(options[:_MOST]) + (" and so on" if len(options) > _MOST else "")


def suggested(
    labels: Sequence[object], label_names: Sequence[str], match: Callable[[str], int | None] = lambda _: None
) -> str:
    """Options for all ``labels``: one that ``match`` knows gets its id, the others the model's other labels in order.

    If the model has too few labels, the last ones get no target.
    """
    known = {label: match(str(label)) for label in labels}
    left = iter([name for i, name in enumerate(label_names) if i not in known.values()])
    return pairs((label, label_names[id_] if id_ is not None else next(left, "")) for label, id_ in known.items())


def listed(names: Sequence[object], most: int = 8) -> str:
    """``names`` for a sentence; if there are many, the first ones and the number of the others."""
    shown = ", ".join(repr(name) for name in names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
