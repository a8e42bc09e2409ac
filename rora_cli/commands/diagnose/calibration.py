"""Thresholds from known-good adapters of one base: the ranges of their statistics, and findings outside of these.

A suspect's statistic gives a finding if it is outside of the range of all good adapters and far from their median, in
robust z. This means "unlike those", not "backdoored": an adapter with another recipe or rank is unlike them too.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rora_cli.checkpoints.preflight import Inspection
from rora_cli.errors import CheckpointError
from rora_cli.results.findings import Finding, Severity
from rora_cli.results.spectra import ModuleSpectrum
from rora_cli.spectral.robust import MAD_OF_NORMAL

FILE_NAME = "rora-calibration.json"
SCHEMA_VERSION = 1
#: Smallest number of known-good adapters.
LEAST_ADAPTERS = 5
#: Distance from the median of the good adapters [robust z]: a finding needs more than this.
OUTSIDE_Z = 3.5
#: Modules of a kind that are outside [fraction]: a finding on more than this has medium severity, others low.
_MANY = 0.1


@dataclass(frozen=True)
class Range:
    """A statistic of the good adapters: its extremes, median (``middle``), and median absolute deviation."""

    low: float
    high: float
    middle: float
    deviation: float

    def z(self, value: float) -> float | None:
        """Robust z of ``value``, if it is outside of the extremes and far from the median; else None."""
        if self.low <= value <= self.high:
            return None
        scale = max(self.deviation / MAD_OF_NORMAL, 1e-9 * max(abs(self.middle), 1.0))
        z = (value - self.middle) / scale
        return z if abs(z) > OUTSIDE_Z else None


@dataclass(frozen=True)
class Calibration:
    """What was learned: ``ranges`` by kind of module and statistic, from adapters whose sha256 are in ``inputs``."""

    base: str
    top_k: int
    adapters: int
    inputs: Mapping[str, str]
    ranges: Mapping[str, Mapping[str, Range]]

    def findings(self, modules: Sequence[ModuleSpectrum]) -> Iterator[Finding]:
        """One finding for each kind and statistic of which some module is outside of the range."""
        for kind, known in self.ranges.items():
            members = [m for m in modules if m.kind == kind]
            for name, expected in known.items():
                outside = []
                for m in members:
                    value = statistics(m).get(name)
                    z = None if value is None else expected.z(value)
                    if z is not None:
                        outside.append((abs(z), z, m))
                if outside:
                    yield _finding(kind, name, expected, outside, len(members), self.adapters)

    def to_json(self) -> str:
        """The text of a calibration file; ``from_json`` reads it."""
        return json.dumps({"schema_version": SCHEMA_VERSION, **asdict(self)}, indent=2, allow_nan=False) + "\n"


def _finding(
    kind: str,
    name: str,
    expected: Range,
    outside: list[tuple[float, float, ModuleSpectrum]],
    members: int,
    adapters: int,
) -> Finding:
    _, z, worst = max(outside, key=lambda item: item[0])
    return Finding(
        "spectral/outside-calibration",
        Severity.MEDIUM if len(outside) > _MANY * members else Severity.LOW,
        f"{name} of {len(outside)} of {members} {kind} modules is outside of what {adapters} known-good adapters have; "
        f"most of all {worst.name} (robust z {z:+.1f})",
        worst.name,
        {"statistic": name, "value": statistics(worst).get(name), "expected": asdict(expected), "robust_z": z},
        "compare its training recipe with theirs; then measure behaviour: rora eval-asr, rora hunt",
    )


def statistics(m: ModuleSpectrum) -> dict[str, float]:
    """The calibrated statistics of a module, by name; a scale is in decadic logarithms."""
    scales = {
        "log10 sigma_max": m.sigma_max,
        "log10 size-normalised norm": m.size_normalised_norm,
        "log10 strength ratio": m.strength_ratio,
        "log10 L_k": m.alignment_left,
        "log10 R_k": m.alignment_right,
    }
    values = {name: math.log10(value) for name, value in scales.items() if value is not None and value > 0}
    values |= {"energy share": m.energy_share or 0.0, "effective rank / rank": m.effective_rank / max(m.rank, 1)}
    if m.entry_kurtosis is not None:
        values["log10 entry kurtosis"] = math.log10(m.entry_kurtosis)
    return values


def base_fingerprint(base: Inspection | None) -> str:
    """A hash of the names, shapes and types of a base's tensors; "none" without a base."""
    if base is None:
        return "none"
    lines = sorted(f"{t.name} {t.dtype} {list(t.shape)}" for t in base.tensors.values())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def from_json(path: Path) -> Calibration:
    """Read a calibration file. Raises CheckpointError if it is not one."""
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if document.pop("schema_version") != SCHEMA_VERSION:
            raise ValueError("another schema version")
        ranges = {
            str(kind): {str(name): Range(**{k: float(v) for k, v in r.items()}) for name, r in known.items()}
            for kind, known in document.pop("ranges").items()
        }
        return Calibration(ranges=ranges, **document)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{path} is not a calibration of rora's ({error}): make it anew from its adapters."
        ) from None
