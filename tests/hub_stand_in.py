"""A small hub on loopback, for the tests: the routes, headers and redirects that huggingface_hub relies on.

It serves repositories from memory, with the real hub's manners: a rename answers 307 with a relative address, large
files are redirected to a "CDN" (another port) under their sha256, gated repositories show their file list but not their
files, private ones answer 401 as if they were unknown. ``breaks`` makes single downloads fail as a network does.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

LARGE_SUFFIXES = (".safetensors", ".parquet", ".bin")


def git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass
class StandInRepository:
    """``branches`` maps a branch or tag to its files; the commit is a hash of them."""

    branches: Mapping[str, Mapping[str, bytes]]
    gated: bool = False
    private: bool = False
    #: File name -> "truncated" (the connection drops half-way) or "corrupt" (right size, wrong bytes).
    breaks: dict[str, str] = field(default_factory=dict)

    def commit(self, revision: str) -> str | None:
        for branch, files in self.branches.items():
            named = sorted((name, hashlib.sha256(content).hexdigest()) for name, content in files.items())
            commit = hashlib.sha1(json.dumps([branch, named]).encode()).hexdigest()
            if revision in (branch, commit):
                return commit
        return None

    def files(self, commit: str) -> Mapping[str, bytes]:
        return next(files for branch, files in self.branches.items() if self.commit(branch) == commit)


@dataclass
class StandInHub:
    """What is on the hub, by (kind, id) with kind "models" or "datasets"; ``renamed`` leads to the new id."""

    repositories: dict[tuple[str, str], StandInRepository] = field(default_factory=dict)
    renamed: dict[tuple[str, str], str] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    #: Whether range requests are answered, and how many bytes were sent in all.
    gives_parts: bool = True
    sent: int = 0
    endpoint: str = ""
    cdn: str = ""

    def fetched(self) -> set[str]:
        """Names, without directories, of the files that were asked for."""
        return {line.rsplit("/", 1)[1] for line in self.requests if "/resolve/" in line}


@contextmanager
def running(hub: StandInHub) -> Iterator[StandInHub]:
    """Serve ``hub`` on free ports of loopback until the block ends."""
    handler = type("Handler", (_Handler,), {"hub": hub})
    with ExitStack() as stack:
        hub.endpoint, hub.cdn = (stack.enter_context(_served(handler)) for _ in range(2))
        yield hub


@contextmanager
def _served(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: StandInHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path}")
        parts = path.strip("/").split("/")
        if parts[0] == "cdn":
            self._content(parts[1], parts[2])
        elif parts[0] == "api":
            self._api(parts[1], "/".join(parts[2:4]), parts[4:])
        else:
            kind = "datasets" if parts[0] == "datasets" else "models"
            owner, name, _, *rest = parts[1:] if kind == "datasets" else parts
            self._file(kind, f"{owner}/{name}", rest)

    def _find(self, kind: str, repo_id: str) -> StandInRepository | None:
        """The repository, or None after an answer that says why not."""
        new = self.hub.renamed.get((kind, repo_id))
        if new is not None:
            self._send(307, b"", {"Location": self.path.replace(repo_id, new)})
            return None
        repository = self.hub.repositories.get((kind, repo_id))
        if repository is None:
            self._error(404, "RepoNotFound", "Repository not found")
        elif repository.private:
            self._error(401, None, "Invalid username or password.")
            return None
        return repository

    def _api(self, kind: str, repo_id: str, rest: list[str]) -> None:
        repository = self._find(kind, repo_id)
        if repository is None:
            return
        action, revision = (rest[0], "/".join(rest[1:])) if rest else ("revision", "main")
        commit = repository.commit(revision)
        if commit is None:
            self._error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        elif action == "tree":
            self._json([_tree_entry(name, content) for name, content in repository.files(commit).items()])
        else:
            files = repository.files(commit)
            siblings = [{"rfilename": name} for name in files]
            if "blobs=" in urlsplit(self.path).query:
                siblings = [_sibling(_tree_entry(name, content)) for name, content in files.items()]
            self._json(
                {"id": repo_id, "sha": commit, "siblings": siblings, "private": False, "gated": repository.gated}
            )

    def _file(self, kind: str, repo_id: str, rest: list[str]) -> None:
        repository = self._find(kind, repo_id)
        if repository is None:
            return
        for cut in range(1, len(rest)):  # a branch may hold slashes
            commit, name = repository.commit("/".join(rest[:cut])), "/".join(rest[cut:])
            if commit is not None and name in repository.files(commit):
                if repository.gated:
                    self._error(401, "GatedRepo", f"Access to {repo_id} is restricted.")
                else:
                    self._deliver(commit, repository.files(commit)[name], name, repository.breaks.get(name, "whole"))
                return
        self._error(404, "EntryNotFound", "Entry not found")

    def _deliver(self, commit: str, content: bytes, name: str, how: str) -> None:
        headers = {"X-Repo-Commit": commit, "ETag": f'"{git_hash(content)}"'}
        if not name.endswith(LARGE_SUFFIXES):
            self._send(200, content, headers, how)
            return
        digest = hashlib.sha256(content).hexdigest()
        headers |= {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(content))}
        self._send(302, b"", headers | {"Location": f"{self.hub.cdn}/cdn/{digest}/{how}"})

    def _content(self, digest: str, how: str) -> None:
        branches = [branch for repository in self.hub.repositories.values() for branch in repository.branches.values()]
        blobs = {hashlib.sha256(content).hexdigest(): content for branch in branches for content in branch.values()}
        self._send(200, blobs[digest], {"ETag": f'"{digest}"'}, how)

    def _json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _error(self, status: int, code: str | None, message: str) -> None:
        headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self._send(status, json.dumps({"error": message}).encode(), headers)

    def _send(self, status: int, body: bytes, headers: Mapping[str, str], how: str = "whole") -> None:
        if how == "corrupt":
            body = bytes([body[0] ^ 1]) + body[1:]
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if wanted and status == 200 and self.hub.gives_parts:
            first, last, whole = int(wanted[1]), int(wanted[2]), len(body)
            status, body = 206, body[first : last + 1]
            headers = {**headers, "Content-Range": f"bytes {first}-{first + len(body) - 1}/{whole}"}
        self.hub.sent += len(body) if self.command == "GET" else 0
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            if how == "truncated":
                self.wfile.write(body[: len(body) // 2])
                self.close_connection = True
            else:
                self.wfile.write(body)


def _tree_entry(name: str, content: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "path": name, "size": len(content), "oid": git_hash(content)}
    if name.endswith(LARGE_SUFFIXES):
        entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
    return entry


def _sibling(entry: dict[str, Any]) -> dict[str, Any]:
    """An entry of the tree as the repository's own description has it."""
    lfs = {"lfs": {"sha256": entry["lfs"]["oid"], "size": entry["size"], "pointerSize": 134}} if "lfs" in entry else {}
    return {"rfilename": entry["path"], "size": entry["size"], "blobId": entry["oid"], **lfs}
