"""Write rora_cli/reports/schemas/*.schema.json from the result types: python scripts/build_schema.py [--check]"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from rora_cli.reports.json_schema import build
from rora_cli.results.reports import REPORTS, report

SCHEMAS = Path(__file__).parents[1] / "rora_cli" / "reports" / "schemas"


def main(check: bool) -> None:
    """Write what ``rora schema`` prints, or end with a sentence where a file is not that."""
    for name in REPORTS:
        kind, version = report(name)
        path, made = SCHEMAS / f"{name}.schema.json", json.dumps(build(kind, name, version), indent=1) + "\n"
        if not check:
            path.write_text(made, encoding="utf-8")
        elif not path.is_file() or path.read_text(encoding="utf-8") != made:
            sys.exit(f"{path.name} is out of date: run python scripts/build_schema.py")


if __name__ == "__main__":
    main("--check" in sys.argv)
