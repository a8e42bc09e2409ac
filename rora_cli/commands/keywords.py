"""Keywords of the Python API to configs: names as on the command line, values of the right type, or one sentence."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterable, Mapping
from numbers import Integral, Real
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from rora_cli.errors import UsageError
from rora_cli.options import OptionField, options_of

Config = TypeVar("Config")

_COMMAND_LINE_ONLY = frozenset(
    {"quiet", "format", "config", "schema", "detail", "debug", "accelerate_config", "help", "install_completion"}
)


def configure(
    config: Callable[..., Config], command: str, required: Mapping[str, Any], given: Mapping[str, Any]
) -> Config:
    """The config of ``command``. ``required`` are its arguments that have no default, ``given`` the caller's keywords.

    Raises:
        UsageError: a keyword is unknown, given twice, missing, or its value is of the wrong type.
    """
    for name, value in required.items():
        if value is None:
            raise UsageError(f"{command} needs {name}: give it as a keyword, as in {command}(..., {name}=...)")
    kind: Any = config
    options, hints = options_of(kind), get_type_hints(config)
    names = _names(options) | {name: name for name in hints if name in kind.__dataclass_fields__}
    values: dict[str, Any] = {}
    for name, value in {**required, **given}.items():
        target = _target(command, name, names)
        if target in values:
            raise UsageError(f"{command} was given {name} twice, under two names; leave one out")
        option = options.get(target)
        read = option.option.read if option is not None and option.one_text and isinstance(value, str) else None
        values[target] = read(value) if read else value
    return config(**{name: fitted(name, value, hints[name]) for name, value in values.items()})


def _names(options: Mapping[str, OptionField]) -> dict[str, str]:
    """Every keyword -> its field: names as on the command line, with underscores."""
    return {
        name.lstrip("-").replace("-", "_"): field.name
        for field in options.values()
        for pair in field.option.names
        for name in pair.split("/")
        if name.startswith("--") and not name.startswith("--no-")
    }


def _target(command: str, name: str, names: Mapping[str, str]) -> str:
    if name in names:
        return names[name]
    if name in _COMMAND_LINE_ONLY:
        raise UsageError(f"{name} is for the command line only: {command} returns its result; leave it out")
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    advice = f"did you mean {' or '.join(close)}?" if close else f"it has {', '.join(sorted(names))}"
    raise UsageError(f"{command} has no option {name!r}; {advice}")


def fitted(name: str, value: Any, hint: Any) -> Any:
    """``value`` as ``hint`` has it. Raises UsageError where it is of another type."""
    kinds = get_args(hint) if NoneType in get_args(hint) else (hint,)
    if value is None and NoneType in kinds:
        return None
    kind = next(kind for kind in kinds if kind is not NoneType)
    convert = _CONVERTERS.get(get_origin(kind) or kind)
    if convert is None:
        return value
    try:
        return convert(name, value, get_args(kind))
    except TypeError:
        raise _wrong(name, value, _MEANINGS.get(get_origin(kind) or kind, "of another type")) from None


def _wrong(name: str, value: Any, meaning: str) -> UsageError:
    if hasattr(value, "save_pretrained"):
        return UsageError(
            f"{name} is {meaning}, not a {type(value).__name__} in memory; save it with save_pretrained, a model "
            "together with its tokenizer, and give that directory"
        )
    shown = repr(value) if isinstance(value, (str, int, float, bool)) else f"a {type(value).__name__} object"
    return UsageError(f"{name} is {meaning}, not {shown[:80]}")


def _text(_: str, value: Any, __: Any) -> str:
    return value if isinstance(value, str) else str(os.fspath(value))


def _truth(_: str, value: Any, __: Any) -> bool:
    if isinstance(value, bool) or type(value).__name__ in ("bool", "bool_"):  # NumPy's as well
        return bool(value)
    raise TypeError


def _whole(_: str, value: Any, __: Any) -> int:
    if isinstance(value, Integral) and not isinstance(value, bool):
        return int(value)
    raise TypeError


def _number(_: str, value: Any, __: Any) -> float:
    if isinstance(value, Real) and not isinstance(value, bool):
        return float(value)
    raise TypeError


def _several(name: str, value: Any, kinds: tuple[Any, ...]) -> tuple[Any, ...]:
    if isinstance(value, (str, os.PathLike)) or not isinstance(value, Iterable):
        value = [value]
    return tuple(fitted(name, item, kinds[0]) for item in value)


def _mapping(_: str, value: Any, __: Any) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise TypeError
    return {str(key): "" if target is None else str(target) for key, target in value.items()}


_CONVERTERS: dict[Any, Callable[[str, Any, tuple[Any, ...]], Any]] = {
    str: _text,
    bool: _truth,
    int: _whole,
    float: _number,
    Path: lambda name, value, kinds: Path(_text(name, value, kinds)),
    tuple: _several,
    Mapping: _mapping,
}
_MEANINGS: dict[Any, str] = {
    str: "a path, name or hub id, as text",
    Path: "a path",
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    tuple: "one value or a list of them",
    Mapping: "a dict from labels of the data to labels of the model",
}
