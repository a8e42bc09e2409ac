"""Outputs appear whole or not at all: kills, full disks, read-only directories, two runs at once, odd umasks."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rora_cli import files
from rora_cli.errors import OutputError
from rora_cli.files import MANIFEST_NAME, check_output, publish_directory, publish_file, sha256_file
from tests.kill_points import lines_run

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
as_root = hasattr(os, "geteuid") and os.geteuid() == 0


def write_some(directory: Path, content: str) -> None:
    (directory / "model.safetensors").write_text(content * 1000)
    (directory / "inner").mkdir(exist_ok=True)
    (directory / "inner" / "config.json").write_text(content)


def read_all(directory: Path) -> dict[str, str]:
    return {p.relative_to(directory).as_posix(): p.read_text() for p in directory.rglob("*") if p.is_file()}


def assert_whole(directory: Path) -> str:
    """The content of a published directory, after every file was compared with its manifest."""
    manifest = json.loads((directory / MANIFEST_NAME).read_text())
    found = {p.relative_to(directory).as_posix() for p in directory.rglob("*") if p.is_file()}
    assert found == {*manifest["files"], MANIFEST_NAME}
    for name, entry in manifest["files"].items():
        assert sha256_file(directory / name) == entry["sha256"]
        assert (directory / name).stat().st_size == entry["size"]
    return (directory / "inner" / "config.json").read_text()


def leftovers(parent: Path) -> list[str]:
    return sorted(p.name for p in parent.iterdir() if p.name.startswith("."))


def test_publish_writes_a_manifest_of_everything(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    with publish_directory(out) as staging:
        assert staging.parent == out.parent
        write_some(staging, "a")
        assert not out.exists()
    assert assert_whole(out) == "a"
    assert leftovers(out.parent) == []


def test_existing_output_needs_force_and_is_replaced_whole(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with publish_directory(out) as staging:
        write_some(staging, "a")
        (staging / "only-in-the-old").write_text("x")
    with pytest.raises(OutputError, match="--force"), publish_directory(out):
        raise AssertionError("the block must not run")
    with pytest.raises(OutputError, match="--force"):
        check_output(out)
    check_output(out, force=True)
    with publish_directory(out, force=True) as staging:
        write_some(staging, "b")
    assert assert_whole(out) == "b"
    assert not (out / "only-in-the-old").exists()
    assert leftovers(tmp_path) == []


def test_replacing_works_without_the_exchange_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_exchange", lambda one, other: False)
    test_existing_output_needs_force_and_is_replaced_whole(tmp_path)


def test_failure_leaves_nothing_and_keeps_the_old(tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    with pytest.raises(RuntimeError), publish_directory(out) as staging:
        write_some(staging, "a")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with publish_directory(out) as staging:
        write_some(staging, "a")
    before = read_all(out)
    with pytest.raises(KeyboardInterrupt), publish_directory(out, force=True) as staging:
        write_some(staging, "b")
        raise KeyboardInterrupt
    assert read_all(out) == before
    assert leftovers(out.parent) == []


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077, 0o002])
def test_modes_follow_the_umask_whatever_a_library_set(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with publish_directory(tmp_path / "out") as staging:
            write_some(staging, "a")
            (staging / "model.safetensors").chmod(0o600)  # what safetensors does
            (staging / "inner").chmod(0o700)
        publish_file(tmp_path / "report.json", "{}")
    finally:
        os.umask(before)
    for file in [*(tmp_path / "out").rglob("*"), tmp_path / "report.json"]:
        full = 0o777 if file.is_dir() else 0o666
        assert stat.S_IMODE(file.stat().st_mode) == full & ~umask, file


def test_second_run_on_one_output_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with publish_directory(out) as staging:
        write_some(staging, "a")
        with pytest.raises(OutputError, match="another rora run"), publish_directory(out):
            raise AssertionError("the block must not run")
        with pytest.raises(OutputError, match="another rora run"):
            check_output(out)
        assert (staging / "model.safetensors").exists(), "the refused run must not clear the first one's work"
    assert assert_whole(out) == "a"


def test_second_process_is_refused(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom rora_cli.files import publish_directory\nfrom rora_cli.errors import OutputError\n"
        "try:\n with publish_directory(sys.argv[1]): pass\nexcept OutputError as e: print(e); sys.exit(7)\n"
    )
    with publish_directory(tmp_path / "out") as staging:
        write_some(staging, "a")
        run = subprocess.run([sys.executable, "-c", script, str(tmp_path / "out")], capture_output=True, text=True)
        assert (run.returncode, "another rora run" in run.stdout) == (7, True), run.stderr


def test_leftovers_of_a_killed_run_are_reclaimed(tmp_path: Path) -> None:
    out = tmp_path / "out"
    stale = tmp_path / ".out.rora-staging"
    (stale / "half" / "deep").mkdir(parents=True)
    (stale / "half" / "model.safetensors").write_text("half")
    with publish_directory(out) as staging:
        assert list(staging.iterdir()) == []
        write_some(staging, "a")
    assert assert_whole(out) == "a"
    assert leftovers(tmp_path) == []


def test_set_aside_output_of_a_killed_run_is_restored(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with publish_directory(out) as staging:
        write_some(staging, "old")
    out.rename(tmp_path / ".out.rora-previous")
    with pytest.raises(RuntimeError), publish_directory(out) as staging:
        raise RuntimeError
    assert assert_whole(out) == "old"


@pytest.mark.parametrize("kind", ["file", "link", "dangling", "home", "cwd", "dot"])
def test_dangerous_outputs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    out = tmp_path / "out"
    if kind == "file":
        out.write_text("precious")
    elif kind == "link":
        (tmp_path / "real").mkdir()
        out.symlink_to("real")
    elif kind == "dangling":
        out.symlink_to("gone")
    elif kind == "home":
        (out / "me").mkdir(parents=True)
        monkeypatch.setenv("HOME", str(out / "me"))
    elif kind == "cwd":
        (out / "here").mkdir(parents=True)
        monkeypatch.chdir(out / "here")
    else:
        out = Path()
    with pytest.raises(OutputError), publish_directory(out, force=True) as staging:
        write_some(staging, "a")
    with pytest.raises(OutputError):
        check_output(out, force=True)
    if kind == "file":
        assert out.read_text() == "precious"


def test_a_link_in_the_output_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="neither a file"), publish_directory(tmp_path / "out") as staging:
        (staging / "link").symlink_to("/etc/passwd")
    assert list(tmp_path.iterdir()) == []


# ---- kills ----


def is_writing(file: str) -> bool:
    """Whether a source file is of the code that writes: ours, shutil, or the bodies of the blocks below."""
    return file in (files.__file__, shutil.__file__, __file__)


@needs_fork
@pytest.mark.parametrize("exchange", [True, False], ids=["exchange", "two-renames"])
def test_killed_at_any_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool) -> None:
    """At 200 lines: the output is absent, the old one whole, or the new one whole, and the next run succeeds."""
    if not exchange:
        monkeypatch.setattr(files, "_exchange", lambda one, other: False)
    out = tmp_path / "out"

    def publish(content: str) -> None:
        with publish_directory(out, force=True) as staging:
            write_some(staging, content)
            for i in range(4):
                (staging / f"shard-{i}").write_bytes(os.urandom(20_000))

    publish("version-0")
    lines = lines_run(lambda: publish("version-1"), is_writing)
    assert lines is not None and lines > 100, "the whole run is not traced"
    seen, last = set(), "version-1"
    for i in range(200):
        new = f"version-{i + 2}"
        assert lines_run(lambda new=new: publish(new), is_writing, 1 + i * (lines - 1) // 199) is None
        if out.exists():
            now = assert_whole(out)
            assert now in (last, new)
            seen.add("new" if now == new else "old")
            last = now
        else:
            assert not exchange, "with the exchange call the output is never absent"
            seen.add("absent")
    publish("final")
    assert assert_whole(out) == "final"
    assert leftovers(tmp_path) == []
    assert {"old", "new"} <= seen


@needs_fork
def test_file_killed_at_any_line(tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    publish_file(out, "0" * 100_000)
    lines = lines_run(lambda: publish_file(out, "1" * 100_000), is_writing)
    assert lines is not None
    seen = set()
    for number in range(1, lines + 1):
        content = str(number % 8 + 2) * 100_000
        assert lines_run(lambda content=content: publish_file(out, content), is_writing, number) is None
        now = out.read_text()
        assert len(now) == 100_000
        assert len(set(now)) == 1
        seen.add(now == content)
    publish_file(out, "end")
    assert out.read_text() == "end"
    assert leftovers(tmp_path) == []
    assert seen == {True, False}


# ---- disks ----


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 1 MB, where this process may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("cannot mount a tmpfs here (the same errors are simulated below)")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)


def test_full_disk(small_disk: Path) -> None:
    out = small_disk / "out"
    with publish_directory(out) as staging:
        write_some(staging, "old")
    with pytest.raises(OutputError, match="no space left"), publish_directory(out, force=True) as staging:
        (staging / "model.safetensors").write_bytes(b"x" * (2 << 20))
    assert assert_whole(out) == "old"
    assert leftovers(small_disk) == []
    with pytest.raises(OutputError, match="no space left"):
        publish_file(small_disk / "report.json", b"x" * (2 << 20))
    assert sorted(p.name for p in small_disk.iterdir()) == ["out"]


@pytest.mark.parametrize(
    ("code", "words"),
    [(errno.ENOSPC, "no space left"), (errno.EDQUOT, "quota"), (errno.EROFS, "read-only"), (errno.EIO, "input/output")],
)
@pytest.mark.parametrize("where", ["write", "fsync", "rename"])
def test_failing_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, words: str, where: str) -> None:
    out = tmp_path / "out"
    with publish_directory(out) as staging:
        write_some(staging, "old")

    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code), str(tmp_path / ".out.rora-staging" / "model.safetensors"))

    with pytest.raises(OutputError, match=words) as caught, publish_directory(out, force=True) as staging:
        write_some(staging, "new")
        if where == "write":
            fail()
        monkeypatch.setattr(files, "_fsync" if where == "fsync" else "_exchange", fail)
    assert len(str(caught.value).splitlines()) == 1
    assert str(out) in str(caught.value)
    monkeypatch.undo()
    assert assert_whole(out) == "old"
    assert leftovers(tmp_path) == []


def test_full_disk_as_a_rust_library_says_it(tmp_path: Path) -> None:
    class SafetensorError(Exception):
        pass

    with pytest.raises(OutputError, match="no space left"), publish_directory(tmp_path / "out"):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    assert list(tmp_path.iterdir()) == []


def test_an_unreadable_input_is_not_called_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), publish_directory(tmp_path / "out"):
        raise PermissionError(errno.EACCES, "denied", "/some/input.jsonl")


@pytest.mark.skipif(as_root, reason="root may write anywhere")
def test_read_only_parent(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(OutputError, match="permission"), publish_directory(tmp_path / "out"):
            pass
        with pytest.raises(OutputError, match="permission"):
            check_output(tmp_path / "out")
    finally:
        tmp_path.chmod(0o755)


@pytest.mark.skipif(not as_root or not sys.platform.startswith("linux"), reason="needs root to give it up in a child")
def test_read_only_parent_as_another_user(tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o755)
    for parent in (tmp_path, *tmp_path.parents):
        if parent.stat().st_uid == 0 and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o055)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.setuid(65534)
            for call in (lambda: check_output(locked / "out"), lambda: publish_file(locked / "report", "x")):
                with pytest.raises(OutputError, match="permission"):
                    call()
            with pytest.raises(OutputError, match="permission"), publish_directory(locked / "out"):
                pass
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    assert list(locked.iterdir()) == []


# ---- single files ----


def test_publish_file_replaces_or_refuses(tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.json"
    publish_file(path, "one", force=False)
    with pytest.raises(OutputError, match="--force"):
        publish_file(path, "two", force=False)
    assert path.read_text() == "one"
    publish_file(path, b"two")
    assert path.read_text() == "two"
    with pytest.raises(OutputError, match="directory"):
        publish_file(tmp_path, "x")
    assert leftovers(path.parent) == []


def test_publish_file_keeps_a_link_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    publish_file(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"


def test_publish_file_writes_to_devices() -> None:
    publish_file("/dev/null", "gone")


def test_planted_link_for_the_staging_name_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "precious").write_text("x")
    (tmp_path / ".out.rora-staging").symlink_to("victim")
    with pytest.raises((OutputError, OSError)), publish_directory(tmp_path / "out") as staging:
        write_some(staging, "a")
    (tmp_path / ".report.rora-tmp").symlink_to(victim / "precious")
    with pytest.raises((OutputError, OSError)):
        publish_file(tmp_path / "report", "evil")
    assert (victim / "precious").read_text() == "x"


@pytest.mark.skipif(not as_root, reason="needs root to give a directory to another user")
def test_planted_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".out.rora-staging").mkdir()
    os.chown(tmp_path / ".out.rora-staging", 65534, 65534)
    with pytest.raises(OutputError, match="another user"), publish_directory(tmp_path / "out"):
        raise AssertionError("the block must not run")
