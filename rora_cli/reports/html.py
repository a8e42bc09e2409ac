"""One self-contained HTML page: no script, no network, readable in light and dark, by keyboard and screen reader.

All text goes through jinja2's autoescape after ``safe``; the plots are inline SVG made of numbers alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rora_cli.reports.subjects import rules
from rora_cli.reports.terminal.diagnose import from_block, ranked
from rora_cli.reports.text import count, number, percent, safe, size
from rora_cli.results.diagnose import Diagnosis
from rora_cli.results.spectra import ModuleSpectrum

_MAX_LINES = 400
_CELL = (64, 26)


def render(result: Any) -> str:
    """The page for a diagnosis of one or more adapters, or for the checkpoints of ``rora check``."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("rora_cli.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(printable=safe, number=number, percent=percent, short=from_block, size=size)
    environment.globals.update(count=count)
    if hasattr(result, "checkpoints"):
        return environment.get_template("check.html.j2").render(result=result, rules=rules(result))
    pages = [_page(i, diagnosis) for i, diagnosis in enumerate(result.adapters)]
    return environment.get_template("diagnose.html.j2").render(result=result, pages=pages, rules=rules(result))


@dataclass(frozen=True)
class Cell:
    """A square of the heat map: its corner, how full its colour is (0 to 1), and what it says."""

    x: int
    y: int
    fill: float
    value: float
    name: str


@dataclass(frozen=True)
class Heat:
    """Modules by block (down) and kind (across); ``what`` is the quantity shown."""

    what: str
    kinds: tuple[tuple[int, str], ...]
    blocks: tuple[tuple[int, int], ...]
    cells: tuple[Cell, ...]
    width: int
    height: int


@dataclass(frozen=True)
class Plot:
    """Polylines and dots in a frame of ``width`` x ``height``, with tick labels on a logarithmic vertical axis."""

    width: int
    height: int
    ticks: tuple[tuple[float, str], ...]
    update_lines: tuple[str, ...] = ()
    base_lines: tuple[str, ...] = ()
    dots: tuple[tuple[float, float, str, str], ...] = ()
    bands: tuple[tuple[float, float, float], ...] = ()
    chance: float | None = None


def _page(index: int, diagnosis: Diagnosis) -> dict[str, Any]:
    return {
        "id": f"adapter-{index}",
        "d": diagnosis,
        "modules": ranked(diagnosis.modules),
        "with_base": any(m.base_sigma_max is not None for m in diagnosis.modules),
        "heat": heat_map(diagnosis.modules),
        "spectra": spectra_plot(diagnosis.modules),
        "alignment": alignment_plot(diagnosis.modules),
    }


def heat_map(modules: Sequence[ModuleSpectrum]) -> Heat | None:
    """Strength against W where there is a base, else the size-normalised norm; None without numbered blocks."""
    with_base = any(m.strength_ratio is not None for m in modules)
    values: dict[tuple[int, str], tuple[float, str]] = {}
    for m in modules:
        value = m.strength_ratio if with_base else m.size_normalised_norm
        if m.block is not None and m.kind is not None and value is not None:
            place = (m.block, m.kind)
            values[place] = max(values.get(place, (0.0, "")), (value, m.name))
    if not values:
        return None
    blocks = sorted({block for block, _ in values})
    kinds = sorted({kind for _, kind in values})
    top = max(value for value, _ in values.values()) or 1.0
    w, h = _CELL
    left, above = 46, 24
    cells = tuple(
        Cell(left + w * kinds.index(kind), above + h * blocks.index(block), value / top, value, name)
        for (block, kind), (value, name) in sorted(values.items())
    )
    return Heat(
        what="strength σ₁(ΔW)/σ₁(W)" if with_base else "root mean square of ΔW's entries",
        kinds=tuple((left + w * i + w // 2, kind) for i, kind in enumerate(kinds)),
        blocks=tuple((above + h * i + h // 2 + 4, block) for i, block in enumerate(blocks)),
        cells=cells,
        width=left + w * len(kinds) + 2,
        height=above + h * len(blocks) + 2,
    )


def spectra_plot(modules: Sequence[ModuleSpectrum], width: int = 640, height: int = 260) -> Plot | None:
    """sigma_i of every update, and of the base's weights where they are known, against i."""
    updates = [[v for v in m.singular_values if v > 0] for m in modules[:_MAX_LINES]]
    bases = [[v for v in m.base_singular_values or () if v > 0] for m in modules[:_MAX_LINES]]
    everything = [v for line in updates + bases for v in line]
    longest = min(max((len(line) for line in updates + bases), default=0), 64)
    if not everything or longest < 2:
        return None
    top = max(everything)
    axis = _LogAxis(max(min(everything), top * 1e-6), top, height)

    def polyline(line: list[float]) -> str:
        step = (width - 60) / (longest - 1)
        return " ".join(f"{50 + i * step:.1f},{axis.at(v):.1f}" for i, v in enumerate(line[:longest]))

    lines = [tuple(polyline(line) for line in group if line) for group in (updates, bases)]
    return Plot(width, height, axis.ticks(), update_lines=lines[0], base_lines=lines[1])


def alignment_plot(modules: Sequence[ModuleSpectrum], width: int = 640, height: int = 240) -> Plot | None:
    """L_k and R_k of every module as multiples of chance, with the band of random updates behind them."""
    known = [m for m in modules if m.alignment_left is not None and m.alignment_right is not None][:_MAX_LINES]
    known.sort(key=lambda m: (m.block if m.block is not None else -1, m.kind or ""))
    if not known:
        return None
    values = [v for m in known for v in (m.alignment_left, m.alignment_right) if v is not None]
    bounds = [b for m in known for band in (m.null_left, m.null_right) if band for b in (band.low, band.high)]
    axis = _LogAxis(max(min([*values, *bounds, 0.5]), 1e-2), max([*values, *bounds, 2.0]), height)
    step = (width - 70) / max(len(known) - 1, 1)
    dots, bands = [], []
    for i, m in enumerate(known):
        for side, value, band, shift in (
            ("L", m.alignment_left, m.null_left, -2.0),
            ("R", m.alignment_right, m.null_right, 2.0),
        ):
            x = 56 + i * step + shift
            if band is not None:
                bands.append((x, axis.at(band.high), max(axis.at(band.low) - axis.at(band.high), 1.0)))
            dots.append((x, axis.at(value or 0.0), side, f"{m.name}: {side}_k = {number(value)}"))
    return Plot(width, height, axis.ticks(), dots=tuple(dots), bands=tuple(bands), chance=axis.at(1.0))


class _LogAxis:
    """A vertical logarithmic axis from ``low`` at the bottom to ``high`` at the top of a frame of ``height``."""

    def __init__(self, low: float, high: float, height: int) -> None:
        self.low, self.height = math.log10(low) - 0.05, height
        self.high = max(math.log10(high) + 0.05, self.low + 0.2)

    def at(self, value: float) -> float:
        share = (math.log10(max(value, 1e-30)) - self.low) / (self.high - self.low)
        return self.height - 20 - min(max(share, 0.0), 1.0) * (self.height - 30)

    def ticks(self) -> tuple[tuple[float, str], ...]:
        powers = range(math.ceil(self.low), math.floor(self.high) + 1)
        values = [10.0**p for p in powers]
        if len(values) < 3:
            values = sorted({m * 10.0**p for p in range(math.floor(self.low), math.ceil(self.high)) for m in (1, 2, 5)})
        return tuple((self.at(v), number(v)) for v in values if self.low <= math.log10(v) <= self.high)
