"""What an option is, beside the field that holds it: its help, its names, its unit, its bounds and its choices.

A field and its option are one thing: ``rank: Annotated[int, Option("Rank of the adapter.", ("--rank", "-r"), low=1)]``.
The command line is built from these annotations (``cli.command``), Python keywords are matched with them
(``commands.keywords``), and ``check_options`` holds the bounds and choices wherever a value comes from. Nothing here
imports typer or torch.
"""

from __future__ import annotations

import inspect
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import MISSING, asdict, dataclass, fields, replace
from functools import lru_cache
from types import NoneType
from typing import Annotated, Any, ClassVar, Literal, get_args, get_origin, get_type_hints

from rora_cli.errors import UsageError

#: Units: of a number that is a part of a whole, and of ``--max-accuracy-drop``.
FRACTION = "fraction of 1"
POINTS = "points of accuracy (1.0 is one percentage point)"


@dataclass(frozen=True)
class Option:
    """The option of one field.

    Attributes:
        help: a sentence for ``--help``.
        names: as the command line has them; without any, ``--`` and the field's name. A pair such as
            ``--cache/--no-cache`` is typer's.
        metavar: what stands for the value on the help page.
        low, high: the least and the most that a number may be.
        above, below: bounds that it must not reach.
        choices: the values that a text may have.
        unit: what a number counts, where the name does not tell.
        shown: the default in words, where the field's own says nothing.
        read: turns the command line's text (or texts) into the field's value; raises UsageError.
        argument: whether it stands without a name.
        infinite: whether a number may be infinite.
        eager: called with the value before anything else is done.
    """

    help: str
    names: tuple[str, ...] = ()
    metavar: str | None = None
    low: float | None = None
    high: float | None = None
    above: float | None = None
    below: float | None = None
    choices: tuple[str, ...] = ()
    unit: str = ""
    shown: str | None = None
    read: Callable[[Any], Any] | None = None
    argument: bool = False
    infinite: bool = False
    eager: Callable[[bool], None] | None = None

    @property
    def text(self) -> str:
        """The help, with the choices where it does not name them all."""
        named = all(re.search(rf"(?<![\w-]){re.escape(choice)}(?![\w-])", self.help) for choice in self.choices)
        return self.help if named else f"{self.help} One of {', '.join(self.choices)}."


@dataclass(frozen=True)
class OptionField:
    """A field with its option. ``kind`` is the type of one value, ``group`` the class that declares the field."""

    name: str
    option: Option
    kind: type
    several: bool
    default: Any
    group: type

    @property
    def required(self) -> bool:
        """Whether the user has to give it."""
        return self.default is MISSING

    @property
    def heading(self) -> str:
        """The heading that its group has on the help page; empty for what stands first."""
        return str(vars(self.group).get("panel", ""))

    @property
    def one_text(self) -> bool:
        """Whether several values come as one text, with commas say, and not as the option several times."""
        read = self.option.read
        return self.several and read is not None and "text" in inspect.signature(read).parameters

    @property
    def flag(self) -> str:
        """Its name in a sentence: ``--max-rows``, or ``MODEL`` for an argument."""
        if self.option.argument:
            return (self.option.metavar or self.name.upper()).removesuffix("...")
        names = self.option.names
        return next((name for name in names if name.startswith("--")), names[0]).partition("/")[0]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Base of every group of options, and of every command's config, which inherits from its groups.

    ``panel`` is the heading of a class's own options on the help page; without one they stand first.
    """

    panel: ClassVar[str] = ""

    def __post_init__(self) -> None:
        check_options(self)


def options_of(group: type[Any]) -> Mapping[str, OptionField]:
    """The options of a class by field name: its own first, then those of its bases in the order of their listing.

    A field may point to the class that describes it: ``rank: Annotated[int | None, AdapterSpec] = None``.
    """
    kind: Any = group
    found: Mapping[str, OptionField] = _options_of(kind)
    return found


def given(options: Any, names: Iterable[str]) -> list[str]:
    """The flags of those fields among ``names`` whose value is not the default."""
    known = options_of(type(options))
    return [known[name].flag for name in names if name in known and getattr(options, name) != known[name].default]


def in_words(options: Any, without: Iterable[str] = ()) -> tuple[str, ...]:
    """A command line's words for what is not the default; arguments and the fields ``without`` are left out."""
    words: list[str] = []
    for name, field in options_of(type(options)).items():
        value = getattr(options, name)
        if field.option.argument or name in without or value is None or (value == field.default):
            continue
        if isinstance(value, bool):
            words.append(field.flag if value else field.option.names[0].rpartition("/")[2])
        elif isinstance(value, Mapping):
            words += [word for key, each in value.items() for word in (field.flag, f"{key}={each}")]
        elif field.one_text:
            words += [field.flag, ",".join(value)]
        elif field.several:
            words += [word for each in value for word in (field.flag, str(each))]
        else:
            shown = str(value) if isinstance(value, str | int | float | os.PathLike) else field.option.metavar
            words += [field.flag, shown or name.upper()]
    return tuple(words)


@lru_cache
def _options_of(group: Any) -> Mapping[str, OptionField]:
    hints = get_type_hints(group, include_extras=True)
    declared = {field.name: field for field in fields(group)}
    found = {}
    for owner in (group, *_groups(group)):
        for name in vars(owner).get("__annotations__", {}):
            if name in declared and name not in found and (option := _option_in(hints[name], name)):
                kind, several = _kind(get_args(hints[name])[0])
                last = next(base for base in group.__mro__ if name in vars(base).get("__annotations__", {}))
                found[name] = OptionField(name, option, kind, several, _default(declared[name]), last)
    return found


def check_options(group: Any) -> None:
    """Raise UsageError where a value of ``group`` is beyond the bounds of its option, or none of its choices."""
    for field in options_of(type(group)).values():
        value = getattr(group, field.name)
        for each in value if isinstance(value, tuple | list) else (value,):
            if each is not None and (wanted := _wanted(field.option, each)):
                shown = repr(each) if isinstance(each, str) else f"{each:g}" if isinstance(each, float) else each
                raise UsageError(f"{field.flag} {wanted}, not {shown}")


def with_units(config: Any, values: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """``values`` of a config (default: its fields) as reports hold them: beside the units of those that have one."""
    fields = options_of(type(config))
    units = {name: field.option.unit for name, field in fields.items() if field.option.unit}
    return {**(asdict(config) if values is None else values), "units": units}


def commas(text: str) -> tuple[str, ...]:
    """The names in a text such as ``query, value``."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _wanted(option: Option, value: Any) -> str:
    """What the value should have been; empty where it is that."""
    if option.choices:
        return "" if value in option.choices else f"is one of {', '.join(option.choices)}"
    bounds = (option.low, option.high, option.above, option.below)
    if isinstance(value, bool) or not isinstance(value, int | float) or all(bound is None for bound in bounds):
        return ""
    inside = (
        not math.isnan(value)
        and (math.isfinite(value) or option.infinite)
        and (option.low is None or value >= option.low)
        and (option.high is None or value <= option.high)
        and (option.above is None or value > option.above)
        and (option.below is None or value < option.below)
    )
    return "" if inside else _range(option)


def _range(option: Option) -> str:
    """What a number within the bounds of ``option`` is, as the predicate of a sentence."""
    if option.unit == FRACTION:
        ends = [f"{end:g}" for end in (option.above, option.below) if end is not None]
        without = f", {' and '.join(ends)} not included" if ends else ""
        return f"is a fraction between 0 and 1{without} (0.1 for 10 %)"
    unit = f" {option.unit}" if option.unit else ""
    if option.low is not None and option.high is not None:
        return f"is between {option.low:g} and {option.high:g}{unit}"
    if option.above is not None and option.below is not None:
        return f"lies between {option.above:g} and {option.below:g}{unit}, neither of them included"
    words = [
        f"{word} {bound:g}{unit}"
        for word, bound in (
            ("at least", option.low),
            ("above", option.above),
            ("at most", option.high),
            ("below", option.below),
        )
        if bound is not None
    ]
    return "is " + " and ".join(words)


def _groups(group: type) -> Iterator[type]:
    """The bases of a class in the order of their listing, each after its own bases."""
    for base in group.__bases__:
        if base not in (object, Options):
            yield from _groups(base)
            yield base


def _option_in(hint: Any, name: str) -> Option | None:
    """The option beside the field ``name``, with the name that the command line has for it."""
    for item in get_args(hint)[1:] if get_origin(hint) is Annotated else ():
        if isinstance(item, Option):
            return item if item.names or item.argument else replace(item, names=(f"--{name.replace('_', '-')}",))
        if isinstance(item, type):
            return options_of(item)[name].option
    return None


def _kind(hint: Any) -> tuple[type, bool]:
    """The type of one value, and whether there may be several."""
    kinds = [kind for kind in get_args(hint) if kind is not NoneType] if NoneType in get_args(hint) else [hint]
    kind = kinds[0]
    if get_origin(kind) in (tuple, list):
        return get_args(kind)[0], True
    if get_origin(kind) is Literal:
        return str, False
    if get_origin(kind) is not None:
        return str, True
    return kind, False


def _default(field: Any) -> Any:
    return field.default_factory() if field.default_factory is not MISSING else field.default
