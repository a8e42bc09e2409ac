"""What to diagnose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rora_cli.errors import UsageError
from rora_cli.results.verdict import FAIL_ON
from rora_cli.units import fraction_of_points, require_least


@dataclass(frozen=True, kw_only=True)
class DiagnoseConfig:
    """``paths``: adapter directories or files, models where there is a ``base``, hub ids, or patterns of local paths.

    ``top_k`` is the width of W's top subspaces; ``calibrate`` a directory of known-good adapters of the same base, or a
    calibration file made from one; ``clean`` data (and ``trigger``, ``target_label``) on which margins are measured,
    with the model running; ``max_accuracy_drop`` is in points; ``cache`` where spectra of bases are kept, if anywhere.
    """

    paths: tuple[str, ...]
    base: str | None = None
    top_k: int = 32
    workers: int = 1
    intruders: bool = False
    calibrate: Path | None = None
    clean: str | None = None
    trigger: str | None = None
    target_label: str | None = None
    position: str = "random"
    max_rows: int = 256
    max_accuracy_drop: float = 1.0
    text_column: str | None = None
    label_column: str | None = None
    label_map: Mapping[str, str] | None = None
    data_revision: str | None = None
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
        if self.clean is not None and (self.base is None or len(self.paths) != 1):
            raise UsageError("--clean runs one adapter on its base: give --base and a single adapter")
        if (self.trigger is None) != (self.target_label is None):
            raise UsageError("--trigger and --target-label belong together: give both or neither")
        if self.trigger is not None and self.clean is None:
            raise UsageError("--trigger puts the trigger into rows of data: give them with --clean")
        if self.position not in ("start", "end", "random", "every"):
            raise UsageError(f"--position is one of start, end, random, every, not {self.position!r}")
        require_least(self)
        fraction_of_points(self.max_accuracy_drop)

    @property
    def allowed_drop(self) -> float:
        """``max_accuracy_drop`` as a fraction of 1."""
        return fraction_of_points(self.max_accuracy_drop)
