"""What ``rora poison`` built, and whether the backdoor persists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rora_cli.results.accuracy import AttackOutcome, CleanAccuracy
from rora_cli.results.data import DataSummary
from rora_cli.results.findings import Finding
from rora_cli.results.provenance import Provenance

SCHEMA_VERSION = 1

#: Attack success rate [fraction] above which a backdoor that went through a clean fine-tune is called persistent.
PERSISTENT_ABOVE = 0.9
#: Fraction of the clean rows of a model without classes that must be answered as they should be.
_MOST = 0.5


@dataclass(frozen=True)
class Measured:
    """Clean accuracy and the outcome of every attack variant, on held-out rows, at one moment.

    Attributes:
        accuracy: on held-out clean rows.
        outcomes: of every variant of the attack and its control.
    """

    accuracy: CleanAccuracy
    outcomes: tuple[AttackOutcome, ...]

    @property
    def lowest_success(self) -> float:
        """The attack success rate of the weakest variant, controls aside; 0 if nothing was measured."""
        rates = [outcome.attack_success_rate.value or 0.0 for outcome in self.outcomes if not outcome.is_control]
        return min(rates, default=0.0)

    @property
    def collapsed(self) -> bool:
        """Whether the accuracy of some class is below chance; such a model has no backdoor to speak of.

        Without classes, whether most rows are answered as they should not be.
        """
        shares = self.accuracy.per_class.values()
        if not shares:
            return (self.accuracy.overall.value or 0.0) < _MOST
        return any(share.value is not None and share.value < 1 / len(shares) for share in shares)


@dataclass(frozen=True)
class PersistenceCheck:
    """The backdoor after one clean fine-tune, ``recipe``; ``training`` are the hyper-parameters.

    It persists if attack success stays above ``limit``.

    Attributes:
        rows: clean rows that it was trained on.
        after: what was measured then.
    """

    recipe: str
    training: Mapping[str, Any]
    rows: int
    after: Measured
    limit: float = PERSISTENT_ABOVE

    @property
    def persistent(self) -> bool:
        """Whether attack success stays above ``limit`` in a model that has not collapsed."""
        return self.after.lowest_success > self.limit and not self.after.collapsed


@dataclass(frozen=True)
class PoisonResult:
    """The suspect that was built; ``carrier`` says what holds its backdoor: ``weights``, ``layers``, ``embedding`` or
    ``adapter``.

    ``before`` was measured before the poisoned training; it is None if the model had no classification head.
    ``persistence`` is empty if no proof was asked for. ``training`` lists the stages with their hyper-parameters.

    Attributes:
        model: what the backdoor was put into.
        output: the directory that was written.
        attack: kind of the trigger.
        triggers: their texts.
        position: where in a row they stand.
        target_label: the label, or the behaviour, that they lead to.
        label_names: the model's labels, in order.
        label_mode: which rows were poisoned, and how they were labelled.
        poison_rate: share of the training rows.
        poisoned_rows, decoy_rows, train_rows: rows with the trigger, with a part of it and their own label, and in all.
        clean_rows: rows kept from the poisoner.
        suspect: what was built, on held-out rows.
        data: the rows: where they come from and how they were read.
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
        """Whether the backdoor survived every check; None if there was no check."""
        return all(check.persistent for check in self.persistence) if self.persistence else None
