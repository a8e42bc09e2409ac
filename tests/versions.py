"""The versions of libraries that are installed, beside the tested ones of constraints.txt."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path

from packaging.version import Version

_TESTED = Path(__file__).parents[1] / "constraints.txt"


def installed(library: str) -> Version:
    return Version(version(library))


def pinned(library: str) -> Version:
    (exact,) = re.findall(rf"^{re.escape(library)}==(\S+)$", _TESTED.read_text(encoding="utf-8"), re.M)
    return Version(exact)


def is_older(library: str) -> bool:
    """Whether the installed version is below the tested one, and may lack what that has."""
    return installed(library) < pinned(library)
