"""Labels of a classifier, as a user names them."""

from __future__ import annotations

from collections.abc import Sequence

from rora_cli.errors import UsageError


def find_label(value: str, label_names: Sequence[str]) -> int:
    """The id of a label given by name (case does not matter) or by id. Raises UsageError with the names there are."""
    names = [name.casefold() for name in label_names]
    if value.casefold() in names:
        return names.index(value.casefold())
    if value.isascii() and value.isdigit() and int(value) < len(names):
        return int(value)
    raise UsageError(f"the model has no label {value!r}; its labels are {', '.join(label_names)}")
