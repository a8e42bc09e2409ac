"""The values of ``diagnose.html.j2``."""

from __future__ import annotations

from typing import Any

from rora_cli.reports.html.plots import alignment_plot, heat_map, spectra_plot, steps_plot
from rora_cli.reports.subjects import rules, worst_first
from rora_cli.reports.terminal.diagnose import ranked
from rora_cli.results.diagnose import DiagnoseResult, Diagnosis


def values(result: DiagnoseResult) -> dict[str, Any]:
    """A section for each adapter, the worst first."""
    return {
        "pages": [_page(i, diagnosis) for i, diagnosis in enumerate(worst_first(result.adapters))],
        "rules": rules(result),
        "steps": steps_plot(result.margins) if result.margins is not None else None,
    }


def _page(index: int, diagnosis: Diagnosis) -> dict[str, Any]:
    return {
        "id": f"adapter-{index}",
        "d": diagnosis,
        "modules": ranked(diagnosis.modules),
        "with_base": any(m.base_sigma_max is not None for m in diagnosis.modules),
        "heat": heat_map(diagnosis.modules),
        "spectra": spectra_plot([("base", diagnosis.modules), ("update", diagnosis.modules)]),
        "alignment": alignment_plot(diagnosis.modules),
    }
