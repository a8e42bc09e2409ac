"""The options of ``rora rescale``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rora_cli.errors import UsageError
from rora_cli.units import fraction_of_points, require_least

VIAS = ("lora-B", "alpha-pattern")
DTYPES = ("float32", "float16", "bfloat16")


@dataclass(frozen=True, kw_only=True)
class RescaleConfig:
    """``strength`` is the share of equation 12's factor (1 the paper's); ``factor`` replaces the rule by one number.

    ``cap`` limits factors; ``layers`` is ``top3`` (any ``topN``), ``all`` or block numbers such as ``0,2,9-11``. With
    ``clean`` the factors are lowered together until clean accuracy stays within ``max_accuracy_drop`` points of
    what it was. ``bake_alpha_pattern`` folds an alpha_pattern that is there already, which many servers ignore.
    """

    adapter: str
    base: str | None = None
    output: Path | None = None
    layers: str = "top3"
    strength: float = 1.0
    factor: float | None = None
    cap: float | None = None
    via: str = "lora-B"
    bake_alpha_pattern: bool = False
    dtype: str | None = None
    clean: str | None = None
    max_accuracy_drop: float = 1.0
    text_column: str | None = None
    label_column: str | None = None
    label_map: Mapping[str, str] | None = None
    data_revision: str | None = None
    max_rows: int | None = None
    revision: str | None = None
    offline: bool = False
    seed: int = 0
    force: bool = False

    def __post_init__(self) -> None:
        if self.factor is None and self.base is None:
            raise UsageError("equation 12 needs sigma_max(W): give the base model with --base, or a fixed --factor")
        if self.factor is not None and (not math.isfinite(self.factor) or self.factor <= 0):
            raise UsageError(f"--factor is a finite number above 0, not {self.factor:g}")
        if not (math.isfinite(self.strength) and self.strength > 0):
            raise UsageError(f"--strength is a finite number above 0, not {self.strength:g}")
        if self.factor is not None and self.strength != 1:
            raise UsageError("--strength is a share of equation 12's factor, which --factor replaces: give one of them")
        if self.cap is not None and not (math.isfinite(self.cap) and self.cap > 0):
            raise UsageError(f"--cap is a finite number above 0, not {self.cap:g}")
        if self.via not in VIAS:
            raise UsageError(f"--via is one of {', '.join(VIAS)}, not {self.via!r}")
        if self.dtype is not None and self.dtype not in DTYPES:
            raise UsageError(f"--dtype is one of {', '.join(DTYPES)}, not {self.dtype!r}")
        if self.via == "alpha-pattern" and (self.dtype or self.bake_alpha_pattern):
            raise UsageError("--via alpha-pattern leaves tensors alone: --dtype and --bake-alpha-pattern need lora-B")
        if self.clean is not None and self.base is None:
            raise UsageError("--clean measures the model, and an adapter is none: give its base with --base")
        fraction_of_points(self.max_accuracy_drop)
        require_least(self)

    @property
    def allowed_drop(self) -> float:
        """``max_accuracy_drop`` as a fraction of 1."""
        return fraction_of_points(self.max_accuracy_drop)

    @property
    def output_directory(self) -> Path:
        """``output``, else the adapter's last name with ``-rescaled`` in the working directory."""
        return self.output or Path(f"{Path(self.adapter.rstrip('/')).name or 'adapter'}-rescaled")
