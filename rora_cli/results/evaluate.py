"""What ``rora eval-asr`` measured."""

from __future__ import annotations

from dataclasses import dataclass

from rora_cli.results.accuracy import AttackOutcome, CleanAccuracy
from rora_cli.results.data import DataSummary
from rora_cli.results.findings import Finding
from rora_cli.results.provenance import Provenance

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Gate:
    """Whether ``--max-asr`` was met: ``verdict`` is ``pass``, ``fail`` or ``inconclusive``, with a sentence a reason.

    Both limits are fractions of 1. A pass has one reason too: what was shown, and for which triggers.
    """

    max_attack_success_rate: float
    min_class_accuracy: float
    verdict: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class EvaluationResult:
    """``outcomes`` hold each attack next to its control; ``gate`` is None where no limit was set."""

    model: str
    adapter: str | None
    label_names: tuple[str, ...]
    target_label: str
    max_tokens: int
    clean_accuracy: CleanAccuracy
    outcomes: tuple[AttackOutcome, ...]
    data: DataSummary
    gate: Gate | None
    findings: tuple[Finding, ...]
    provenance: Provenance
    schema_version: int = SCHEMA_VERSION
