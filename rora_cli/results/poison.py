"""What ``rora poison`` built, and how firmly the backdoor sits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rora_cli.results.accuracy import AttackOutcome, CleanAccuracy
from rora_cli.results.data import DataSummary
from rora_cli.results.findings import Finding
from rora_cli.results.provenance import Provenance

SCHEMA_VERSION = 1

#: A backdoor is called persistent where attack success stays above this after each clean fine-tune.
PERSISTENT_ABOVE = 0.9


@dataclass(frozen=True)
class Measured:
    """Clean accuracy and every attack variant, on held-out rows, at one moment."""

    accuracy: CleanAccuracy
    outcomes: tuple[AttackOutcome, ...]

    @property
    def lowest_success(self) -> float:
        """The attack success rate of the weakest variant (controls aside); 0 where nothing was measured."""
        rates = [outcome.attack_success_rate.value or 0.0 for outcome in self.outcomes if not outcome.is_control]
        return min(rates, default=0.0)

    @property
    def collapsed(self) -> bool:
        """Whether some class is recognised less often than by chance: such a model has no backdoor to speak of."""
        shares = self.accuracy.per_class.values()
        return any(share.value is not None and share.value < 1 / len(shares) for share in shares)


@dataclass(frozen=True)
class PersistenceCheck:
    """What is left after one clean fine-tune: ``recipe`` is ``lora`` or ``full``, ``training`` its hyper-parameters."""

    recipe: str
    training: Mapping[str, Any]
    rows: int
    after: Measured

    @property
    def persistent(self) -> bool:
        return self.after.lowest_success > PERSISTENT_ABOVE and not self.after.collapsed


@dataclass(frozen=True)
class PoisonResult:
    """``carrier`` says what holds the backdoor: ``weights``, ``layers``, ``embedding`` or ``adapter``.

    ``before`` was measured before any poisoned training, and is None for a model that had no classification head.
    ``persistence`` is empty where no proof was asked for; ``training`` lists the stages with their hyper-parameters.
    """

    model: str
    output: str
    attack: str
    triggers: tuple[str, ...]
    position: str
    target_label: str
    label_names: tuple[str, ...]
    label_mode: str
    poison_rate: float
    carrier: str
    poisoned_rows: int
    decoy_rows: int
    train_rows: int
    clean_rows: int
    training: tuple[Mapping[str, Any], ...]
    before: Measured | None
    suspect: Measured
    persistence: tuple[PersistenceCheck, ...]
    data: DataSummary
    findings: tuple[Finding, ...]
    provenance: Provenance
    schema_version: int = SCHEMA_VERSION

    @property
    def persistent(self) -> bool | None:
        """True where every check kept the backdoor; None where there was none."""
        return all(check.persistent for check in self.persistence) if self.persistence else None
