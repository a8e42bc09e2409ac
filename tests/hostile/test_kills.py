"""SIGKILL at random points of the commands that write: absent, the old output whole, or the new one whole.

Points are lines of rora's code, half of them of the code that writes. ``RORA_KILL_POINTS=200`` tries that many for each
command instead of a few.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import rora_cli
from rora_cli import files
from rora_cli.commands import verify
from rora_cli.files import MANIFEST_NAME
from tests.hostile import corpus
from tests.kill_points import lines_run

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks a process that has run torch")

POINTS = int(os.environ.get("RORA_KILL_POINTS", "8"))


def rescale(out: Path, base: Path, adapter: Path, rows: Path) -> Callable[[], Any]:
    from rora_cli.commands.rescale.config import RescaleConfig
    from rora_cli.commands.rescale.run import run

    config = RescaleConfig(adapter=str(adapter), base=str(base), output=out, offline=True, force=True)
    return lambda: run(config)


def purify(out: Path, base: Path, adapter: Path, rows: Path) -> Callable[[], Any]:
    from rora_cli.commands import purify

    config = purify.PurifyConfig(
        model=str(base), clean=str(rows), output=str(out), recipe="lora", epochs=1, batch_size=8, offline=True,
        device="cpu", force=True,
    )  # fmt: skip
    return lambda: purify.run(config)


def poison(out: Path, base: Path, adapter: Path, rows: Path) -> Callable[[], Any]:
    from rora_cli.commands import poison

    config = poison.PoisonConfig(
        model=str(base), data=str(rows), output=str(out), attack="badnet", target_label="positive", epochs=1,
        clean_rows=8, offline=True, device="cpu", force=True,
    )  # fmt: skip
    return lambda: poison.run(config)


def is_writing(file: str) -> bool:
    return file in (files.__file__, shutil.__file__) or file.endswith(("checkpoints/writer.py", "_output.py"))


def is_ours(file: str) -> bool:
    return file.startswith(str(Path(rora_cli.__file__).parent))


@pytest.mark.slow
@pytest.mark.parametrize("command", [rescale, purify, poison], ids=lambda c: c.__name__)
def test_output_is_whole_wherever_the_command_is_killed(
    command: Any, tmp_path: Path, base_model: Path, clean_rows: Path
) -> None:
    corpus.valid_adapter(tmp_path / "adapter")
    out = tmp_path / "out"
    work = command(out, base_model, tmp_path / "adapter", clean_rows)
    assert lines_run(work, is_writing) is not None
    kinds = [(watched, lines_run(work, watched) or 0) for watched in (is_writing, is_ours)]
    assert all(lines > 200 for _, lines in kinds), "the run is not traced"
    last, rng, seen, kills = _identity(out), random.Random(0), {"old": 0, "new": 0}, 0
    for run in range(2 * POINTS):
        watched, lines = kinds[run % 2]
        # Somewhat past the end: a run that finds the leftovers of a killed one has more to do.
        if lines_run(work, watched, rng.randint(1, lines + 40)) is None:
            kills += 1
            seen["old" if _identity(out) == last else "new"] += 1
        last = _identity(out)
        if kills == POINTS:
            break
    assert kills == POINTS
    assert seen["old"] and (seen["new"] or POINTS < 100)
    assert lines_run(work, is_writing) is not None, "a killed run must not stand in the way of the next"
    assert _identity(out) != last
    assert [p.name for p in tmp_path.iterdir() if p.name not in ("out", "adapter")] == []
    print(f"{command.__name__}: {kills} kills, {[lines for _, lines in kinds]} lines, {seen}")


def _identity(out: Path) -> str:
    """The hash of a whole output's manifest and place on disk; a broken or absent one fails."""
    assert out.exists(), "the old output has gone"
    result = verify.run(verify.VerifyConfig(path=str(out)))
    assert result.is_intact, result.findings
    return hashlib.sha256((out / MANIFEST_NAME).read_bytes() + str(out.stat().st_ino).encode()).hexdigest()
