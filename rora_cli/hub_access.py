"""Access to the hub: lists a repository, fetches named files, and turns every failure into one sentence.

Only files that the caller names are fetched, into the hub's own cache. Each is checked against its hash on the hub
(huggingface_hub only compares sizes). Nothing that was fetched is ever executed.
"""

from __future__ import annotations

import errno
import glob
import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from rora_cli.errors import HubError, UsageError

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


@dataclass(frozen=True)
class RemoteFile:
    """A file on the hub: its size [bytes], and its sha256 or, for a small one, its hash as git has it."""

    name: str
    size: int
    sha256: str | None
    git_hash: str | None


@dataclass(frozen=True)
class RemoteRepository:
    """A repository at one commit, whose files are read where they lie."""

    repo_id: str
    commit: str
    files: Mapping[str, RemoteFile]

    def read(self, file: RemoteFile, start: int, length: int) -> bytes:
        """``length`` bytes of ``file`` from ``start`` on.

        Raises:
            HubError: the hub does not answer, sends less, or sends no parts of files.
        """
        from huggingface_hub import get_session, hf_hub_url
        from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

        if not length:
            return b""
        url = hf_hub_url(self.repo_id, file.name, revision=self.commit)
        headers = {**build_hf_headers(), "Range": f"bytes={start}-{start + length - 1}", "Accept-Encoding": "identity"}
        received = bytearray()
        with (
            _sentences(self.repo_id, "model", self.commit),
            get_session().stream("GET", url, headers=headers, follow_redirects=True, timeout=30) as response,
        ):
            if response.is_error:
                response.read()
            hf_raise_for_status(response)
            if response.status_code != 206 and start:
                raise HubError(f"the hub does not give parts of {file.name} of {self.repo_id}; download it first")
            for piece in response.iter_bytes():
                received += piece
                if len(received) >= length:
                    break
        if len(received) < length:
            raise HubError(f"the download of {file.name} of {self.repo_id} broke off; run the command again")
        return bytes(received[:length])

    def require_announced(self, file: RemoteFile, content: bytes) -> None:
        """Raise HubError if the whole ``content`` of ``file`` is not what the hub announced."""
        announced = file.sha256 or file.git_hash
        if file.sha256 is not None:
            found = hashlib.sha256(content).hexdigest()
        else:
            blob = b"blob %d\0" % len(content) + content
            found = hashlib.sha1(blob, usedforsecurity=False).hexdigest()
        if announced is not None and found != announced:
            raise HubError(f"{file.name} of {self.repo_id} is not what the hub announced (its hash differs); try again")


def look_into(repo_id: str, revision: str | None = None) -> RemoteRepository:
    """The model repository ``repo_id`` at ``revision`` (default: main), to be read where it lies.

    Raises:
        HubError: as ``look_up``, or the hub does not tell the size of a file.
    """
    info = _info(repo_id, "model", revision, files_metadata=True)
    files = {}
    for sibling in info.siblings or ():
        if sibling.size is None:
            raise HubError(f"the hub does not tell the size of {sibling.rfilename} of {repo_id}; download it first")
        lfs = sibling.lfs.sha256 if sibling.lfs else None
        files[sibling.rfilename] = RemoteFile(sibling.rfilename, sibling.size, lfs, sibling.blob_id)
    return RemoteRepository(info.id or repo_id, info.sha, files)


def is_repo_id(name: str) -> bool:
    """Whether ``name`` has the form of a hub id: ``owner/name`` or, for a few old models, a bare name."""
    return _REPO_ID.fullmatch(name) is not None and "--" not in name and ".." not in name and len(name) <= 96


def is_offline() -> bool:
    """Whether HF_HUB_OFFLINE (or TRANSFORMERS_OFFLINE) forbids the network, or huggingface_hub is not installed."""
    try:
        from huggingface_hub import constants
    except ImportError:
        return True

    return bool(constants.HF_HUB_OFFLINE)


def look_up(repo_id: str, repo_type: str, revision: str | None = None) -> Repository:
    """Ask the hub which files ``repo_id`` has at ``revision`` (default: main).

    Raises:
        HubError: the repository or revision is unknown or not readable, or the hub does not answer.
    """
    info = _info(repo_id, repo_type, revision)
    files = tuple(sibling.rfilename for sibling in info.siblings or ())
    return Repository(repo_id, info.id or repo_id, repo_type, revision or "main", info.sha, files)


def _info(repo_id: str, repo_type: str, revision: str | None, *, files_metadata: bool = False) -> Any:
    """What the hub tells of a repository, with a commit and with names of files that are safe to use."""
    from huggingface_hub import HfApi

    with _sentences(repo_id, repo_type, revision):
        info = HfApi().repo_info(
            repo_id, repo_type=repo_type, revision=revision, timeout=30, files_metadata=files_metadata
        )
        if not info.sha:
            raise HubError(f"the hub names no commit for {repo_id}; try again later")
        for sibling in getattr(info, "siblings", None) or ():
            if not _is_plain(sibling.rfilename):
                raise HubError(f"{repo_id} lists a file with an unsafe name ({sibling.rfilename!r}); do not use it")
    return info


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


def require_push(repo_id: str) -> str:
    """The token with which ``repo_id`` can be made: the environment's, and no other.

    Raises:
        UsageError: the name is none, the network is not to be used, or HF_TOKEN is not set.
    """
    if "/" not in repo_id or not is_repo_id(repo_id):
        raise UsageError(f"--push-to-hub is a hub id of the form owner/name, not {repo_id!r}")
    if is_offline():
        raise UsageError("--push-to-hub needs the network, which HF_HUB_OFFLINE forbids; leave one of them out")
    token = os.environ.get("HF_TOKEN", "")
    if not token:
        raise UsageError("--push-to-hub takes its token from HF_TOKEN, which is not set; a saved login is not used")
    return token


def push(directory: Path, repo_id: str) -> str:
    """Make the private repository ``repo_id`` of all files in ``directory``; returns the address of its commit.

    Raises:
        HubError: it exists already, or the hub does not take it.
        UsageError: as ``require_push``.
    """
    from huggingface_hub import HfApi

    api = HfApi(token=require_push(repo_id))
    if api.repo_exists(repo_id):
        raise HubError(f"{repo_id} exists already and is not written over; name another repository")
    with _sentences(repo_id, "model", None):
        api.create_repo(repo_id, private=True)
        return str(api.upload_folder(repo_id=repo_id, folder_path=directory, commit_message="Add what rora wrote"))


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
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError:
        return None
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
    from huggingface_hub import get_cached_repo_tree

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
