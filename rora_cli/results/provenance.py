"""What makes a result reproducible: versions, seed, resolved configuration, hashes of what was read and written."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any

_LIBRARIES = ("torch", "transformers", "peft", "safetensors", "accelerate", "datasets", "numpy", "scipy")


@dataclass(frozen=True)
class Provenance:
    """``inputs`` and ``outputs`` map a path, relative to what the user named, to its sha256. ``thresholds`` are the
    numbers that the verdict rests on, by name in groups; empty for commands that search nothing.

    Attributes:
        command: that made the report.
        versions: of rora, Python and the libraries.
        config: every option as it was resolved.
        seed: of all that is random; None where nothing is.
    """

    command: str
    versions: Mapping[str, str]
    config: Mapping[str, Any]
    seed: int | None = None
    inputs: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    thresholds: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def library_versions() -> dict[str, str]:
    """Versions of rora, Python and the libraries that decide the numbers, without importing any of them."""
    from rora_cli.version import __version__

    found = {"rora": __version__, "python": platform.python_version(), "platform": sys.platform}
    for name in _LIBRARIES:
        try:
            found[name] = _version(name)
        except PackageNotFoundError:
            continue
    return found


def documentation_url() -> str:
    """Where the installed package says that its documentation is published; empty if it does not say so."""
    try:
        stated = re.search(r"^Project-URL: *Documentation, *(https://\S+)", _metadata("rora-cli"), re.MULTILINE)
    except PackageNotFoundError:
        return ""
    return stated[1].rstrip("/") if stated else ""


def _version(name: str) -> str:
    """As importlib.metadata.version, which reads torch's whole description first, for a tenth of the time."""
    stated = re.search(r"^Version: *(\S+)", _metadata(name), re.MULTILINE)
    return stated[1] if stated else distribution(name).version


def _metadata(name: str) -> str:
    return distribution(name).read_text("METADATA") or ""
