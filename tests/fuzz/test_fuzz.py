"""A short run of the fuzz target on its seeds and on mutations of them; and what long runs have found."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TARGET = Path(__file__).with_name("fuzz_readers.py")


def test_short_run(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, str(TARGET), str(tmp_path / "seeds"), "-max_total_time=5"],
        capture_output=True, text=True, cwd=tmp_path, timeout=300,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-4000:]
