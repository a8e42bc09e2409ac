"""Which checkpoints a path means: a folder of the hub's cache stands for its snapshot, a folder may hold several."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path, PurePosixPath

from rora_cli.errors import CheckpointError, UsageError

MODEL_FILE, MODEL_INDEX = "model.safetensors", "model.safetensors.index.json"
ADAPTER_FILE, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"
MODEL_CONFIG = "config.json"
_MODEL_WEIGHTS = (MODEL_FILE, MODEL_INDEX)
#: Pickled weights, by which a folder counts as a checkpoint too, so that ``check`` reports them.
_PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json", "adapter_model.bin")
_SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.safetensors")
_MAX_DEPTH, _MAX_FOLDERS = 4, 2_000
_MAX_CONFIG_BYTES = 1 << 20


def is_checkpoint(names: Collection[str]) -> bool:
    """Whether a folder with files of these names holds a model or an adapter."""
    if ADAPTER_CONFIG in names or ADAPTER_FILE in names or "adapter_model.bin" in names:
        return True
    return MODEL_CONFIG in names and any(name in names for name in (*_MODEL_WEIGHTS, *_PICKLED))


def shard_of(name: str) -> tuple[str, int, int] | None:
    """(stem, number, count) if ``name`` is the name of one of a model's shards, else None."""
    match = _SHARD.fullmatch(name)
    return (match[1], int(match[2]), int(match[3])) if match else None


def snapshot(path: Path) -> Path:
    """``path``; for a model's folder in the hub's cache, the snapshot of ``refs/main``, or the only one.

    Raises:
        CheckpointError: there is none, or there are several and no ``refs/main``.
    """
    folder = path / "snapshots"
    if not path.name.startswith("models--") or not folder.is_dir() or folder.is_symlink():
        return path
    found = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False))
    if not found:
        raise CheckpointError(
            f"{path} is a model's folder in the hub's cache, but holds no snapshot; download it again"
        )
    main = _reference(path / "refs" / "main")
    if main in found:
        return folder / main
    if len(found) > 1:
        raise CheckpointError(f"{path} holds {len(found)} snapshots; name one of them: {folder / found[0]}, ...")
    return folder / found[0]


def checkpoints_in(path: Path) -> list[Path]:
    """The checkpoints that ``path`` means: itself first, then those in folders below it.

    PEFT saves an adapter with another name than ``default`` in a folder of that name, trainers save folders such as
    ``checkpoint-500``, and the hub's cache keeps snapshots. A file, or a folder without checkpoints, stays as it is.
    """
    if not path.is_dir():
        return [path]
    here = snapshot(path)
    cached = [entry for entry in sorted(here.iterdir()) if entry.name.startswith("models--") and entry.is_dir()]
    if cached:
        return [snapshot(entry) for entry in cached]
    below = [here / folder for folder in _nested(here)]
    return [here, *below] if _stands_alone(here) or not below else below


def matched(paths: Iterable[str]) -> Iterator[str]:
    """The paths, and in place of a pattern what it matches, in order. Raises UsageError where it matches nothing."""
    for path in paths:
        if Path(path).exists() or not glob.has_magic(path):
            yield path
            continue
        found = sorted(glob.glob(path, recursive=True))  # noqa: PTH207 - Path.glob refuses absolute patterns
        if not found:
            raise UsageError(f"the pattern {path!r} matches nothing")
        yield from found


def checkpoints_named(path: str, *, models: bool = True) -> list[str]:
    """The paths that ``checkpoints_in`` finds, as text; ``path`` itself word for word, as reports should name it.

    Without ``models``, whole models after the first path are left out.
    """
    found = checkpoints_in(Path(path))
    kept = [checkpoint for i, checkpoint in enumerate(found) if i == 0 or models or is_adapter(checkpoint)]
    return [path if checkpoint == Path(path) else str(checkpoint) for checkpoint in kept]


def is_adapter(path: Path) -> bool:
    """Whether a directory holds an adapter and no model."""
    return any((path / n).exists() for n in (ADAPTER_CONFIG, ADAPTER_FILE)) and not (path / MODEL_FILE).exists()


def nested_folders(files: Collection[str]) -> list[str]:
    """The folders below the root that are checkpoints of their own, from the relative file names ``files``."""
    folders: dict[str, set[str]] = {}
    for name in files:
        parent, _, base = name.rpartition("/")
        if parent:
            folders.setdefault(parent, set()).add(base)
    return sorted(folder for folder, names in folders.items() if is_checkpoint(names))


def nested_in(name: str, folders: Collection[str]) -> str | None:
    """The one of ``folders`` that holds the file ``name``, or None."""
    return next((str(p) for p in PurePosixPath(name).parents if str(p) in folders), None)


def _stands_alone(folder: Path) -> bool:
    """Whether the folder itself holds files of a checkpoint, complete or not."""
    names = {entry.name for entry in os.scandir(folder) if not entry.is_dir(follow_symlinks=False)}
    return is_checkpoint(names) or any(n.endswith((".safetensors", ".safetensors.index.json")) for n in names)


def _nested(root: Path) -> Iterator[str]:
    pending, seen = [(root, 0)], 0
    while pending and seen < _MAX_FOLDERS:
        folder, depth = pending.pop()
        seen += 1
        try:
            entries = sorted(os.scandir(folder), key=lambda e: e.name)
        except OSError:
            continue  # the inspection's own walk reports it
        names = {e.name for e in entries if not e.is_dir(follow_symlinks=False)}
        if depth and is_checkpoint(names) and (ADAPTER_CONFIG in names or ADAPTER_FILE in names or _is_model(folder)):
            yield folder.relative_to(root).as_posix()
        if depth < _MAX_DEPTH:
            folders = [e for e in entries if e.is_dir(follow_symlinks=False) and not e.name.startswith(".")]
            pending += [(Path(e.path), depth + 1) for e in reversed(folders)]


def _is_model(folder: Path) -> bool:
    """Whether config.json is that of a transformers model; those of other libraries have no model_type."""
    path = folder / MODEL_CONFIG
    try:
        if not path.is_file() or path.stat().st_size > _MAX_CONFIG_BYTES:
            return False
        return '"model_type"' in path.read_text("utf-8", "replace")
    except OSError:
        return False


def _reference(path: Path) -> str | None:
    """The commit that a reference file of the hub's cache holds, or None."""
    try:
        if path.is_symlink() or not path.is_file() or path.stat().st_size > 100:
            return None
        return path.read_text("ascii", "replace").strip()
    except OSError:
        return None
