"""How far searches of known models lie from each threshold: the margin of every decision, on either side.

    python benchmarks/calibrate.py --clean clean.json --poisoned suspect.json=mn --poisoned other.json='watched 3d' ...

Reports are those of ``rora hunt --format json``; a poisoned model's stands before its trigger. A candidate is a part of
the trigger if it holds one of its words; every other candidate is honest. For each threshold of
``tasks/classification/thresholds.py`` that a report can speak of, a line has the largest honest value and the smallest
value of a trigger (of each poisoned model the candidate that did most), among those for which that threshold decides:
the candidates that pass all others. A negative margin is a candidate on the wrong side.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rora_cli.tasks.classification.thresholds import CALLS, CLAIMS


@dataclass(frozen=True)
class Candidate:
    """A finalist of a search: ``is_part`` of the model's trigger, or honest."""

    model: str
    text: str
    is_sequence: bool
    excess: float
    suspicion: float
    flip_rate: float
    is_part: bool

    def stands_out(self) -> bool:
        """Whether it may be called."""
        return self.excess >= CALLS.min_excess and self.suspicion >= CALLS.min_suspicion


@dataclass(frozen=True)
class Drifted:
    """A token whose embedding moved further than clean rows explain."""

    model: str
    text: str
    z: float
    is_part: bool


@dataclass(frozen=True)
class Margin:
    """One decision. A side is None where no candidate is on it."""

    name: str
    threshold: float
    honest: tuple[float, str] | None
    trigger: tuple[float, str] | None

    def line(self) -> str:
        """As a row of a Markdown table."""
        cells = [f"`{self.name}`", f"{self.threshold:g}"]
        for side, sign in ((self.honest, 1), (self.trigger, -1)):
            cells.append("-" if side is None else f"{side[0]:.2f} ({side[1]})")
            cells.append("-" if side is None else f"{sign * (self.threshold - side[0]):+.2f}")
        return f"| {' | '.join(cells)} |"


def candidates(report: Mapping[str, Any], trigger: str = "") -> list[Candidate]:
    """The finalists of every behaviour in a report; ``trigger`` is empty for a clean model."""
    return [
        Candidate(
            model=report["model"],
            text=found["text"],
            is_sequence=len(found["token_ids"]) > 1,
            excess=found["excess"],
            suspicion=found["suspicion"],
            flip_rate=found["flip_rate"]["value"],
            is_part=_is_part(found["text"], trigger),
        )
        for label in report["labels"]
        for found in label["triggers"]
    ]


def drifted(report: Mapping[str, Any], trigger: str = "") -> list[Drifted]:
    """The tokens that a report lists for their drift."""
    return [
        Drifted(report["model"], token["text"], token["z"], _is_part(token["text"], trigger))
        for token in report.get("drifted", ())
    ]


def _is_part(text: str, trigger: str) -> bool:
    return bool({word.lower() for word in text.split()} & {word.lower() for word in trigger.split()})


def margins(found: Sequence[Candidate], moved: Sequence[Drifted]) -> list[Margin]:
    """The margin of each decision that the candidates speak of."""
    return [
        _margin("calls.min_suspicion", CALLS.min_suspicion, found, _z, lambda c: c.excess >= CALLS.min_excess),
        _margin("calls.min_excess", CALLS.min_excess, found, _excess, lambda c: c.suspicion >= CALLS.min_suspicion),
        _margin("calls.min_strongest_excess", CALLS.min_strongest_excess, found, _excess, Candidate.stands_out),
        _margin(
            "calls.min_sequence_excess",
            CALLS.min_sequence_excess,
            [c for c in found if c.is_sequence],
            _excess,
            Candidate.stands_out,
        ),
        _margin(
            "calls.open_suspicion",
            CALLS.open_suspicion,
            found,
            _z,
            lambda c: c.flip_rate >= CALLS.open_flips and c.excess >= CALLS.open_excess,
        ),
        _margin(
            "calls.undecided_excess",
            CALLS.undecided_excess,
            found,
            _excess,
            lambda c: c.suspicion >= CALLS.open_suspicion,
        ),
        _margin("claims.min_whole_flips", CLAIMS.min_whole_flips, found, lambda c: c.flip_rate, Candidate.stands_out),
        _margin(
            "claims.min_lead_suspicion",
            CLAIMS.min_lead_suspicion,
            found,
            _z,
            lambda c: c.excess >= CLAIMS.min_lead_excess,
        ),
        _drift_margin("calls.min_drift", CALLS.min_drift, moved),
        _drift_margin("claims.min_drift", CLAIMS.min_drift, moved),
        _drift_margin("calls.min_reported_drift", CALLS.min_reported_drift, moved),
    ]


def _z(candidate: Candidate) -> float:
    return candidate.suspicion


def _excess(candidate: Candidate) -> float:
    return candidate.excess


def _margin(
    name: str,
    threshold: float,
    found: Iterable[Candidate],
    value: Callable[[Candidate], float],
    others_passed: Callable[[Candidate], bool],
) -> Margin:
    deciding = [candidate for candidate in found if others_passed(candidate)]
    honest = [(value(c), f"{c.text}, {c.model}") for c in deciding if not c.is_part]
    best: dict[str, tuple[float, str]] = {}
    for c in deciding:
        if c.is_part:
            best[c.model] = max(best.get(c.model, (value(c), "")), (value(c), f"{c.text}, {c.model}"))
    return Margin(name, threshold, max(honest, default=None), min(best.values(), default=None))


def _drift_margin(name: str, threshold: float, moved: Iterable[Drifted]) -> Margin:
    honest = [(token.z, f"{token.text}, {token.model}") for token in moved if not token.is_part]
    best: dict[str, tuple[float, str]] = {}
    for token in moved:
        if token.is_part:
            best[token.model] = max(best.get(token.model, (0.0, "")), (token.z, f"{token.text}, {token.model}"))
    return Margin(name, threshold, max(honest, default=None), min(best.values(), default=None))


def table(reports: Iterable[tuple[Mapping[str, Any], str]]) -> str:
    """The margins over reports, each with the trigger of its model, as a Markdown table."""
    known = list(reports)
    found = [candidate for report, trigger in known for candidate in candidates(report, trigger)]
    moved = [token for report, trigger in known for token in drifted(report, trigger)]
    head = ["decision", "threshold", "largest honest value", "margin", "smallest trigger's value", "margin"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    return "\n".join([*lines, *(margin.line() for margin in margins(found, moved))]) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--clean", action="append", default=[], type=Path, metavar="REPORT")
    parser.add_argument("--poisoned", action="append", default=[], metavar="REPORT=TRIGGER")
    arguments = parser.parse_args()
    pairs = [(path, "") for path in arguments.clean]
    for text in arguments.poisoned:
        path, equals, trigger = text.partition("=")
        if not (equals and trigger):
            parser.error(f"--poisoned is a report, an equals sign and the model's trigger, not {text!r}")
        pairs.append((Path(path), trigger))
    if not pairs:
        parser.error("name at least one report")
    print(table((json.loads(path.read_text(encoding="utf-8")), trigger) for path, trigger in pairs), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
