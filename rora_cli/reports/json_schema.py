"""The JSON Schemas (draft 2020-12) of the reports, made of the fields, types and docstrings of their dataclasses."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import IntEnum
from importlib.resources import files
from itertools import chain
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from rora_cli.results.accuracy import Proportion
from rora_cli.results.findings import Severity

_PLAIN: Mapping[type, dict[str, Any]] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    # The report holds null for NaN and infinity, which JSON lacks.
    float: {"type": ["number", "null"]},
    NoneType: {"type": "null"},
}


#: Fields that mean the same wherever they stand.
_EVERYWHERE: Mapping[str, str] = {
    "schema_version": "version of the report's form.",
    "provenance": "what makes the result reproducible.",
    "findings": "faults and oddities, as a report lists them.",
}
#: A field that ``json_report.plain`` adds to those of its class.
_VALUE = "``count`` / ``total``, a fraction; null if ``total`` is 0."


def shipped(name: str) -> str:
    """The schema of one of ``results.reports.REPORTS``, from the package's files."""
    return files("rora_cli.reports").joinpath(f"schemas/{name}.schema.json").read_text(encoding="utf-8")


def build(result: type, name: str, version: int) -> dict[str, Any]:
    """The schema of the text that json_report.render makes of ``result``, a dataclass of rora_cli.results."""
    definitions: dict[str, Any] = {}
    root = _object(result, definitions)
    root["properties"]["schema_version"]["const"] = version
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:rora:{name}:{version}",
        "title": f"The JSON report of rora {name}, version {version}".replace("rora dry-run", "--dry-run"),
        **root,
        "$defs": {key: definitions[key] for key in sorted(definitions)},
    }


def about(cls: type) -> str:
    """What a dataclass of the reports is, by its docstring without the list of its fields."""
    text = (inspect.getdoc(cls) or "").partition("\nAttributes:\n")[0]
    return " ".join(re.sub(r":\w+:", "", text).split())


def meanings(cls: type) -> dict[str, str]:
    """Each field of a dataclass of the reports, and what its docstring says of it; "" where it says nothing.

    That is the field's entry under ``Attributes:``, else every sentence and entry that names it.
    """
    listed = (inspect.getdoc(cls) or "").partition("\nAttributes:\n")[2]
    entries: dict[str, str] = {}
    for names, text in re.findall(r"^ {4}(\w[\w, ]*): (.*(?:\n {5,}.*)*)", listed, re.MULTILINE):
        entries |= dict.fromkeys(names.split(", "), " ".join(text.split()))
    said = [*re.split(r"(?<=\.)(?<!e\.g\.) ", about(cls)), *dict.fromkeys(entries.values())]
    return {
        field.name: entries.get(field.name)
        or " ".join(text for text in said if re.search(rf"``[^`]*\b{field.name}\b[^`]*``", text))
        or _EVERYWHERE.get(field.name, "")
        for field in fields(cls)
    }


def _in_json(text: str) -> str:
    """A sentence about Python's values as one about those of JSON."""
    return re.sub(r"\bNone\b", "null", text)


def _object(cls: type, definitions: dict[str, Any]) -> dict[str, Any]:
    hints, said = get_type_hints(cls), meanings(cls)
    properties = {
        field.name: {"description": _in_json(said[field.name]), **_type(hints[field.name], definitions)}
        for field in fields(cls)
    }
    if cls is Proportion:
        properties = {"value": {"description": _VALUE, "type": ["number", "null"]}, **properties}
    return {
        "description": _in_json(about(cls)),
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _type(hint: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return {}
    if hint in _PLAIN:
        return _PLAIN[hint]
    if origin in (Union, UnionType):
        return _union([_type(argument, definitions) for argument in arguments])
    if origin is tuple and arguments[-1:] == (...,):
        return {"type": "array", "items": _type(arguments[0], definitions)}
    if origin is tuple:
        places = [_type(argument, definitions) for argument in arguments]
        return {"type": "array", "prefixItems": places, "items": False, "minItems": len(places)}
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": _type(arguments[1], definitions)}
    if hint is Severity:
        return {"enum": [severity.label for severity in Severity]}
    if isinstance(hint, type) and issubclass(hint, IntEnum):
        return {"enum": [int(member) for member in hint]}
    if is_dataclass(hint):
        assert isinstance(hint, type)
        if hint.__name__ not in definitions:
            definitions[hint.__name__] = {}  # placed first, because a type may hold itself
            definitions[hint.__name__] = _object(hint, definitions)
        elif definitions[hint.__name__].get("description") not in (None, _in_json(about(hint))):
            raise TypeError(f"a report has two types of the name {hint.__name__}")
        return {"$ref": f"#/$defs/{hint.__name__}"}
    raise TypeError(f"a report has no fields of the type {hint}")


def _union(options: list[dict[str, Any]]) -> dict[str, Any]:
    """``{"type": [...]}`` where all options are plain types, else anyOf."""
    if all(option.keys() == {"type"} for option in options):
        types = [[t] if isinstance(t := option["type"], str) else t for option in options]
        return {"type": list(dict.fromkeys(chain.from_iterable(types)))}
    return {"anyOf": options}
