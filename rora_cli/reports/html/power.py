"""The section on what a search would have found, of the pages that have one."""

from __future__ import annotations

from typing import Any

from rora_cli.reports.terminal import power as in_text
from rora_cli.results.power import Power


def power_section(power: Power | None) -> dict[str, Any] | None:
    """The figure, its remarks, and the stand-ins; None where nobody asked."""
    if power is None:
        return None
    return {
        "p": power,
        "remarks": list(in_text.remarks(power)),
        "columns": in_text.COLUMNS,
        "rows": list(in_text.rows(power)),
        "explanation": in_text.EXPLANATION,
    }
