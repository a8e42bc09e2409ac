"""Local data: one file, a directory of split files, or a directory that ``datasets`` saved."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from rora_cli.data.source import ALL
from rora_cli.data.tables import READERS
from rora_cli.data.textfile import inner_suffix, is_packed
from rora_cli.errors import DataError

#: Canonical split name -> words in file and directory names that mean it.
SPLIT_WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "eval"),
    "test": ("test", "testing"),
}
_CANONICAL_SPLIT = {word: split for split, words in SPLIT_WORDS.items() for word in words}

#: Names of files beside the data that hold no rows.
_NOT_DATA = re.compile(
    r"readme|licen[cs]e|notice|changelog|citation|dataset_infos?|dataset_dict|state|(?:.*[-_])?manifest|requirements"
    r"|cache-[0-9a-f]+|tmp\w*",
    re.IGNORECASE,
)
#: Unicode categories of control, format, line-separating and undecodable characters, which could forge a log.
_UNSHOWABLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_MAX_ENTRIES = 20_000
_MAX_DEPTH = 4


@dataclass(frozen=True)
class Layout:
    """The files of each split, by their names relative to the directory; ``ignored`` files belong to no split."""

    splits: Mapping[str, tuple[str, ...]]
    ignored: tuple[str, ...] = ()


def canonical_split(name: str) -> str:
    """The canonical name of a split: ``validation`` for ``dev`` and the like. An unknown name stays as it is."""
    return _CANONICAL_SPLIT.get(name.lower(), name)


def local_files(root: Path) -> dict[str, Path]:
    """Data files below ``root`` by their relative name, hidden ones left out.

    Raises:
        DataError: a link leads out of the directory, a name would garble the terminal, or the directory holds far more
            files than a data set has.
    """
    allowed = _allowed_roots(root)
    found: dict[str, Path] = {}
    for seen, path in enumerate(_walk(root)):
        if seen >= _MAX_ENTRIES:
            raise DataError(f"{root} holds more than {_MAX_ENTRIES} entries; name the data file or its own directory")
        if any(unicodedata.category(character) in _UNSHOWABLE for character in path.name):
            raise DataError(f"{root} holds a file with control characters in its name ({path.name!r}); remove it")
        if path.is_symlink() and not any(path.resolve().is_relative_to(place) for place in allowed):
            raise DataError(f"{path} is a link that leads out of {root}; put the file itself there, or name its target")
        if path.is_file() and is_data_name(path.name):
            found[path.relative_to(root).as_posix()] = path
    kept = unpacked_first(found)
    return {name: found[name] for name in kept}


def _walk(root: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(root, onerror=_raise):
        here = Path(folder)
        folders[:] = sorted(name for name in folders if not name.startswith((".", "_")))
        yield from (here / name for name in folders if (here / name).is_symlink())
        if len(here.relative_to(root).parts) >= _MAX_DEPTH:
            folders.clear()
        yield from (here / name for name in sorted(files) if not name.startswith("."))


def _raise(error: OSError) -> None:
    raise DataError(f"{error.filename} cannot be read ({error.strerror}); check its permissions") from error


def _allowed_roots(root: Path) -> tuple[Path, ...]:
    """Where links may lead: ``root``, and the blobs folder if ``root`` is a snapshot in the hub's cache."""
    resolved = root.resolve()
    for place in (resolved, *resolved.parents):
        if place.parent.name == "snapshots" and place.parents[1].name.startswith(("datasets--", "models--")):
            return resolved, place.parents[1] / "blobs"
    return (resolved,)


def is_data_name(name: str) -> bool:
    """Whether a file of this name can hold rows: its ending is that of data, and it is no README or metadata."""
    path = PurePosixPath(name)
    stem = path.with_suffix("").stem if is_packed(name) else path.stem
    return inner_suffix(name) in READERS and not _NOT_DATA.fullmatch(stem)


def unpacked_first(names: Iterable[str]) -> list[str]:
    """The data files among ``names``; packed ones (``.csv.gz``) only if there are no unpacked ones."""
    present = [name for name in names if is_data_name(name)]
    return [name for name in present if not is_packed(name)] or present


def find_layout(names: Iterable[str], where: str) -> Layout:
    """Sort data files into splits by the split word in the file's name, else in that of the nearest directory.

    Files without a split word make up one set, ``all``, if there are no others; else they are left out.

    Raises:
        DataError: there is no data file, or several files of one split are not its shards.
    """
    by_split: dict[str, list[str]] = defaultdict(list)
    for name in sorted(names):
        by_split[_split_of(name)].append(name)
    unsplit = by_split.pop("", [])
    if not by_split:
        if not unsplit:
            raise DataError(f"{where} holds no data file; give one of {', '.join(sorted(READERS))}")
        by_split[ALL] = unsplit
        if len({inner_suffix(name) for name in unsplit}) > 1:
            raise DataError(f"{where} mixes formats ({', '.join(unsplit[:4])}); name the file to read")
    else:
        for split, files in by_split.items():
            _require_shards(split, files, where)
        return Layout({split: tuple(files) for split, files in by_split.items()}, tuple(unsplit))
    return Layout({split: tuple(files) for split, files in by_split.items()})


_WORDS = re.compile(r"[a-z]+")


def _split_of(name: str) -> str:
    path = PurePosixPath(name)
    for part in (path.stem, *(folder.name for folder in path.parents)):
        named = {_CANONICAL_SPLIT[word] for word in _WORDS.findall(part.lower()) if word in _CANONICAL_SPLIT}
        if len(named) == 1:
            return named.pop()
    return ""


_SHARD = re.compile(r"-(\d{5})-of-(\d{5})")


def _require_shards(split: str, files: list[str], where: str) -> None:
    bare = {re.sub(r"\d+", "#", re.sub(r"-[0-9a-f]{8,}(?=\.)", "", name)) for name in files}
    if len(bare) > 1:
        raise DataError(
            f"{where} has several files for its {split} split ({', '.join(files[:4])}) that are not shards of one "
            "another; name the file, or the directory, to read"
        )
    shard = _SHARD.search(files[0])
    if shard and int(shard[2]) != len(files):
        raise DataError(
            f"{where} has {len(files)} of {int(shard[2])} shards of its {split} split; get the missing ones"
        )
