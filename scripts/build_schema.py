"""Rebuild ``rora_cli/reports/schemas/*.schema.json`` from the result types. Usage: python scripts/build_schema.py"""

from __future__ import annotations

import json
from pathlib import Path

from rora_cli.commands.diagnose.run import SCHEMA_VERSION
from rora_cli.reports.json_schema import build
from rora_cli.results.diagnose import DiagnoseResult

SCHEMAS = Path(__file__).parents[1] / "rora_cli" / "reports" / "schemas"


def main() -> None:
    """Write the file that ``rora diagnose --schema`` prints."""
    SCHEMAS.mkdir(exist_ok=True)
    text = json.dumps(build(DiagnoseResult, "diagnose", SCHEMA_VERSION), indent=2) + "\n"
    (SCHEMAS / "diagnose.schema.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
