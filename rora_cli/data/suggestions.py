"""``--label-map`` options written out, ready to be copied from a refusal."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Sequence

#: What an option without a target means.
LEFT_OUT = "nothing after the = leaves those rows out"

_MOST = 12


def pair(label: object, target: str) -> str:
    """One option, quoted for a shell."""
    return f"--label-map {shlex.quote(f'{label}={target}')}"


def pairs(mapping: Iterable[tuple[object, str]]) -> str:
    """One option a pair; of very many, the first ones."""
    options = [pair(label, target) for label, target in mapping]
    return " ".join(options[:_MOST]) + (" and so on" if len(options) > _MOST else "")


def suggested(
    labels: Sequence[object], label_names: Sequence[str], match: Callable[[str], int | None] = lambda _: None
) -> str:
    """Options for all ``labels``: those that ``match`` an id get it, the others what is left of the model's in order.

    Labels for which the model has none left get no target.
    """
    known = {label: match(str(label)) for label in labels}
    left = iter([name for i, name in enumerate(label_names) if i not in known.values()])
    return pairs((label, label_names[id_] if id_ is not None else next(left, "")) for label, id_ in known.items())


def listed(names: Sequence[object], most: int = 8) -> str:
    """Names for a sentence; of very many, the first ones and how many more there are."""
    shown = ", ".join(repr(name) for name in names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
