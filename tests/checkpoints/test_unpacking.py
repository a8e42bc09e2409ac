"""Archives as inputs of ``check``: what they hold is checked, and what would leave them is not written."""

from __future__ import annotations

import io
import os
import pickle
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import rora_cli
from rora_cli.checkpoints import unpacking
from rora_cli.commands.check import exit_code
from rora_cli.errors import CheckpointError


class Trap:
    def __reduce__(self) -> Any:
        return os.system, ("true",)


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where archives are unpacked: it is empty afterwards."""
    place = tmp_path / "scratch"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    yield place
    assert not list(place.iterdir())


def with_members(path: Path, members: dict[str, bytes], *extra: tarfile.TarInfo) -> Path:
    """An archive of these files, a zip or a tar by its name."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        return path
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for info in extra:
            archive.addfile(info)
    return path


@pytest.mark.parametrize("kind", ["zip", "gztar", "xztar"])
@pytest.mark.parametrize("folder", [True, False])
def test_an_archive_is_what_it_holds(
    scratch: Path, tmp_path: Path, tiny_classifier: Path, kind: str, folder: bool
) -> None:
    source = (tiny_classifier.parent, tiny_classifier.name) if folder else (tiny_classifier, None)
    archive = shutil.make_archive(str(tmp_path / "model"), kind, *source)
    (ours,), (theirs,) = (rora_cli.check(path, values=True).checkpoints for path in (archive, str(tiny_classifier)))
    assert ours.path == archive and (ours.tensors, ours.inventory) == (theirs.tensors, theirs.inventory)
    assert ours.findings == theirs.findings == () and ours.values_read


@pytest.mark.parametrize("name", ["m.zip", "m.tar.gz"])
def test_traps_and_several_checkpoints_are_found(scratch: Path, tmp_path: Path, name: str) -> None:
    members = {"a/adapter_config.json": b"{}", "b/adapter_config.json": b"{}", "b/optimizer.pt": pickle.dumps(Trap())}
    result = rora_cli.check(str(with_members(tmp_path / name, members)))
    assert [c.path for c in result.checkpoints] == [f"{tmp_path / name}/a", f"{tmp_path / name}/b"]
    assert "file/pickle-dangerous" in {f.rule_id for f in result.checkpoints[1].findings}
    assert exit_code(result, "high") == 1


@pytest.mark.parametrize("name", ["m.zip", "m.tar.gz"])
@pytest.mark.parametrize("member", ["../../out", "/tmp/out", "a/../../out", "C:/out", "a\\..\\out"])
def test_nothing_is_written_outside(scratch: Path, tmp_path: Path, name: str, member: str) -> None:
    result = rora_cli.check(str(with_members(tmp_path / name, {"config.json": b"{}", member: b"x"})))
    assert [f.location for f in result.findings if f.rule_id == "file/archive-member"] == [member]
    assert not list(tmp_path.rglob("out")) and not Path("/tmp/out").exists()


def test_links_pipes_and_second_copies_are_left_out(scratch: Path, tmp_path: Path) -> None:
    link, pipe, twice = tarfile.TarInfo("model.safetensors"), tarfile.TarInfo("pipe"), tarfile.TarInfo("config.json")
    link.type, link.linkname, pipe.type = tarfile.SYMTYPE, "/etc/passwd", tarfile.FIFOTYPE
    result = rora_cli.check(str(with_members(tmp_path / "m.tar.gz", {"config.json": b"{}"}, link, pipe, twice)))
    told = {f.location for f in result.findings if f.rule_id == "file/archive-member"}
    assert told == {"model.safetensors", "pipe", "config.json"} and exit_code(result, "high") == 1


@pytest.mark.parametrize("name", ["m.zip", "m.tar.gz"])
def test_a_bomb_is_not_unpacked(scratch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(unpacking, "_ALWAYS", 1 << 20)
    archive = with_members(tmp_path / name, {"config.json": b"{}", "model.safetensors": bytes(64 << 20)})
    result = rora_cli.check(str(archive))
    (found,) = (f for f in result.findings if f.rule_id == "file/archive")
    assert "made to fill a disk" in found.message and not result.is_complete


def test_what_is_no_archive_is_a_sentence(scratch: Path, tmp_path: Path) -> None:
    for name, content in (("m.zip", b"PK\x03\x04" + bytes(90)), ("m.tar.gz", b"\x1f\x8b" + bytes(90)), ("m.tar", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CheckpointError, match=r"could not be unpacked|is an empty archive"):
            rora_cli.check(str(tmp_path / name))
    half = with_members(tmp_path / "half.tar.gz", {"config.json": b"{}", "x.bin": os.urandom(1 << 20)})
    half.write_bytes(half.read_bytes()[: 1 << 19])
    assert not rora_cli.check(str(half)).is_complete
