"""``rora schema``: the JSON Schema of a command's report, as the package ships it."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from typing import Annotated

from rora_cli.errors import UsageError
from rora_cli.options import Option, Options
from rora_cli.reports.json_schema import shipped
from rora_cli.results.reports import REPORTS


@dataclass(frozen=True, kw_only=True)
class SchemaConfig(Options):
    """Which schema to show."""

    name: Annotated[
        str | None, Option("A command, or dry-run.", metavar="[COMMAND]", argument=True, shown="list them")
    ] = None


def run(config: SchemaConfig) -> str:
    """The schema as JSON; without a name, a line for each that there is. Raises UsageError for one that is not."""
    if config.name is None:
        return "".join(f"{name:<12}{json.loads(shipped(name))['title']}\n" for name in REPORTS)
    if config.name not in REPORTS:
        close = difflib.get_close_matches(config.name, REPORTS, n=1)
        advice = f"did you mean {close[0]}?" if close else "`rora schema` lists them"
        raise UsageError(f"there is no report of {config.name!r}; {advice}")
    return shipped(config.name)
