"""Data sets on the hub, by well-known name or by ``owner/name[:config]``.

rora lists the repository's files and fetches those with rows by name; :mod:`rora_cli.data.tables` reads them like local
files. It does not use ``datasets.load_dataset``, which lets the repository's README choose files and options, reads
more formats than plain data, and rewrites everything into a second cache. So rora does not know configurations that
only a README defines. For those, and for repositories with a script instead of data, it reads the hub's own Parquet
conversion (branch ``refs/convert/parquet``, files ``config/split/NNNN.parquet``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from rora_cli import hub_access
from rora_cli.data.catalogue import WellKnown, find_by_repository, find_well_known
from rora_cli.data.local import Layout, find_layout, is_data_name, unpacked_first
from rora_cli.data.source import Files, Request, Source
from rora_cli.errors import DataError, HubError

CONVERTED = "refs/convert/parquet"

_CONFIG = re.compile(r"(?:\w[\w.+ -]*)?")

#: Bare names that used to load -> today's repository; each holds several tasks.
_RENAMED = {"glue": "nyu-mll/glue", "tweet_eval": "cardiffnlp/tweet_eval"}


def from_hub(request: Request) -> Source | None:
    """The data set with a well-known name or a hub id; None if ``request`` has the form of neither.

    Raises:
        DataError: the repository holds no data that rora can read, or several data sets.
        HubError: the hub, or without network its cache, does not have it.
    """
    entry = find_well_known(request.spec)
    if entry is not None:
        return _source(entry.repo_id, entry.config, request, entry)
    repo_id, _, config = request.spec.partition(":")
    repo_id = _RENAMED.get(repo_id.lower(), repo_id)
    if "/" not in repo_id or not hub_access.is_repo_id(repo_id) or not _CONFIG.fullmatch(config):
        return None
    return _source(repo_id, config or None, request, find_by_repository(repo_id, config or None))


def _source(repo_id: str, config: str | None, request: Request, entry: WellKnown | None) -> Source:
    if entry is not None and config is None:
        config = entry.config
    files = entry.files if entry is not None else {}
    if not request.allow_download or hub_access.is_offline():
        return _cached_source(repo_id, config, request.revision, entry, files)
    repository = hub_access.look_up(repo_id, "dataset", request.revision)
    notes = []
    if repository.repo_id != repo_id:
        notes.append(f"{repo_id} is called {repository.repo_id} on the hub now")
    try:
        layout = _layout(repository.files, config, repo_id, files)
    except DataError:
        if request.revision is not None:
            raise
        repository, layout = _converted(repo_id, config, repository)
        notes.append(f"read from the hub's Parquet conversion of {repo_id}")
        if any("/partial-" in name for names in layout.splits.values() for name in names):
            notes.append(f"the hub converted only a part of {repo_id}, and that part was read")

    splits = {split: _fetched(repository, names) for split, names in layout.splits.items()}
    return _described(repo_id, config, repository.commit, entry, splits, notes)


def _fetched(repository: hub_access.Repository, names: Sequence[str]) -> Files:
    def fetch() -> Mapping[str, Path]:
        snapshot = hub_access.fetch(repository, names)
        return {name: snapshot / name for name in names}

    return fetch


def _described(
    repo_id: str,
    config: str | None,
    commit: str,
    entry: WellKnown | None,
    splits: Mapping[str, Files],
    notes: Iterable[str],
) -> Source:
    return Source(
        origin=f"{repo_id}:{config}" if config else repo_id,
        splits=splits,
        revision=commit,
        text_column=entry.text_column if entry else None,
        label_column=entry.label_column if entry else None,
        class_names=entry.class_names if entry else None,
        notes=tuple(notes),
    )


def _converted(
    repo_id: str, config: str | None, original: hub_access.Repository
) -> tuple[hub_access.Repository, Layout]:
    """The hub's Parquet conversion of a repository.

    Raises:
        DataError: there is none, or it has several configurations and the user chose none.
    """
    try:
        repository = hub_access.look_up(repo_id, "dataset", CONVERTED)
    except HubError:
        # The first error tells more: why the repository itself could not be read.
        _layout(original.files, config, repo_id, {})
        raise
    configs = sorted({name.split("/")[0] for name in repository.files if name.count("/") == 2 and is_data_name(name)})
    if config is None and len(configs) > 1:
        choices = ", ".join(f"{repo_id}:{name}" for name in configs[:12])
        raise DataError(f"{repo_id} holds several data sets; choose one: {choices}")
    return repository, _layout(repository.files, config or (configs[0] if configs else None), repo_id, {})


def _layout(names: Iterable[str], config: str | None, where: str, files: Mapping[str, str]) -> Layout:
    """The splits of ``config``, with the data files of the repository that they consist of."""
    present = unpacked_first(names)
    if files and set(files.values()) <= set(present):
        return Layout({split: (name,) for split, name in files.items()})
    if config is not None:
        chosen = [name for name in present if config in PurePosixPath(name).parts[:-1]]
        if not chosen:
            raise DataError(f"{where} has no directory {config!r} with data files; check the name after the colon")
        present = chosen
    if not present:
        raise DataError(
            f"{where} holds no data file that can be read; choose a data set with Parquet, JSON or CSV files"
        )
    return find_layout(present, f"{where}:{config}" if config else where)


def _cached_source(
    repo_id: str, config: str | None, revision: str | None, entry: WellKnown | None, files: Mapping[str, str]
) -> Source:
    """The data set as an earlier run left it in the hub's cache."""
    for branch in [revision] if revision else [None, CONVERTED]:
        snapshot = hub_access.cached(repo_id, "dataset", branch)
        if snapshot is None:
            continue
        try:
            layout = _layout(snapshot.files, config, repo_id, files)
        except DataError:
            continue
        splits = {split: _cached_files(snapshot, names) for split, names in layout.splits.items()}
        return _described(repo_id, config, snapshot.commit, entry, splits, ["read from the hub's cache"])
    raise HubError(
        f"data set {repo_id} is not in the hub's cache and the network is not to be used; what works offline is a "
        "local file or directory, `bundled`, or a data set fetched before"
    )


def _cached_files(snapshot: hub_access.Snapshot, names: Sequence[str]) -> Files:
    def find() -> Mapping[str, Path]:
        path = snapshot.require(names)
        return {name: path / name for name in names}

    return find
