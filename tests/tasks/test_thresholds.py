from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from rora_cli.tasks.classification.thresholds import CALLS, CLAIMS
from rora_cli.tasks.thresholds import CallThresholds, ClaimThresholds, recorded, rows_of


@pytest.mark.parametrize("thresholds", [CALLS, CLAIMS])
def test_each_threshold_says_its_unit_what_it_decides_and_what_set_it(
    thresholds: CallThresholds | ClaimThresholds,
) -> None:
    rows = list(rows_of(thresholds))
    assert [row.name for row in rows] == [field.name for field in fields(thresholds)]
    assert all(row.unit and row.meaning.endswith(".") and row.evidence for row in rows)


def test_a_report_holds_every_value() -> None:
    held = recorded(calls=CALLS, claims=CLAIMS)
    assert held["calls"]["min_suspicion"] == 8.0 and held["claims"]["max_residual"] == 0.1
    assert len(held["calls"]) == len(fields(CALLS)) and len(held["claims"]) == len(fields(CLAIMS))


def test_the_method_is_up_to_date() -> None:
    script = Path(__file__).parents[2] / "scripts" / "build_method.py"
    done = subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
