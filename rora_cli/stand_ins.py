"""Recognises stand-ins for files that were never downloaded: pointers, web pages, error messages, empty files."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from rora_cli import system

#: Length of a file's start [bytes] that is enough to recognise it: pointers are shorter, pages show it at once.
START_BYTES = 512

_DOWNLOAD = "download the file again, for example with `hf download`, signed in where the repository asks for it"
_LFS = "run `git lfs pull` in the clone, or download the file itself"


@dataclass(frozen=True)
class StandIn:
    """``what`` continues the sentence "FILE ..."; ``advice`` says how to get the file itself.

    If ``is_blank``, the file is empty or zeros, and its reader can tell more.
    """

    what: str
    advice: str
    is_blank: bool = False


#: (start of the file, whether the file must be one short line, stand-in). The short lines are error messages of the hub
#: and of the stores behind it.
_KINDS: tuple[tuple[re.Pattern[bytes], bool, StandIn], ...] = (
    (
        re.compile(rb"version https://(?:git-lfs\.github\.com|hawser\.github\.com)/spec/"), False,
        StandIn("is a Git LFS pointer, not the file itself", _LFS),
    ),
    (
        re.compile(rb"# xet version \d"), False,
        StandIn("is a Xet pointer, not the file itself", "install git-xet and run `git xet checkout`, or download the "
                "file itself, for example with `hf download`"),
    ),
    (
        re.compile(rb"(?:\.\./)*(?:\.git)?[/\\]annex[/\\]objects[/\\]"), False,
        StandIn("is a git-annex pointer, not the file itself", "run `git annex get` on it in the clone"),
    ),
    (
        re.compile(rb"(?:<!--.{0,200}?-->\s*)?(?:<!doctype\s+html|<html[\s>])", re.IGNORECASE | re.DOTALL),
        False,
        StandIn("is a web page, saved in place of the file", _DOWNLOAD),
    ),
    (
        re.compile(rb"(?:<\?xml[^>]{0,100}\?>\s*)?<(?:Error|html)[\s>]", re.IGNORECASE), False,
        StandIn("is an error message of the download, saved in place of the file", _DOWNLOAD),
    ),
    (
        re.compile(
            rb"(?:Entry|Repository|Revision|File|Page|Model|Dataset)?\s*not found\b|404\b|403\b|401\b|Forbidden\b"
            rb"|Unauthorized\b|Access\s+(?:to\s+(?:model|dataset)|denied)\b"
            rb"|Invalid (?:username or password|credentials|rev id)\b|Too Many Requests\b"
            rb"|(?:Internal Server|Bad Gateway|Gateway Time-?out)\b"
            rb"|\{\s*\"error\"\s*:\s*\"",
            re.IGNORECASE,
        ),
        True,
        StandIn("is an error message of the download, saved in place of the file", _DOWNLOAD),
    ),
)  # fmt: skip
_EMPTY = StandIn("is empty", _DOWNLOAD, is_blank=True)
_ZEROS = StandIn("starts with nothing but zero bytes: its download broke off", _DOWNLOAD, is_blank=True)


def recognise(start: bytes, size: int) -> StandIn | None:
    """The kind of stand-in that a file of ``size`` bytes with this ``start`` is; None for a file with content."""
    if not size:
        return _EMPTY
    if len(start) >= 64 and not start.strip(b"\0"):
        return _ZEROS
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    for pattern, is_message, kind in _KINDS:
        if pattern.match(text) and (not is_message or (size <= START_BYTES and b"\n" not in text.rstrip())):
            return kind
    return None


def look(path: Path) -> StandIn | None:
    """:func:`recognise` for a file on disk; does not wait for a pipe or device.

    Raises:
        OSError: the file cannot be read.
    """
    with os.fdopen(os.open(path, system.READ), "rb", buffering=0) as file:
        return recognise(file.read(START_BYTES) or b"", os.fstat(file.fileno()).st_size)
