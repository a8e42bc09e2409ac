"""Every way to start ``purify`` in several processes, with every verdict: exit codes, what is printed and written."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import rora_cli
from rora_cli.errors import NoMemoryError, UsageError
from tests.together import own_words

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="starts and stops processes by their ids"),
]

QUICK: dict[str, Any] = {"device": "cpu", "epochs": 1, "tr_k": 8}
_SEARCHED = {**QUICK, "recipe": "default", "max_rounds": 1, "search_budget": "fast", "escalate": "none"}
#: Options that give each verdict, and the exit code of the command.
VERDICTS: dict[str, tuple[dict[str, Any], int]] = {
    "not assessed": ({**QUICK, "recipe": "lora"}, 0),
    # A step as long as this costs accuracy, and none may be lost.
    "fail": ({**QUICK, "recipe": "full", "learning_rate": 0.1, "max_accuracy_drop": 0.0}, 1),
    # Too few rows for any search.
    "inconclusive": ({**_SEARCHED, "reference": "bag-of-words", "max_train_rows": 12}, 3),
    "bad input": ({**QUICK, "recipe": "lora", "adapter": "nowhere-at-all"}, 2),
}
MODULE = [sys.executable, "-m", "rora_cli"]
#: Command lines that start ``purify ...`` -> whether the launcher passes the exit code on, or makes it 1.
WAYS: dict[str, tuple[list[str], list[str], bool]] = {
    "plain": (MODULE, [], True),
    "num processes": (MODULE, ["--num-processes", "2"], True),
    "accelerate config": (MODULE, ["--accelerate-config", "multi-cpu.yaml"], True),
    "accelerate launch": (
        [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "1", "-m", "rora_cli"],
        [],
        False,
    ),
    "torchrun": ([sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "rora_cli"], [], False),
}
SCRIPT = """
import json, sys
import rora_cli
from rora_cli.errors import RoraError
options = json.loads(sys.argv[1])
try:
    result = rora_cli.purify(num_processes=2, **options)
except RoraError as error:
    print(f"rora: {error}", file=sys.stderr)
    sys.exit(int(error.exit_code))
print(f"verdict: {result.verdict}")
sys.exit({"not assessed": 0, "pass": 0, "fail": 1, "inconclusive": 3}[result.verdict])
"""


def _command_line(options: dict[str, Any]) -> list[str]:
    line: list[str] = []
    for name, value in options.items():
        line += [f"--{name.replace('_', '-')}", str(value)]
    return line


def _environment(**more: str) -> dict[str, str]:
    own = {k: v for k, v in os.environ.items() if not k.startswith(("ACCELERATE_", "MASTER_"))}
    return {**own, "OMP_NUM_THREADS": "1", "NO_COLOR": "1", **more}


def _run(arguments: list[Any], place: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*map(str, arguments)], capture_output=True, text=True, cwd=place, env=_environment(), timeout=900
    )


#: One process is what every other test starts: of those ways a verdict or two show that the code comes through.
ONE_PROCESS = {"plain": {"fail"}, "accelerate launch": {"not assessed", "fail"}}
CELLS = [(way, v) for way in [*WAYS, "function"] for v in VERDICTS if v in ONE_PROCESS.get(way, VERDICTS)]


@pytest.mark.parametrize(("way", "verdict"), CELLS)
def test_every_way_to_start_ends_with_its_verdict(
    trained: Path, clean: Path, tmp_path: Path, way: str, verdict: str
) -> None:
    options, code = VERDICTS[verdict]
    out = tmp_path / "out"
    if way == "function":
        (tmp_path / "script.py").write_text(SCRIPT)
        given = {"model": str(trained), "clean": str(clean), "output": str(out), **options}
        done, exact = _run([sys.executable, "script.py", json.dumps(given)], tmp_path), True
    else:
        (tmp_path / "multi-cpu.yaml").write_text("distributed_type: MULTI_CPU\nnum_processes: 2\nuse_cpu: true\n")
        start, more, exact = WAYS[way]
        done = _run([*start, "purify", trained, "--clean", clean, "-o", out, *_command_line(options), *more], tmp_path)
    assert done.returncode == (code if exact else min(code, 1)), done.stderr
    if verdict == "bad input":
        said = [line for line in done.stderr.splitlines() if line.startswith("rora: ")]
        assert len(said) == 1 and "nowhere-at-all" in said[0] and own_words(done.stdout) == [], done.stderr
        assert not out.exists()
    else:
        assert done.stdout.count("verdict: ") == 1 and f"verdict: {verdict}" in done.stdout
        written = out.with_name("out-failed") if verdict == "fail" else out
        assert rora_cli.verify(written).findings == ()
        report = json.loads((written / "rora-report.json").read_text())
        assert report["verdict"] == verdict
        several = way not in ("plain", "accelerate launch")
        assert report["provenance"]["config"]["processes"] == (2 if several else 1)
    if exact:
        assert "Traceback" not in done.stderr
    left = {path.name for path in tmp_path.iterdir()} - {"script.py", "multi-cpu.yaml"}
    assert left == (set() if verdict == "bad input" else {"out-failed" if verdict == "fail" else "out"})


@pytest.mark.parametrize(("verdict", "code"), [("not assessed", 0), ("fail", 1)])
def test_in_a_terminal_the_bars_are_drawn_and_the_verdict_is_the_exit_code(
    trained: Path, clean: Path, tmp_path: Path, verdict: str, code: int
) -> None:
    line = ["purify", str(trained), "--clean", str(clean), "-o", str(tmp_path / "out"), "--num-processes", "2"]
    written = "out-failed" if verdict == "fail" else "out"
    line += _command_line(VERDICTS[verdict][0])
    controller, terminal = pty.openpty()
    with subprocess.Popen(
        [*MODULE, *line], stdin=terminal, stdout=terminal, stderr=terminal, env=_environment(TERM="xterm")
    ) as process:
        os.close(terminal)
        shown = b""
        try:
            while part := os.read(controller, 65536):
                shown += part
        except OSError:  # Linux says so where the last process has closed the terminal
            pass
        os.close(controller)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    assert process.returncode == code, text
    assert "clean accuracy before" in text and "━" in text and f"verdict: {verdict}" in text
    assert "Traceback" not in text and (tmp_path / written / "rora-report.json").exists()


def _children(pid: int) -> list[int]:
    return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _started(process: subprocess.Popen[str], state: Path) -> list[int]:
    """The children's ids, once a state is saved."""
    deadline = time.monotonic() + 600
    while not (state / "journal.json").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    return _children(process.pid)


@pytest.mark.parametrize(("stopped", "code"), [("caller", 130), ("rank 1", 2)])
def test_an_interrupted_run_ends_all_and_says_what_is_kept(
    trained: Path, clean: Path, tmp_path: Path, stopped: str, code: int
) -> None:
    out, state = tmp_path / "out", tmp_path / "out.rora-state"
    options = {**QUICK, "recipe": "lora", "epochs": 2000, "checkpoint_every": 2}
    line = ["purify", trained, "--clean", clean, "-o", out, "--num-processes", "2", *_command_line(options)]
    with subprocess.Popen(
        [*MODULE, *map(str, line)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=_environment()
    ) as process:
        children = _started(process, state)
        assert len(children) == 2
        if stopped == "caller":
            process.send_signal(signal.SIGINT)
        else:
            os.kill(children[1], signal.SIGKILL)
        printed, said = process.communicate(timeout=300)
    assert process.returncode == code and printed == "" and "Traceback" not in said, said
    assert said.count("add --resume to the same command") == 1
    last = said.strip().splitlines()[-1]
    expected = (
        "interrupted" if stopped == "caller" else "process 1 of 2 (counted from 0) was ended by signal 9 (SIGKILL)"
    )
    assert expected in last, last
    assert state.is_dir() and sorted(p.name for p in tmp_path.iterdir()) == ["out.rora-state"]
    assert not any(Path(f"/proc/{child}").exists() for child in children)


def test_memory_that_runs_out_late_leaves_a_state_that_smaller_batches_go_on_with(
    trained: Path, clean: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from rora_cli.training.state import RunState

    heard: list[str] = []

    class Listener(type(rora_cli.progress.SILENT)):  # type: ignore[misc]
        def note(self, message: str) -> None:
            heard.append(message)

    def too_large(state: Any, *arguments: Any) -> None:
        save(state, *arguments)
        torch.empty(1 << 55)

    save, options = RunState.save, {**QUICK, "recipe": "lora", "clean": clean, "output": str(tmp_path / "out")}
    monkeypatch.setattr(RunState, "save", too_large)
    with pytest.raises(NoMemoryError, match=r"--micro-batch-size 16"):
        rora_cli.purify(trained, progress=Listener(), **options)
    assert any("--resume" in message and "--micro-batch-size" in message for message in heard)
    monkeypatch.setattr(RunState, "save", save)
    less = {"micro_batch_size": 16, "gradient_checkpointing": True, "resume": True}
    assert rora_cli.purify(trained, **options, **less).verdict == "not assessed"


def test_a_launchers_processes_and_an_option_that_asks_for_others(
    trained: Path, clean: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(UsageError, match="a launcher has started 4 processes already"):
        rora_cli.purify(trained, clean=clean, output=str(tmp_path / "out"), num_processes=2, recipe="lora")


def _found(report: dict[str, Any]) -> list[Any]:
    """What a search decided, and what it counted; floats come out of differently filled batches."""
    return [
        (
            label["target_label"],
            label["verdict"],
            label["coverage"]["trials"],
            [(t["text"], t["called"], t["flip_rate"]["count"], round(t["suspicion"], 2)) for t in label["triggers"]],
        )
        for label in report["labels"]
    ]


def test_a_search_by_two_processes_decides_as_one_does(trained: Path, clean: Path, tmp_path: Path) -> None:
    line = ["hunt", trained, "--clean", clean, "--split", "train", "--budget", "fast", "--device", "cpu", "--quiet"]
    one = _run([*MODULE, *line, "--format", f"json={tmp_path / 'one.json'}"], tmp_path)
    two = _run([*MODULE, *line, "--num-processes", 2, "--format", f"json={tmp_path / 'two.json'}"], tmp_path)
    assert two.returncode == one.returncode, two.stderr
    reports = [json.loads((tmp_path / name).read_text()) for name in ("one.json", "two.json")]
    assert _found(reports[0]) == _found(reports[1])
    assert abs(reports[0]["forward_tokens"] - reports[1]["forward_tokens"]) <= 0.01 * reports[0]["forward_tokens"]
    assert "Traceback" not in two.stderr
