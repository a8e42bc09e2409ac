"""What to diagnose."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rora_cli.errors import UsageError
from rora_cli.results.findings import Severity

FAIL_ON = {"none": None, "low": Severity.LOW, "medium": Severity.MEDIUM, "high": Severity.HIGH}


@dataclass(frozen=True, kw_only=True)
class DiagnoseConfig:
    """``paths``: adapter directories or files, models where there is a ``base``, hub ids, or patterns of local paths.

    ``top_k`` is the width of W's top subspaces; ``calibrate`` a directory of known-good adapters of the same base, or a
    calibration file made from one; ``cache`` where spectra of bases are kept (None: nowhere).
    """

    paths: tuple[str, ...]
    base: str | None = None
    top_k: int = 32
    workers: int = 1
    intruders: bool = False
    calibrate: Path | None = None
    fail_on: str = "medium"
    revision: str | None = None
    offline: bool = False
    seed: int = 0
    cache: Path | None = None

    def __post_init__(self) -> None:
        if not self.paths:
            raise UsageError("no path is given; name at least one adapter directory or file")
        if not 1 <= self.top_k <= 1024:
            raise UsageError(f"--top-k is between 1 and 1024, not {self.top_k}")
        if not 1 <= self.workers <= 256:
            raise UsageError(f"--workers is between 1 and 256, not {self.workers}")
        if self.fail_on not in FAIL_ON:
            raise UsageError(f"--fail-on is one of {', '.join(FAIL_ON)}, not {self.fail_on!r}")
        if self.intruders and self.base is None:
            raise UsageError("--intruders compares with the base's singular vectors; give --base as well")
