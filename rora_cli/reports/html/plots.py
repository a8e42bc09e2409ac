"""The geometry of the plots: places of lines, marks and cells in frames of inline SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rora_cli.reports.text import number, percent
from rora_cli.results.margins import Margins
from rora_cli.results.spectra import ModuleSpectrum

_MAX_LINES = 400
_WIDTH = 920
#: Kinds of modules in the order in which a block computes them; other kinds follow by name.
_ORDER = ("query", "key", "value", "qkv", "attention-out", "gate", "up", "gate-up", "down")


@dataclass(frozen=True)
class Cell:
    """A square of the heat map: its corner, the strength of its colour (0 to 1), its value, and the module's name."""

    x: int
    y: int
    fill: float
    value: float
    name: str


@dataclass(frozen=True)
class Heat:
    """Modules by block (down) and kind (across). ``what`` names the quantity; ``outside`` counts the other modules."""

    what: str
    kinds: tuple[tuple[int, str], ...]
    blocks: tuple[tuple[int, int], ...]
    cells: tuple[Cell, ...]
    cell_width: int
    width: int
    height: int
    outside: int


@dataclass(frozen=True)
class Line:
    """A polyline: its points, CSS class and name."""

    points: str
    style: str
    name: str


@dataclass(frozen=True)
class Mark:
    """A module's alignment on one side: its place in the plot, and its text."""

    x: float
    y: float
    side: str
    name: str


@dataclass(frozen=True)
class Plot:
    """Lines and marks in a frame of ``width`` x ``height``; ``ticks`` and ``across`` are (place, label) on the axes."""

    width: int
    height: int
    ticks: tuple[tuple[float, str], ...]
    across: tuple[tuple[float, str], ...]
    lines: tuple[Line, ...] = ()
    marks: tuple[Mark, ...] = ()
    bands: tuple[tuple[float, float, float], ...] = ()
    level: float | None = None


def heat_map(modules: Sequence[ModuleSpectrum]) -> Heat | None:
    """The strengths against W if there is a base, else the size-normalised norms; None without numbered blocks."""
    with_base = any(m.strength_ratio is not None for m in modules)
    values: dict[tuple[int, str], tuple[float, str]] = {}
    outside = 0
    for m in modules:
        value = m.strength_ratio if with_base else m.size_normalised_norm
        if m.block is None or m.kind is None or value is None:
            outside += 1
        else:
            place = (m.block, m.kind)
            values[place] = max(values.get(place, (0.0, "")), (value, m.name))
    if not values:
        return None
    blocks = sorted({block for block, _ in values})
    kinds = sorted({kind for _, kind in values}, key=lambda k: (_ORDER.index(k) if k in _ORDER else len(_ORDER), k))
    top = max(value for value, _ in values.values()) or 1.0
    left, above, h = 46, 24, 26
    w = min(max((_WIDTH - left) // len(kinds), 72), 120)
    cells = tuple(
        Cell(left + w * kinds.index(kind), above + h * blocks.index(block), value / top, value, name)
        for (block, kind), (value, name) in sorted(values.items())
    )
    return Heat(
        what="strength σ₁(ΔW)/σ₁(W)" if with_base else "root mean square of ΔW's entries",
        kinds=tuple((left + w * i + w // 2, kind) for i, kind in enumerate(kinds)),
        blocks=tuple((above + h * i + h // 2 + 4, block) for i, block in enumerate(blocks)),
        cells=cells,
        cell_width=w,
        width=left + w * len(kinds) + 2,
        height=above + h * len(blocks) + 2,
        outside=outside,
    )


def spectra_plot(groups: Sequence[tuple[str, Sequence[ModuleSpectrum]]], height: int = 300) -> Plot | None:
    """sigma_i against i, both axes logarithmic, of each group of modules under the CSS class of its lines.

    Lines of the class ``base`` are of the modules' base weights, if these are known; those of others of the updates.
    """
    lines = [
        (style, m.name, [v for v in values or () if v > 0][:64])
        for style, modules in groups
        for m in modules[:_MAX_LINES]
        for values in ((m.base_singular_values if style == "base" else m.singular_values),)
    ]
    everything = [v for _, _, line in lines for v in line]
    longest = max((len(line) for _, _, line in lines), default=0)
    if not everything or longest < 2:
        return None
    top = max(everything)
    axis = _LogAxis(max(min(everything), top * 1e-6), top, height)
    step = (_WIDTH - 80) / math.log(longest)

    def across(i: int) -> float:
        return 60 + step * math.log(i)

    drawn = (
        Line(" ".join(f"{across(i):.1f},{axis.at(v):.1f}" for i, v in enumerate(line, start=1)), style, name)
        for style, name, line in lines
        if line
    )
    ticks = tuple((across(1 << p), str(1 << p)) for p in range(longest.bit_length()))
    return Plot(_WIDTH, height, axis.ticks(), ticks, lines=tuple(drawn))


def alignment_plot(modules: Sequence[ModuleSpectrum], height: int = 280) -> Plot | None:
    """L_k and R_k of every module [multiples of chance], with the band of random updates behind them."""
    known = [m for m in modules if m.alignment_left is not None and m.alignment_right is not None][:_MAX_LINES]
    known.sort(key=lambda m: (m.block if m.block is not None else 1 << 30, m.kind or ""))
    if not known:
        return None
    values = [v for m in known for v in (m.alignment_left, m.alignment_right) if v is not None]
    bounds = [b for m in known for band in (m.null_left, m.null_right) if band for b in (band.low, band.high)]
    axis = _LogAxis(max(min([*values, *bounds, 0.5]), 1e-2), max([*values, *bounds, 2.0]), height)
    step = (_WIDTH - 90) / max(len(known) - 1, 1)
    half = min(step / 5, 4.0)
    marks, bands = [], []
    ticks: dict[int | None, tuple[float, str]] = {}
    for i, m in enumerate(known):
        ticks.setdefault(m.block, (66 + i * step, "-" if m.block is None else str(m.block)))
        for side, value, band, shift in (
            ("L", m.alignment_left, m.null_left, -half),
            ("R", m.alignment_right, m.null_right, half),
        ):
            x = 66 + i * step + shift
            if band is not None:
                bands.append((x - half * 0.8, axis.at(band.high), max(axis.at(band.low) - axis.at(band.high), 1.0)))
            marks.append(Mark(x, axis.at(value or 0.0), side, f"{m.name}: {side}_k = {number(value)}"))
    every = -(-len(ticks) // 24)  # so that labels do not overlap
    across = tuple(ticks.values())[::every]
    return Plot(_WIDTH, height, axis.ticks(), across, marks=tuple(marks), bands=tuple(bands), level=axis.at(1.0))


def steps_plot(margins: Margins, height: int = 240) -> Plot:
    """Clean accuracy and attack success (fractions of rows, to first order) against the update's scale."""
    last = 2.0 * max(1.0, min(margins.largest_scale or 1.0, 8.0))

    def at(scale: float, share: float) -> tuple[float, float]:
        return 60 + (_WIDTH - 80) * min(scale, last) / last, 24 + (height - 54) * (1 - share)

    lines = []
    for steps, style, name in (
        (margins.accuracy, "base step", "clean accuracy"),
        (margins.attack_success, "update step", "attack success"),
    ):
        ends = [*(step.scale for step in steps[1:]), last]
        corners = [at(x, step.share) for step, end in zip(steps, ends, strict=True) for x in (step.scale, end)]
        if corners:
            lines.append(Line(" ".join(f"{x:.1f},{y:.1f}" for x, y in corners), style, name))
    ticks = tuple((at(0, share)[1], percent(share, 0)) for share in (0.0, 0.25, 0.5, 0.75, 1.0))
    across = tuple((at(last * i / 8, 0)[0], number(last * i / 8)) for i in range(9))
    return Plot(_WIDTH, height, ticks, across, lines=tuple(lines))


class _LogAxis:
    """A vertical logarithmic axis from ``low`` at the bottom to ``high`` at the top of a frame of ``height``."""

    def __init__(self, low: float, high: float, height: int) -> None:
        self.low, self.height = math.log10(low) - 0.05, height
        self.high = max(math.log10(high) + 0.05, self.low + 0.2)

    def at(self, value: float) -> float:
        share = (math.log10(max(value, 1e-30)) - self.low) / (self.high - self.low)
        return self.height - 30 - min(max(share, 0.0), 1.0) * (self.height - 40)

    def ticks(self) -> tuple[tuple[float, str], ...]:
        powers = range(math.ceil(self.low), math.floor(self.high) + 1)
        values = [10.0**p for p in powers]
        if len(values) < 3:
            values = sorted({m * 10.0**p for p in range(math.floor(self.low), math.ceil(self.high)) for m in (1, 2, 5)})
        return tuple((self.at(v), number(v)) for v in values if self.low <= math.log10(v) <= self.high)
