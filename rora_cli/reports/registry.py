"""The formats of a report of findings: a name, and the function that renders it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

#: Format -> "module:function" in this package; the function takes the result. ``text`` is a command's own report.
FORMATS: Mapping[str, str] = {
    "json": "json_report:render",
    "sarif": "sarif:render",
    "junit": "junit:render",
    "markdown": "markdown:render",
    "html": "html:render",
    "github": "github:render",
}


def renderer(name: str) -> Callable[[Any], str]:
    """The function of one of ``FORMATS``, from result to text."""
    module, _, function = FORMATS[name].partition(":")
    return getattr(import_module(f"rora_cli.reports.{module}"), function)
