"""The formats that a report of findings can have: a name and the function that makes the string."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

#: Format -> "module:function" in this room; each takes the result. ``text`` is the command's own terminal report.
FORMATS: Mapping[str, str] = {
    "json": "json_report:render",
    "sarif": "sarif:render",
    "junit": "junit:render",
    "markdown": "markdown:render",
    "html": "html:render",
    "github": "github:render",
}


def renderer(name: str) -> Callable[[Any], str]:
    """The function of one of ``FORMATS``."""
    module, _, function = FORMATS[name].partition(":")
    return getattr(import_module(f"rora_cli.reports.{module}"), function)
