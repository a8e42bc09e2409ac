"""Systems without fcntl, without flags for links and pipes, and without directories that can be opened: Windows."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

#: What Windows lacks, taken away from this system before rora is imported.
_WITHOUT = """
import os, pathlib, sys
sys.modules["fcntl"] = sys.modules["resource"] = None
for name in ("O_NOFOLLOW", "O_DIRECTORY", "O_NONBLOCK", "O_CLOEXEC", "geteuid", "getuid"):
    delattr(os, name)
opened, renamed = os.open, pathlib.Path.rename
def no_directories(path, *rest, **more):
    if isinstance(path, (str, os.PathLike)) and os.path.isdir(path):
        raise PermissionError(13, "Permission denied", str(path))
    return opened(path, *rest, **more)
def onto_nothing(self, target):
    if os.path.exists(target):
        raise FileExistsError(17, "File exists", str(target))
    return renamed(self, target)
os.open, pathlib.Path.rename = no_directories, onto_nothing
import rora_cli.files as files
files._exchange = lambda one, other: False
from rora_cli.errors import OutputError
"""


def without_posix(script: str, *arguments: Path) -> subprocess.CompletedProcess[str]:
    """Run ``script`` where the system has none of it."""
    command = [sys.executable, "-W", "ignore", "-c", _WITHOUT + script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_outputs_are_whole_and_locked_without_what_posix_has(tmp_path: Path) -> None:
    script = """
out = pathlib.Path(sys.argv[1])
for content, force in (("a", False), ("b", True)):
    with files.publish_directory(out, force=force) as staging:
        (staging / "inner").mkdir()
        (staging / "inner" / "file").write_text(content)
        for attempt in (lambda: files.check_output(out, True), files.publish_directory(out, force=True).__enter__):
            try:
                attempt()
                raise AssertionError("two runs write one output")
            except OutputError as error:
                assert "another rora run" in str(error), error
    assert (out / "inner" / "file").read_text() == content
files.check_output(out, True)
files.publish_file(out.parent / "report.json", "one, longer")
files.publish_file(out.parent / "report.json", "two")
(out.parent / "empty").mkdir()
with files.publish_directory(out.parent / "empty") as staging:
    (staging / "file").write_text("x")
"""
    done = without_posix(script, tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "report.json").read_text() == "two"
    assert {path.name for path in tmp_path.iterdir()} == {"out", "report.json", "empty"}, "nothing is left beside it"


@pytest.mark.parametrize("command", ["check", "verify"])
def test_commands_work_without_what_posix_has(command: str, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    save_file({"layer.weight": np.zeros((2, 2), "f4")}, str(model / "model.safetensors"))
    (model / "config.json").write_text(json.dumps({"model_type": "bert"}))
    script = f"""
from rora_cli.cli import app
files.write_manifest(pathlib.Path(sys.argv[1]))
sys.argv = ["rora", "{command}", sys.argv[1], "--format", "json=" + sys.argv[2]]
app.run()
"""
    done = without_posix(script, model, tmp_path / "report.json")
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["checkpoints"][0]["tensors"] == 1 if command == "check" else not report["findings"]
