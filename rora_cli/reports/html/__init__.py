"""One self-contained HTML page: no script, no network, readable in light and dark, by keyboard and screen reader.

All text goes through ``safe`` and then jinja2's autoescape; the plots are inline SVG, made of numbers alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from rora_cli.reports.html.pieces import marked, points, words
from rora_cli.reports.terminal.diagnose import from_block
from rora_cli.reports.text import count, duration, number, percent, proportion, safe, size

#: Type of result -> template, which is also the module of this package that finds the template's values.
PAGES: Mapping[str, str] = {
    "CheckResult": "check",
    "DiagnoseResult": "diagnose",
    "HuntResult": "hunt",
    "PurifyResult": "purify",
    "EvaluationResult": "evaluate",
    "PoisonResult": "poison",
}


def render(result: Any) -> str:
    """The page for a result of one of ``PAGES``."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    name = PAGES[type(result).__name__]
    environment = Environment(
        loader=PackageLoader("rora_cli.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(printable=safe, number=number, percent=percent, short=from_block, size=size, words=words)
    environment.filters.update(proportion=proportion, marked=marked, duration=duration, points=points)
    environment.globals.update(count=count)
    values: dict[str, Any] = import_module(f"rora_cli.reports.html.{name}").values(result)
    return environment.get_template(f"{name}.html.j2").render(**{"result": result, **values})
