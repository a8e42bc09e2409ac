"""Several processes for a function of ours: results, errors, deaths, progress and Ctrl-C."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rora_cli.errors import DataError, ProcessDied, RoraError, UsageError
from rora_cli.training import launch as launching
from rora_cli.training.launch import ChildTraceback, launch
from rora_cli.training.peers import answering_to_peers, launcher_shards, refuse_other_parallelism
from tests.together import own_words

#: What the children run: importable there because the test's sys.path is theirs.
WORK = """
import os, signal, sys, time, warnings
from dataclasses import dataclass
from pathlib import Path
from rora_cli.errors import DataError, InconclusiveError
from rora_cli.training.peers import PeerLost

@dataclass(frozen=True)
class Config:
    place: str = ""
    clean: object = None

def rank():
    return int(os.environ["RANK"])

def answer(config, progress):
    Path(config.place, f"rank{rank()}").write_text(os.environ["WORLD_SIZE"])
    with progress.phase("outer", 2) as task:
        progress.note("noted")
        progress.warn("warned")
        task.advance(1, loss=0.5)
        task.advance()
    print("on stdout")
    return {"rank": rank(), "large": b"x" * 3_000_000}

def refuse(config, progress):
    with progress.phase("unfinished"):
        if rank() == 1:
            time.sleep(600)
        raise DataError("no rows")

def refuse_elsewhere(config, progress):
    if rank() == 1:
        raise DataError("no rows here")
    time.sleep(0.2)
    raise PeerLost("gone")

def fail(config, progress):
    raise ZeroDivisionError("by nothing")

class Odd(InconclusiveError):
    def __init__(self, one, two):
        super().__init__(one + two)

def odd(config, progress):
    raise Odd("not made", " again")

def odd_answer(config, progress):
    return Odd("not made", " again")

def die(config, progress):
    if rank() == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.2)
    raise PeerLost("gone")

def leave(config, progress):
    if rank() == 0:
        os._exit(7)
    time.sleep(600)

def wait(config, progress):
    held = Path(config.place, f"held{rank()}")
    held.write_text(str(os.getpid()))
    try:
        while True:
            time.sleep(0.05)
    finally:
        if rank() == 0:
            progress.note("put away")
            held.unlink()

def warned(config, progress):
    warnings.warn("of a library", FutureWarning)
    return 1
"""


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    (tmp_path / "work_of_children.py").write_text(WORK)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("work_of_children")
    del sys.modules["work_of_children"]


class Listener:
    def __init__(self) -> None:
        self.heard: list[Any] = []

    @contextmanager
    def phase(self, name: str, total: int | None = None) -> Iterator[Any]:
        self.heard.append(("begin", name, total))
        yield self
        self.heard.append(("end", name))

    def advance(self, steps: int = 1, **parts: float | str) -> None:
        self.heard.append((steps, parts))

    def note(self, message: str) -> None:
        self.heard.append(message)

    warn = note


def test_rank_0_answers_and_its_progress_is_shown_here(
    work: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    heard = Listener()
    answer = launch(work.answer, work.Config(str(tmp_path)), 3, heard)
    assert answer["rank"] == 0 and len(answer["large"]) == 3_000_000
    assert [(tmp_path / f"rank{n}").read_text() for n in range(3)] == ["3", "3", "3"]
    assert heard.heard == [
        ("begin", "outer", 2), "noted", "warned", (1, {"loss": 0.5}), (1, {}), ("end", "outer"),
    ]  # fmt: skip
    assert capfd.readouterr().out == "", "stdout is for results"


def test_an_error_is_raised_here_and_ends_the_others(work: Any) -> None:
    heard, began = Listener(), time.monotonic()
    with pytest.raises(DataError, match="no rows") as caught:
        launch(work.refuse, work.Config(), 2, heard)
    assert time.monotonic() - began < 30, "rank 1 was waited for"
    assert heard.heard == [("begin", "unfinished", None)], "a phase that failed is not shown as done"
    assert isinstance(caught.value.__cause__, ChildTraceback) and "in refuse" in str(caught.value.__cause__)
    with pytest.raises(DataError, match="no rows here"):
        launch(work.refuse_elsewhere, work.Config(), 2)
    with pytest.raises(RoraError, match="not made again") as odd:
        launch(work.odd, work.Config(), 2)
    assert odd.value.exit_code == 3
    with pytest.raises(RuntimeError, match="answer of process 0 cannot be read"):
        launch(work.odd_answer, work.Config(), 2)
    with pytest.raises(RuntimeError, match="ZeroDivisionError: by nothing") as unexpected:
        launch(work.fail, work.Config(), 2)
    assert "in fail" in str(unexpected.value.__cause__)


def test_a_process_that_dies_is_named(work: Any) -> None:
    with pytest.raises(ProcessDied, match=r"process 1 of 2 .* signal 9 \(SIGKILL\)") as died:
        launch(work.die, work.Config(), 2)
    assert died.value.by_signal == signal.SIGKILL
    with pytest.raises(ProcessDied, match=r"process 0 of 2 .* exit code 7"):
        launch(work.leave, work.Config(), 2)


def test_what_no_process_can_be_handed_is_refused(work: Any) -> None:
    with pytest.raises(UsageError, match=r"clean is a Listener .* num_processes=1"):
        launch(work.answer, work.Config(clean=Listener()), 2)
    launching._require_plain(work.Config(clean=({"a": Path("b")}, None, 1.5)))


def test_the_callers_filters_hold_in_the_children(work: Any, capfd: pytest.CaptureFixture[str]) -> None:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        assert launch(work.warned, work.Config(), 2) == 1
    assert "of a library" not in capfd.readouterr().err


SCRIPT = """
import sys
from work_of_children import *
from rora_cli.training.launch import launch
class Progress:
    def note(self, message): print(message, flush=True)
try:
    print(launch({function}, Config({place!r}), 2, Progress()))
except KeyboardInterrupt:
    print("interrupted"); sys.exit(130)
"""


def _start(arguments: list[str], place: Path, **options: Any) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(place), *sys.path])
    return subprocess.Popen(
        [sys.executable, *arguments], env={**os.environ, "PYTHONPATH": path}, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, **options,
    )  # fmt: skip


@pytest.mark.parametrize("way", ["script", "command", "stdin"])
def test_no_main_guard_is_needed(work: Any, tmp_path: Path, way: str) -> None:
    text = SCRIPT.format(function="warned", place="")
    (tmp_path / "script.py").write_text(text)
    arguments = {"script": [str(tmp_path / "script.py")], "command": ["-c", text], "stdin": ["-"]}[way]
    with _start(arguments, tmp_path, stdin=subprocess.PIPE) as process:
        out, err = process.communicate(text if way == "stdin" else None, timeout=60)
    assert (process.returncode, out.strip()) == (0, "1"), err


def test_the_working_directory_is_not_searched_for_modules(work: Any, tmp_path: Path) -> None:
    """It may be the suspect's: who runs a script elsewhere does not ask for what lies there to be run."""
    (tmp_path / "cwd").mkdir()
    for name in ("rora_cli", "sys", "site", "pickle", "multiprocessing"):
        (tmp_path / "cwd" / f"{name}.py").write_text("raise SystemExit('hijacked')")
    (tmp_path / "script.py").write_text(SCRIPT.format(function="warned", place=""))
    with _start([str(tmp_path / "script.py")], tmp_path, cwd=tmp_path / "cwd") as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out.strip()) == (0, "1"), err


def _held(place: Path) -> list[int]:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        held = [path for n in range(2) if (path := place / f"held{n}").exists() and path.read_text()]
        if len(held) == 2:
            return [int(path.read_text()) for path in held]
        time.sleep(0.05)
    raise AssertionError("the children did not start")


def _wait_for_end(pids: list[int]) -> None:
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < deadline, "a child outlives its caller"
        time.sleep(0.05)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_ctrl_c_ends_all_and_what_is_put_away_is_said(work: Any, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT.format(function="wait", place=str(tmp_path)))
    with _start([str(tmp_path / "script.py")], tmp_path) as process:
        pids = _held(tmp_path)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and out.split("\n")[:2] == ["put away", "interrupted"], err
    assert "Traceback" not in err and not (tmp_path / "held0").exists()
    _wait_for_end(pids)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_children_do_not_outlive_a_caller_that_was_killed(work: Any, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT.format(function="wait", place=str(tmp_path)))
    with _start([str(tmp_path / "script.py")], tmp_path) as process:
        pids = _held(tmp_path)
        process.kill()
        process.communicate(timeout=60)
    _wait_for_end(pids)
    assert not (tmp_path / "held0").exists(), "rank 0 puts away what it holds"


# ---- ranks that somebody else has started ----

PEERS = """
import os, sys
from datetime import timedelta
import torch.distributed as dist
from rora_cli.errors import RoraError, TrainingError
from rora_cli.training.peers import answering_to_peers
dist.init_process_group("gloo", timeout=timedelta(seconds=60))
try:
    with answering_to_peers():
        if dist.get_rank() == 1 and sys.argv[1] == "told":
            raise TrainingError("the loss is no number")
        if dist.get_rank() == 1:
            os._exit(1)
        dist.barrier()
except RoraError as error:
    print(f"{type(error).__name__}: {error}")
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("told", "PeerLost: process 1 of 2 (counted from 0): the loss is no number"),
        ("silent", "PeerLost: another process"),
    ],
)
def test_rank_0_says_why_another_ended(tmp_path: Path, how: str, expected: str) -> None:
    (tmp_path / "peers.py").write_text(textwrap.dedent(PEERS))
    environment = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(launching._free_port()), "WORLD_SIZE": "2"}
    path = os.pathsep.join(sys.path)
    both = [
        subprocess.Popen(
            [sys.executable, str(tmp_path / "peers.py"), how], stdout=subprocess.PIPE, text=True,
            env={**os.environ, **environment, "RANK": str(n), "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        )
        for n in range(2)
    ]  # fmt: skip
    first, _ = (process.communicate(timeout=120)[0] for process in both)
    assert own_words(first)[0].startswith(expected)


def test_an_error_that_is_no_lost_peer_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RuntimeError, match="shape"), answering_to_peers():
        raise RuntimeError("shape mismatch")


def test_a_launcher_may_ask_for_fsdp_in_version_2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_VERSION", "2")
    refuse_other_parallelism()
    assert launcher_shards()
    monkeypatch.delenv("FSDP_VERSION")
    with pytest.raises(UsageError, match="FSDP in version 1, and rora"):
        refuse_other_parallelism()


@pytest.mark.parametrize("variable", ["ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_MEGATRON_LM"])
def test_other_ways_to_distribute_are_refused(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    refuse_other_parallelism()
    monkeypatch.setenv(variable, "true")
    with pytest.raises(UsageError, match="MULTI_GPU or MULTI_CPU, or --num-processes"):
        refuse_other_parallelism()
