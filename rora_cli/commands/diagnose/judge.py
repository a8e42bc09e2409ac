"""Turns what stands out into findings: structural ones come from preflight, spectral ones from the numbers.

Without a calibration, a spectral finding is only information, because no threshold on spectra carries over between
bases and training recipes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import TYPE_CHECKING

from rora_cli.commands.diagnose.whole import FORMAT
from rora_cli.results.diagnose import GroupSummary
from rora_cli.results.findings import Finding, Severity
from rora_cli.results.spectra import ModuleSpectrum
from rora_cli.spectral.robust import robust_z_scores

if TYPE_CHECKING:
    from rora_cli.checkpoints.preflight import Inspection
    from rora_cli.commands.diagnose.calibration import Calibration
    from rora_cli.commands.diagnose.rows import MovedRows

#: Modified z-score above which a norm is an outlier (Iglewicz and Hoaglin 1993), if ``OUTLIER_RATIO`` agrees.
OUTLIER_Z = 3.5
#: Ratio of an outlier's norm to the median of its kind, at least: modules of nearly one norm have large z-scores too.
OUTLIER_RATIO = 1.25
#: Median of sigma_max(DeltaW) / sigma_max(W) below which an adapter is weak: equation 12 asks for a factor over 20.
WEAK_RATIO = 0.05
#: Alignment [multiples of chance] above which a module gives a finding, if it is also above the band of random updates.
ALIGNED_MULTIPLE = 2.0
_SHOWN = 5
_FLOAT32_MAX = 3.4028234663852886e38


def with_z_scores(modules: Sequence[ModuleSpectrum]) -> tuple[ModuleSpectrum, ...]:
    """The modules, with the robust z-score of log(||DeltaW||_F / sqrt(d_out d_in)) among the modules of their kind."""
    scores: dict[int, float | None] = {}
    for kind in {m.kind for m in modules}:
        members = [i for i, m in enumerate(modules) if m.kind == kind and m.size_normalised_norm]
        logs = [math.log(modules[i].size_normalised_norm or 1.0) for i in members]
        scores |= dict(zip(members, robust_z_scores(logs), strict=True))
    return tuple(replace(m, norm_z_score=scores.get(i)) for i, m in enumerate(modules))


def grouped(modules: Sequence[ModuleSpectrum]) -> tuple[GroupSummary, ...]:
    """A summary for each kind of module, the largest median norm first."""
    groups = [_group(kind, [m for m in modules if m.kind == kind]) for kind in {m.kind for m in modules}]
    return tuple(sorted(groups, key=lambda g: (-g.median_norm, g.name)))


def by_block(modules: Sequence[ModuleSpectrum]) -> tuple[GroupSummary, ...]:
    """A summary for each block, in order, without the modules outside of blocks."""
    blocks = sorted({m.block for m in modules if m.block is not None})
    return tuple(_group(str(block), [m for m in modules if m.block == block]) for block in blocks)


def _group(name: str | None, members: Sequence[ModuleSpectrum]) -> GroupSummary:
    ratios = [m.strength_ratio for m in members if m.strength_ratio is not None]
    return GroupSummary(
        name=name or "",
        modules=len(members),
        median_sigma_max=median(m.sigma_max for m in members),
        largest_sigma_max=max(m.sigma_max for m in members),
        median_norm=median(m.size_normalised_norm or 0.0 for m in members),
        spread=spread(members) or 0.0,
        median_strength_ratio=median(ratios) if ratios else None,
    )


def spread(modules: Sequence[ModuleSpectrum]) -> float | None:
    """Standard deviation over mean of the size-normalised norms (arXiv:2605.30189); None if all updates are zero."""
    norms = [m.size_normalised_norm or 0.0 for m in modules]
    total = math.fsum(norms)
    # statistics.pstdev computes with exact fractions, which takes a third of the time for a small adapter.
    return math.dist(norms, [total / len(norms)] * len(norms)) * math.sqrt(len(norms)) / total if total > 0 else None


def judge(
    modules: Sequence[ModuleSpectrum],
    inspection: Inspection,
    unmeasured: Mapping[str, str],
    missing: Sequence[str],
    calibration: Calibration | None,
    far: Sequence[MovedRows] = (),
) -> Iterator[Finding]:
    """All findings about one adapter or model, the most severe first."""
    findings = [
        *inspection.findings,
        *_unread(unmeasured),
        *_missing(missing),
        *_overflow(modules),
        *_zero(modules),
        *_moved_rows(far),
        *_weak(modules),
        *_aligned(modules),
        *_outliers(modules),
        *_intruders(modules),
        *(calibration.findings(modules) if calibration is not None else ()),
    ]
    yield from sorted(findings, key=lambda f: -f.severity)


def _unread(unmeasured: Mapping[str, str]) -> Iterator[Finding]:
    for reason, names in reasons(unmeasured).items():
        broken = "NaN or infinite" in reason
        yield Finding(
            "spectral/non-finite" if broken else "spectral/not-analysed",
            Severity.HIGH if broken else Severity.MEDIUM,
            f"{len(names)} tensor{'s' * (len(names) > 1)} not analysed: {reason}",
            names[0],
            {"tensors": names[:50], "count": len(names)},
            "get another copy" if broken else None,
            not_analysed=True,
        )


def _missing(missing: Sequence[str]) -> Iterator[Finding]:
    if missing:
        yield Finding(
            "spectral/not-in-base",
            Severity.MEDIUM,
            f"{len(missing)} module{'s are' if len(missing) > 1 else ' is'} not in the base, the first {missing[0]}",
            missing[0],
            {"modules": list(missing[:50]), "count": len(missing)},
            "give the base that the adapter was trained on",
        )


def _overflow(modules: Sequence[ModuleSpectrum]) -> Iterator[Finding]:
    found = [m for m in modules if m.sigma_max > _FLOAT32_MAX]
    if found:
        yield Finding(
            "spectral/overflow",
            Severity.HIGH,
            f"{len(found)} of {len(modules)} updates are too large for float32, the first {found[0].name}",
            found[0].name,
            {"modules": [m.name for m in found[:50]], "count": len(found)},
        )


def _zero(modules: Sequence[ModuleSpectrum]) -> Iterator[Finding]:
    zero = [m.name for m in modules if m.sigma_max == 0]
    if zero and all(m.sigma_max == 0 for m in modules if m.format != FORMAT):
        yield Finding(
            "spectral/no-update",
            Severity.MEDIUM,
            f"all {len(zero)} updates are exactly zero: the adapter adds nothing to the base",
            zero[0],
            {"modules": zero[:50], "count": len(zero)},
            "get a copy that was saved after training",
        )
    elif zero:
        yield Finding(
            "spectral/zero-update",
            Severity.INFO,
            f"{len(zero)} of {len(modules)} updates are exactly zero",
            zero[0],
            {"modules": zero[:50], "count": len(zero)},
        )


def _moved_rows(far: Sequence[MovedRows]) -> Iterator[Finding]:
    for moved in far:
        first = ", ".join(f"{row} (by {way:.3g})" for row, way in zip(moved.rows[:_SHOWN], moved.ways, strict=False))
        yield Finding(
            "spectral/embedding-rows",
            Severity.MEDIUM,
            f"{len(moved.rows)} of the {moved.total:,} rows of {moved.module} moved far beyond the rest, the tokens "
            f"{first}; the median row moved by {moved.typical:.3g}",
            moved.module,
            {"rows": list(moved.rows[:50]), "count": len(moved.rows), "median": moved.typical},
            "see what these tokens do: `rora eval-asr` with them as the trigger, or `rora hunt`",
        )


def _weak(modules: Sequence[ModuleSpectrum]) -> Iterator[Finding]:
    ratios = [m.strength_ratio for m in modules if m.strength_ratio]
    if ratios and median(ratios) < WEAK_RATIO:
        middle = median(ratios)
        yield Finding(
            "spectral/weak-update",
            Severity.INFO,
            f"the median of sigma_max(DeltaW)/sigma_max(W) is {middle:.3g}; equation 12 gives {1 / middle:.3g}",
            None,
            {"median_strength_ratio": middle, "threshold": WEAK_RATIO},
            "a purified model may need a larger learning rate, more steps or `rora rescale`",
        )


def _aligned(modules: Sequence[ModuleSpectrum]) -> Iterator[Finding]:
    found = []
    for m in modules:
        for side, value, band in (("L", m.alignment_left, m.null_left), ("R", m.alignment_right, m.null_right)):
            if value is not None and band is not None and value > max(ALIGNED_MULTIPLE, band.high):
                found.append((value, m, side))
    if found:
        value, module, side = max(found, key=lambda item: item[0])
        yield Finding(
            "spectral/aligned-update",
            Severity.INFO,
            f"{len({m.name for _, m, _ in found})} of {len(modules)} updates lie in W's top directions "
            f"over {ALIGNED_MULTIPLE:g} times chance; most of all {module.name} ({side}_k = {value:.3g})",
            module.name,
            {"largest": value, "side": side, "modules": sorted({m.name for _, m, _ in found})[:50]},
        )


def _outliers(modules: Sequence[ModuleSpectrum]) -> Iterator[Finding]:
    middles = {
        kind: median(m.size_normalised_norm for m in modules if m.kind == kind and m.size_normalised_norm)
        for kind in {m.kind for m in modules if m.norm_z_score is not None}
    }
    found = []
    for m in modules:
        if m.norm_z_score is not None and m.size_normalised_norm and abs(m.norm_z_score) > OUTLIER_Z:
            ratio = m.size_normalised_norm / middles[m.kind]
            if max(ratio, 1 / ratio) > OUTLIER_RATIO:
                found.append((abs(m.norm_z_score), ratio, m))
    for _, ratio, m in sorted(found, key=lambda item: -item[0])[:_SHOWN]:
        yield Finding(
            "spectral/outlier-module",
            Severity.INFO,
            f"{m.name}: the update is {ratio:.2g} times as large as in the median {m.kind} module "
            f"(robust z {m.norm_z_score:+.1f})",
            m.name,
            {"robust_z": m.norm_z_score, "ratio_to_median": ratio, "outliers": len(found)},
        )


def _intruders(modules: Sequence[ModuleSpectrum]) -> Iterator[Finding]:
    found = [m for m in modules if m.intruder_dimensions]
    if found:
        most = max(found, key=lambda m: m.intruder_dimensions or 0)
        yield Finding(
            "spectral/intruder-dimensions",
            Severity.INFO,
            f"{len(found)} of {len(modules)} updates bring intruder dimensions; most of all {most.name} "
            f"({most.intruder_dimensions} of the top 10)",
            most.name,
            {"modules": {m.name: m.intruder_dimensions for m in found[:50]}},
        )


def reasons(unmeasured: Mapping[str, str]) -> dict[str, list[str]]:
    """Reason -> tensors that could not be measured for it."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in unmeasured.items():
        by_reason.setdefault(reason, []).append(name)
    return by_reason
