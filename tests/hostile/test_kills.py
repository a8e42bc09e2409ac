"""SIGKILL at random points of the commands that write: absent, the old output whole, or the new one whole.

``RORA_KILL_POINTS=200`` tries that many points a command instead of a few.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rora_cli.commands import verify
from rora_cli.files import MANIFEST_NAME
from tests.hostile import corpus

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks a process that has run torch")

POINTS = int(os.environ.get("RORA_KILL_POINTS", "8"))


def rescale(out: Path, base: Path, adapter: Path, rows: Path) -> Callable[[], Any]:
    from rora_cli.commands import rescale

    config = rescale.RescaleConfig(adapter=str(adapter), base=str(base), output=out, offline=True, force=True)
    return lambda: rescale.run(config)


def purify(out: Path, base: Path, adapter: Path, rows: Path) -> Callable[[], Any]:
    from rora_cli.commands import purify

    config = purify.PurifyConfig(
        model=str(base), clean=str(rows), output=str(out), recipe="lora", epochs=1, batch_size=8, allow_download=False,
        device="cpu", force=True,
    )  # fmt: skip
    return lambda: purify.run(config)


def poison(out: Path, base: Path, adapter: Path, rows: Path) -> Callable[[], Any]:
    from rora_cli.commands import poison

    config = poison.PoisonConfig(
        model=str(base), data=str(rows), output=str(out), attack="badnet", target_label="positive", epochs=1,
        clean_rows=8, allow_download=False, device="cpu", force=True,
    )  # fmt: skip
    return lambda: poison.run(config)


@pytest.mark.slow
@pytest.mark.parametrize("command", [rescale, purify, poison], ids=lambda c: c.__name__)
def test_output_is_whole_wherever_the_command_is_killed(
    command: Any, tmp_path: Path, base_model: Path, clean_rows: Path
) -> None:
    corpus.valid_adapter(tmp_path / "adapter")
    out = tmp_path / "out"
    work = command(out, base_model, tmp_path / "adapter", clean_rows)
    duration = _run_and_kill(work, None)
    assert duration is not None, "the command itself fails"
    last, rng, seen = _identity(out), random.Random(0), {"old": 0, "new": 0}
    assert last is not None
    for _ in range(POINTS):
        # Half of the points fall into the last tenth, where the output is written.
        late = rng.random() < 0.5
        _run_and_kill(work, rng.uniform(0.9 * duration, 1.05 * duration) if late else rng.uniform(0, duration))
        now = _identity(out)
        assert now is not None, "the old output has gone"
        seen["old" if now == last else "new"] += 1
        last = now
    assert _run_and_kill(work, None) is not None, "a killed run must not stand in the way of the next"
    assert _identity(out) is not None
    assert [p.name for p in tmp_path.iterdir() if "staging" in p.name or "previous" in p.name] == []
    print(f"{command.__name__}: {POINTS} kills in runs of {duration:.1f} s, {seen}")


def _identity(out: Path) -> str | None:
    """The hash of the manifest of a whole output, or None; a broken one fails."""
    if not out.exists():
        return None
    result = verify.run(verify.VerifyConfig(path=str(out)))
    assert result.is_intact, result.findings
    return hashlib.sha256((out / MANIFEST_NAME).read_bytes() + str(out.stat().st_ino).encode()).hexdigest()


def _run_and_kill(work: Callable[[], Any], after: float | None) -> float | None:
    """Run ``work`` in a fork; the seconds it took, or None where it was killed or failed."""
    start = time.monotonic()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            import torch

            torch.set_num_threads(1)  # OpenMP's team does not survive a fork
            work()
            code = 0
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
        finally:
            os._exit(code)
    if after is not None:
        time.sleep(after)
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    return time.monotonic() - start if status == 0 else None
