"""Access to the hub: lists a repository, fetches named files, and turns every failure into one sentence.

Only files that the caller names are fetched, into the hub's own cache. Each is checked against its hash on the hub
(huggingface_hub only compares sizes). Nothing that was fetched is ever executed.
"""

from __future__ import annotations

import errno
import glob
import hashlib
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from rora_cli.errors import HubError

_REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]*(?:/[A-Za-z0-9][\w.-]*)?", re.ASCII)
_KINDS = {"model": "model", "dataset": "data set"}


@dataclass(frozen=True)
class Repository:
    """One repository at one commit. ``repo_id`` is its present name; it differs from ``requested`` after a rename."""

    requested: str
    repo_id: str
    repo_type: str
    revision: str
    commit: str
    files: tuple[str, ...]


def is_repo_id(name: str) -> bool:
    """Whether ``name`` has the form of a hub id: ``owner/name`` or, for a few old models, a bare name."""
    return _REPO_ID.fullmatch(name) is not None and "--" not in name and ".." not in name and len(name) <= 96


def is_offline() -> bool:
    """Whether HF_HUB_OFFLINE (or TRANSFORMERS_OFFLINE) forbids the network."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def look_up(repo_id: str, repo_type: str, revision: str | None = None) -> Repository:
    """Ask the hub which files ``repo_id`` has at ``revision`` (default: main).

    Raises:
        HubError: the repository or revision is unknown or not readable, or the hub does not answer.
    """
    from huggingface_hub import HfApi

    with _sentences(repo_id, repo_type, revision):
        info = HfApi().repo_info(repo_id, repo_type=repo_type, revision=revision, timeout=30)
        if not info.sha:
            raise HubError(f"the hub names no commit for {repo_id}; try again later")
        files = tuple(sibling.rfilename for sibling in getattr(info, "siblings", None) or ())
        for name in files:
            if not _is_plain(name):
                raise HubError(f"{repo_id} lists a file with an unsafe name ({name!r}); do not use it")
    return Repository(repo_id, info.id or repo_id, repo_type, revision or "main", info.sha, files)


def fetch(repository: Repository, names: Iterable[str]) -> Path:
    """Fetch ``names`` of ``repository`` into the hub's cache and return the snapshot directory that holds them.

    Raises:
        HubError: a download broke off, or a file is not what the hub announced.
    """
    from huggingface_hub import snapshot_download

    wanted = sorted(names)
    # Fetch under the requested name, so that the cache knows it without network; the hub redirects renamed ones.
    with _sentences(repository.requested, repository.repo_type, repository.revision):
        snapshot = snapshot_download(
            repository.requested,
            repo_type=repository.repo_type,
            revision=repository.revision,
            allow_patterns=[glob.escape(name) for name in wanted],
        )
    return _checked(Path(snapshot), repository.requested, wanted)


@dataclass(frozen=True)
class Snapshot:
    """A repository in the hub's cache; ``files`` are all its files, also those that no run has fetched."""

    repo_id: str
    path: Path
    files: tuple[str, ...]

    @property
    def commit(self) -> str:
        """The commit of the snapshot."""
        return self.path.name

    def require(self, names: Iterable[str]) -> Path:
        """The snapshot directory, if it holds all of ``names`` unchanged.

        Raises:
            HubError: a file is missing, because earlier runs did not need it or were interrupted; or it was changed.
        """
        missing = [name for name in names if not (self.path / name).is_file()]
        if missing:
            raise HubError(
                f"{missing[0]} of {self.repo_id} is not in the hub's cache and the network is not to be used; run once "
                "with the network allowed"
            )
        return _checked(self.path, self.repo_id, names)


def cached(repo_id: str, repo_type: str, revision: str | None = None) -> Snapshot | None:
    """The repository ``repo_id`` at ``revision`` in the hub's cache, or None; without network."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        # A pattern that matches nothing makes any snapshot count as complete, whatever was fetched of it.
        found = snapshot_download(
            repo_id, repo_type=repo_type, revision=revision, local_files_only=True, allow_patterns=["\0"]
        )
    except (LocalEntryNotFoundError, HfHubHTTPError, ValueError):
        return None
    path = Path(found)
    present = tuple(sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()))
    return Snapshot(repo_id, path, _cached_listing(repo_id, repo_type, path.name) or present)


def _cached_listing(repo_id: str, repo_type: str, commit: str) -> tuple[str, ...]:
    try:
        from huggingface_hub import get_cached_repo_tree  # from 2.0 on
    except ImportError:
        return ()
    try:
        tree = get_cached_repo_tree(repo_id, repo_type=repo_type, revision=commit)
    except Exception:  # missing or unreadable: then the files themselves are the listing
        return ()
    return tuple(file.path for file in tree if _is_plain(file.path))


def _is_plain(name: str) -> bool:
    """Whether a listed name stays inside of the repository and is safe to show on a terminal."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and "\\" not in name and name.isprintable()


_BLOB_NAME = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def _checked(snapshot: Path, repo_id: str, names: Iterable[str]) -> Path:
    for name in names:
        path = snapshot / name
        if not path.is_file():
            raise HubError(f"{name} of {repo_id} did not arrive; run the command again")
        blob = path.resolve()
        # The cache names a blob by its sha256 (large files) or its git hash; a copy without links has another name.
        if _BLOB_NAME.fullmatch(blob.name) and _hash_of(blob) != blob.name:
            raise HubError(
                f"{name} of {repo_id} is not what the hub announced (its hash differs); delete {blob} and retry"
            )
    return snapshot


def _hash_of(blob: Path) -> str:
    if len(blob.name) == 64:
        digest = hashlib.sha256()
    else:
        digest = hashlib.sha1(f"blob {blob.stat().st_size}\0".encode(), usedforsecurity=False)
    with blob.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def _sentences(repo_id: str, repo_type: str, revision: str | None) -> Iterator[None]:
    try:
        yield
    except HubError:
        raise
    except Exception as error:
        sentence = _sentence(error, f"{_KINDS[repo_type]} {repo_id}", revision)
        if sentence is None:
            raise
        raise HubError(sentence) from error


def _sentence(error: BaseException, what: str, revision: str | None) -> str | None:
    """The sentence for an error of huggingface_hub or its HTTP library; None for a fault of rora's."""
    from huggingface_hub import constants, errors

    if isinstance(error, errors.GatedRepoError):
        return f"{what} is gated; accept its terms on its page at {constants.ENDPOINT} and log in with `hf auth login`"
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            f"the hub has no {what} that you may read; check the name, and log in with `hf auth login` if it is private"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{what} has no revision {revision!r}; give a branch, tag or commit that it has with --revision"
    if isinstance(error, errors.OfflineModeIsEnabled) or (
        isinstance(error, errors.LocalEntryNotFoundError) and is_offline()
    ):
        return f"{what} is not in the cache and HF_HUB_OFFLINE forbids the network; unset it once, or give a local path"
    if isinstance(error, errors.HfHubHTTPError):
        return _http_sentence(error, what)
    if isinstance(error, errors.HFValidationError):
        return f"{what} is not a valid hub name; it needs the form owner/name"
    return _transport_sentence(error, what)


def _http_sentence(error: Exception, what: str) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    reasons = {
        401: "the hub has no {} that it shows without a login; check the name, and log in with `hf auth login`",
        403: "the hub does not let you read {}; ask its owner, or use a token that may",
        429: "the hub answers too many requests while fetching {}; wait a while, or log in for a higher limit",
    }
    if status in reasons:
        return reasons[status].format(what)
    return f"the hub answered {status or 'with an error'} for {what}; try again later, or give a local path"


def _transport_sentence(error: BaseException, what: str) -> str | None:
    from huggingface_hub import constants, errors

    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    names = {type(link).__name__ for link in chain}
    # By name, because huggingface_hub changed its HTTP library (httpx, httpx2) within one major version.
    if names & {"ConnectError", "ConnectTimeout", "ProxyError", "UnsupportedProtocol"}:
        return f"the hub at {constants.ENDPOINT} cannot be reached for {what}; check the network, or give a local path"
    if names & {"ReadTimeout", "PoolTimeout", "WriteTimeout"}:
        return f"the hub at {constants.ENDPOINT} did not answer in time for {what}; try again later"
    if names & {"RemoteProtocolError", "ReadError", "WriteError"} or "Consistency check failed" in str(error):
        return f"the download of {what} broke off or has the wrong size; run the command again"
    if isinstance(error, (errors.LocalEntryNotFoundError, errors.FileMetadataError, errors.EntryNotFoundError)):
        return f"the hub did not give the files of {what}; try again later, or give a local path"
    if isinstance(error, OSError) and error.errno:
        detail = "the disk is full" if error.errno == errno.ENOSPC else error.strerror
        return (
            f"{what} cannot be put into the cache at {constants.HF_HUB_CACHE} ({detail}); set HF_HOME to another place"
        )
    return None
