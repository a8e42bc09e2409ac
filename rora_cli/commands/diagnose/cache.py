"""The directory that keeps the spectra of bases between runs."""

from __future__ import annotations

import os
from pathlib import Path


def default_cache() -> Path:
    """``$RORA_CACHE``, else ``$XDG_CACHE_HOME/rora/spectra``, else ``~/.cache/rora/spectra``."""
    if named := os.environ.get("RORA_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rora" / "spectra"
