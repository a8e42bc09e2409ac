"""The margins of today's thresholds over recorded searches: a threshold cannot move without its evidence.

``recorded_searches.json`` holds what docs/measurements.md lists of the search and of drift. Where a threshold is meant
to move, ``python -m tests.hunting.test_calibration`` writes ``margins.md`` anew, and the commit says why.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SCRIPT = HERE.parents[1] / "benchmarks" / "calibrate.py"
RECORDED = HERE / "recorded_searches.json"
MARGINS = HERE / "margins.md"


def calibrate() -> Any:
    spec = importlib.util.spec_from_file_location("calibrate", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["calibrate"] = module
    spec.loader.exec_module(module)
    return module


def margins() -> str:
    entries = json.loads(RECORDED.read_text(encoding="utf-8"))
    text: str = calibrate().table((entry["report"], entry["trigger"]) for entry in entries)
    return text


def test_the_margins_of_the_recorded_searches_are_what_they_were() -> None:
    assert margins() == MARGINS.read_text(encoding="utf-8")


def test_every_recorded_trigger_is_on_its_side_of_a_call() -> None:
    lines = {line.split("`")[1]: line.split("|") for line in margins().splitlines()[2:]}
    for name in ("calls.min_suspicion", "calls.min_excess", "calls.min_strongest_excess", "calls.min_sequence_excess"):
        assert float(lines[name][6]) > 0, name


def test_reports_are_read_from_files(tmp_path: Path) -> None:
    clean, poisoned = tmp_path / "clean.json", tmp_path / "poisoned.json"
    entries = json.loads(RECORDED.read_text(encoding="utf-8"))
    clean.write_text(json.dumps(entries[-1]["report"]), encoding="utf-8")
    poisoned.write_text(json.dumps(entries[0]["report"]), encoding="utf-8")
    command = [sys.executable, str(SCRIPT), "--clean", str(clean), "--poisoned", f"{poisoned}=cf"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "(cf, CR BadNet)" in done.stdout and "clean CoLA" in done.stdout
    assert subprocess.run(command[:2], capture_output=True, check=False).returncode == 2


if __name__ == "__main__":
    MARGINS.write_text(margins(), encoding="utf-8")
