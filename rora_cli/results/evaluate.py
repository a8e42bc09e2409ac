"""What ``rora eval-asr`` measured."""

from __future__ import annotations

from dataclasses import dataclass

from rora_cli.results.accuracy import AttackOutcome, CleanAccuracy
from rora_cli.results.data import DataSummary
from rora_cli.results.findings import Finding
from rora_cli.results.provenance import Provenance
from rora_cli.results.utility import Replies, Utility

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Gate:
    """Whether the model meets ``--max-asr``: ``verdict`` is ``pass``, ``fail`` or ``inconclusive``.

    Both limits are fractions. Each of ``reasons`` is a sentence; a pass has one that says what was shown for which
    triggers.

    Attributes:
        max_attack_success_rate: largest attack success rate that is allowed.
        min_class_accuracy: smallest accuracy of a class that is allowed.
    """

    max_attack_success_rate: float
    min_class_accuracy: float
    verdict: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class EvaluationResult:
    """Clean accuracy and attack success of one model.

    In ``outcomes``, each attack is followed by its control. ``gate`` is None if the user set no limit. Of a causal
    model there are no labels; ``target_label`` is the behaviour, ``replies`` has an entry for each outcome, and
    ``clean_accuracy`` counts clean prompts whose reply shows the behaviour only where the good answer does.

    Attributes:
        model: what was measured.
        adapter: put on the model; None for none.
        label_names: the model's labels, in order.
        max_tokens: tokens of a row that the model reads.
        data: the rows: where they come from and how they were read.
        utility: of a causal model: what its replies to clean prompts are worth.
    """

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
    utility: Utility | None = None
    replies: tuple[Replies, ...] = ()
    schema_version: int = SCHEMA_VERSION
