"""Real reports held against the schemas that the package ships, wherever a test has one."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import jsonschema

from rora_cli.reports import json_report
from rora_cli.reports.json_schema import shipped


@cache
def validator(name: str) -> jsonschema.Draft202012Validator:
    """Of one of ``results.reports.REPORTS``; the schema itself is checked too."""
    schema = json.loads(shipped(name))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def valid(name: str, report: Any) -> dict[str, Any]:
    """The report as a reader of its JSON gets it; fails where the schema of ``name`` does not describe it."""
    document = report if isinstance(report, dict) else json.loads(json_report.render(report))
    validator(name).validate(document)
    return document
