"""What makes a result reproducible: versions, seed, resolved configuration, and hashes of inputs and outputs."""

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
    """How a result came about; ``inputs`` and ``outputs`` map paths, relative to what the user named, to sha256."""

    command: str
    versions: Mapping[str, str]
    config: Mapping[str, Any]
    seed: int | None = None
    inputs: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)


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


def _version(name: str) -> str:
    """As importlib.metadata.version, in a tenth of the time: that function reads torch's whole description first."""
    installed = distribution(name)
    stated = re.search(r"^Version: *(\S+)", installed.read_text("METADATA") or "", re.MULTILINE)
    return stated[1] if stated else installed.version
