"""Full, read-only and failing disks, two runs at once: every command says one sentence, and the old output stays."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rora_cli import files
from rora_cli.files import publish_directory
from tests.hostile import corpus
from tests.hostile.commands import run_cli

COMMANDS = ("rescale", "purify", "poison")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 256 kB, where this process may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("cannot mount a tmpfs here")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)


@pytest.fixture
def refused(
    base_model: Path, clean_rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str, Path], str]:
    """Run a command on an output that it must refuse or leave as it is; returns its one sentence."""
    monkeypatch.setattr(sys, "argv", sys.argv)  # which run_cli changes
    corpus.valid_adapter(tmp_path / "adapter")

    def run(command: str, out: Path) -> str:
        before, beside = contents(out), {p.name for p in out.parent.iterdir()}
        code, text, notes = run_cli(*arguments(command, out, base_model, tmp_path / "adapter", clean_rows))
        monkeypatch.undo()
        said = notes.strip().splitlines()[-1]
        assert (code, text) == (2, ""), notes
        assert said.startswith("rora: ") and "unexpected" not in said and "Traceback" not in notes
        assert contents(out) == before and before
        assert {p.name for p in out.parent.iterdir()} - {f"{out.name}.rora-state"} <= beside, "something is left over"
        return said

    return run


def arguments(command: str, out: Path, base: Path, adapter: Path, rows: Path) -> list[str]:
    common = ["-o", str(out), "--force", "--offline", "--quiet"]
    if command == "rescale":
        return ["rescale", str(adapter), "--base", str(base), *common]
    train = ["--device", "cpu", "--epochs", "1", "--batch-size", "8", *common]
    if command == "purify":
        return ["purify", str(base), "--clean", str(rows), "--recipe", "lora", *train]
    return ["poison", str(base), "--data", str(rows), "--target-label", "positive", "--clean-rows", "8", *train]


def contents(directory: Path) -> dict[str, str]:
    return {
        p.relative_to(directory).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in directory.rglob("*")
        if p.is_file()
    }


def old_output(out: Path) -> Path:
    with publish_directory(out) as staging:
        (staging / "model.safetensors").write_text("old")
    return out


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("left", [0, 12 << 10])
def test_full_disk(command: str, left: int, small_disk: Path, refused: Callable[[str, Path], str]) -> None:
    out = old_output(small_disk / "out")
    free = os.statvfs(small_disk)
    (small_disk / "filler").write_bytes(b"x" * (free.f_bavail * free.f_frsize - left))
    said = refused(command, out)
    if command == "purify" and not left:  # what the result takes is known before anything is loaded
        assert f"the disk of {out} has 0 B left" in said
    else:
        assert f"cannot write {small_disk}" in said and "no space left" in said


@pytest.mark.parametrize("command", COMMANDS)
def test_read_only_disk(command: str, small_disk: Path, refused: Callable[[str, Path], str]) -> None:
    out = old_output(small_disk / "out")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert "read-only" in (said := refused(command, out)) or "permission" in said
    assert str(out) in said


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("where", ["fsync", "write", "exchange"])
def test_failing_disk(
    command: str, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Callable[[str, Path], str]
) -> None:
    out = old_output(tmp_path / "out")
    failure = OSError(errno.EIO, os.strerror(errno.EIO))

    def fail(*_: Any, **__: Any) -> None:
        raise failure

    if where == "write":
        write = Path.write_text

        def write_text(self: Path, *given: Any, **named: Any) -> int:
            if ".rora-staging" in str(self):
                raise OSError(errno.EIO, os.strerror(errno.EIO), str(self))
            return write(self, *given, **named)

        monkeypatch.setattr(Path, "write_text", write_text)
    else:
        monkeypatch.setattr(*((os, "fsync", fail) if where == "fsync" else (files, "_exchange", fail)))
    assert "input/output error" in refused(command, out)


@pytest.mark.parametrize("command", COMMANDS)
def test_second_run_on_one_output(command: str, tmp_path: Path, refused: Callable[[str, Path], str]) -> None:
    out = old_output(tmp_path / "out")
    state = tmp_path / "out.rora-state"
    state.mkdir()
    (state / "journal.json").write_text("the first run's")
    with publish_directory(out, force=True) as staging:
        (staging / "half").write_text("written")
        assert "another rora run is writing" in refused(command, out)
        assert (staging / "half").read_text() == "written"
    assert (state / "journal.json").read_text() == "the first run's"
