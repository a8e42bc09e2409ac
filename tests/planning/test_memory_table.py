"""The table of docs/planning.md is what the estimate says today."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.versions import is_older

SCRIPT = Path(__file__).parents[2] / "scripts" / "build_memory_table.py"


@pytest.mark.slow
@pytest.mark.skipif(is_older("torch") or is_older("transformers"), reason="other versions take other memory")
def test_the_table_of_what_fits_where_is_what_the_estimate_says() -> None:
    done = subprocess.run([sys.executable, str(SCRIPT), "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
