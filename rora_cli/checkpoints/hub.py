"""Resolves a model or adapter to a local directory: an existing path, or a hub id, whose safe files it fetches."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from rora_cli import hub_access
from rora_cli.checkpoints.conversion import TORCH_ENDINGS
from rora_cli.errors import CheckpointError, HubError

#: Endings of a checkpoint's plain data. Nothing else is fetched: pickles and scripts stay on the hub.
SAFE_SUFFIXES = frozenset({".json", ".safetensors", ".model", ".jinja"})
SAFE_NAMES = frozenset({"vocab.txt", "merges.txt"})
_PICKLES = (*TORCH_ENDINGS, ".h5", ".msgpack")


@dataclass(frozen=True)
class ModelSource:
    """Where a checkpoint lies. ``commit`` is the resolved hub commit, None for a local path.

    ``repo_id`` is the repository's present name; it differs from ``requested`` after a rename on the hub.
    """

    path: Path
    requested: str
    commit: str | None = None
    repo_id: str | None = None

    @property
    def was_renamed(self) -> bool:
        """Whether the hub has the repository under another name than the requested one."""
        return self.repo_id is not None and self.repo_id != self.requested


def fetch_model(id_or_path: str, *, revision: str | None = None, allow_download: bool = True) -> ModelSource:
    """Resolve a model or adapter to a local directory (or file); an existing local path wins over a hub id.

    From the hub, only JSON, safetensors and tokenizer files in the root are fetched, never pickles or code. Without
    network (``allow_download=False`` or HF_HUB_OFFLINE) only the hub's cache is used.

    Args:
        id_or_path: local path, or hub id ``owner/name``.
        revision: branch, tag or commit on the hub; refused for a local path, which has none.

    Raises:
        CheckpointError: neither an existing path nor a hub id; or the repository holds no safetensors.
        HubError: the hub, or without network its cache, does not have it.
    """
    path = Path(id_or_path).expanduser()
    if path.exists():
        if revision is not None:
            raise CheckpointError(f"{id_or_path} is a local path and has no revisions; leave --revision out")
        return ModelSource(path, id_or_path)
    require_name(id_or_path)
    if not allow_download or hub_access.is_offline():
        return _from_cache(id_or_path, revision)
    repository = hub_access.look_up(id_or_path, "model", revision)
    names = [name for name in repository.files if is_safe(name)]
    if not any(name.endswith(".safetensors") for name in names):
        raise CheckpointError(_without_safetensors(id_or_path, repository.files))
    return ModelSource(hub_access.fetch(repository, names), id_or_path, repository.commit, repository.repo_id)


def require_name(id_or_path: str) -> None:
    """Raise CheckpointError where nothing is at the path, and no repository on the hub can have the name."""
    if Path(id_or_path).expanduser().exists():
        return
    if not hub_access.is_repo_id(id_or_path) or id_or_path.endswith((".safetensors", *_PICKLES)):
        raise CheckpointError(
            f"{id_or_path} does not exist; give an existing directory, or a hub id of the form owner/name"
        )


def is_safe(name: str) -> bool:
    """Whether rora fetches this file of a repository: it lies in the root, and its format is plain data."""
    path = PurePosixPath(name)
    return len(path.parts) == 1 and (path.suffix in SAFE_SUFFIXES or path.name in SAFE_NAMES)


def _from_cache(repo_id: str, revision: str | None) -> ModelSource:
    snapshot = hub_access.cached(repo_id, "model", revision)
    if snapshot is None:
        raise HubError(
            f"model {repo_id} is neither a local path nor in the hub's cache, and the network is not to be used; give "
            "a local directory, or fetch it once with the network allowed"
        )
    names = [name for name in snapshot.files if is_safe(name)]
    return ModelSource(snapshot.require(names), repo_id, snapshot.commit, repo_id)


def _without_safetensors(repo_id: str, files: tuple[str, ...]) -> str:
    pickles = [name for name in files if name.endswith(_PICKLES)]
    if pickles:
        return (
            f"{repo_id} has its weights only as {pickles[0]}, a format that can run code when it is read; convert it "
            "to safetensors in a sandbox, or use a revision that has them"
        )
    return f"{repo_id} has no .safetensors file in its root; give a model or adapter repository"
