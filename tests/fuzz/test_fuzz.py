"""A short run of the fuzz target: its seeds, and as many seeded mutations of them on any machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TARGET = Path(__file__).with_name("fuzz_readers.py")


def test_short_run(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, str(TARGET), str(tmp_path / "seeds"), "-runs=2000"],
        capture_output=True, text=True, cwd=tmp_path, timeout=300,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-4000:]
    assert "Done 2000 runs" in run.stderr or "and 2000 mutations" in run.stdout, "it did not run"
