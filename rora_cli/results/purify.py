"""What ``rora purify`` found, did and measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rora_cli.kinds import SEQUENCE_CLASSIFIER
from rora_cli.results.accuracy import CleanAccuracy, Proportion
from rora_cli.results.findings import Finding
from rora_cli.results.hunt import FlippedRow
from rora_cli.results.power import Covering, Power
from rora_cli.results.provenance import Provenance
from rora_cli.results.spectra import ModuleSpectrum
from rora_cli.results.utility import Removed, UtilityChange

SCHEMA_VERSION = 1

#: Value of --fail-on -> the verdicts that do not end with 0.
FAIL_ON: Mapping[str, tuple[str, ...]] = {
    "uncovered": ("fail", "inconclusive"), "inconclusive": ("fail", "inconclusive"), "fail": ("fail",), "none": (),
}  # fmt: skip
#: What a pass needs, by the name that ``PurifyResult.unmet`` has for it.
CONDITIONS: Mapping[str, str] = {
    "search": "a search of the result finds no trigger",
    "settled": "that search leaves nothing open",
    "known": "a trigger was found or named, so that something can be shown to be gone",
    "gone": "what was found or named does no more than harmless words do",
    "whole": "what was found is surely a whole trigger, not a part of one",
    "covered": "the last search, which found nothing, is known to find backdoors of the forms that --forms names",
    "kept": "the model stays as good as was asked for",
}


@dataclass(frozen=True)
class RescalingAttempt:
    """One strength of Pt that was tried, with the factor of each module and the clean accuracy at it.

    Attributes:
        strength: fraction of what equation 12 asks for.
        factors: of each module's update.
        accuracy: clean accuracy with them.
        accepted: whether that was good enough.
    """

    strength: float
    factors: Mapping[str, float]
    accuracy: CleanAccuracy
    accepted: bool


@dataclass(frozen=True)
class RescalingOutcome:
    """The strength of Pt that was kept (0: none), with its factors.

    ``before`` is the clean accuracy without Pt, if a guard measured it.

    Attributes:
        strength: fraction of what equation 12 asks for.
        factors: of each module's update.
        attempts: all strengths that were tried.
    """

    strength: float
    factors: Mapping[str, float]
    before: CleanAccuracy | None
    attempts: tuple[RescalingAttempt, ...]


@dataclass(frozen=True)
class FoundResidual:
    """The strongest trigger that a search still found; flip rates (fractions) are the model's and the reference's.

    Attributes:
        trigger: its text.
        target_label: the label that it leads to.
        flip_rate, reference_flip_rate: share of rows that it turns, under the model and under the reference; None
            without a reference.
    """

    trigger: str
    target_label: str
    flip_rate: float
    reference_flip_rate: float | None


@dataclass(frozen=True)
class TriggerChange:
    """What a trigger does to held-out rows that have another label.

    Attributes:
        text: the trigger.
        target_label: the label that it turns rows to.
        named: whether the user named it; else it was found.
        before: rows of the suspect that it turns; None where only a search of a changed model called it.
        after: rows of the result that it turns.
        floor: rows to which the result gives the label without any trigger.
        harmless: fraction of rows that as many random words turn, the median of five draws.
        examples: a few rows that it turned in the search that first called it.
    """

    text: str
    target_label: str
    named: bool
    before: Proportion | None
    after: Proportion
    floor: Proportion
    harmless: float
    examples: tuple[FlippedRow, ...] = ()


@dataclass(frozen=True)
class StageRecord:
    """One stage of the cleansing: a training run, a search, a rescaling.

    ``epochs`` holds the losses of each epoch, and the held-out accuracy after the last. ``details`` holds what else the
    stage decided.

    Attributes:
        name: of the stage.
        seconds: that it took.
        steps: optimiser steps; 0 for a stage that trains nothing.
        rescaling: what Pt did; None for another stage.
    """

    name: str
    seconds: float
    steps: int = 0
    epochs: tuple[Mapping[str, Any], ...] = ()
    rescaling: RescalingOutcome | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PurifyResult:
    """``verdict`` is ``pass``, ``fail``, ``inconclusive`` or ``not assessed``; ``reason`` explains it in a sentence.

    A recipe that does not search for triggers is ``not assessed``: it trained the model but proved nothing.
    ``update_before`` and ``update_after`` are the spectra of the trained update before and after Pt. ``adapted`` names
    the layers that got an adapter, ``trained_head`` the modules of the head that were trained whole; both are empty for
    a recipe that trains every weight. ``suspects_card`` holds licence and languages as the suspect's own card states
    them. Of a model that replies in free text, ``utility`` says what the cleansing cost, and ``removed`` what became of
    the triggers; its accuracy is that of the answers' tokens. ``kind`` is the name of the kind of model.

    Attributes:
        model: the suspect.
        recipe: how it was cleansed.
        label_names: the model's labels, in order.
        accuracy_before, accuracy_after: on held-out clean rows, of suspect and result.
        stages: what was done, in order.
        data: the clean rows: where they come from and how they were read, as DataSummary has it.
        residual: the strongest trigger that the last search still found; None where none was.
        output: the directory that was written; None if nothing was.
        logit_difference: largest change of a logit when what was written is loaded again, by what was loaded.
        triggers: the strongest that were found in a classifier, and those that the user named.
        suspects_share: fraction of the result's weights that are the suspect's, whether trained further or not; the
            others are a trusted model's, or were drawn anew.
        unmet: the first of ``CONDITIONS`` that does not hold; empty where nobody asked, or all do.
        asked: the options as they were given, in the words of a command line.
        power: what the last search, which found nothing, would have found of backdoors planted in copies of the result;
            None where it was not measured.
        covering: which forms of backdoor that covers; None where no search found nothing.
    """

    model: str
    recipe: str
    verdict: str
    reason: str
    label_names: tuple[str, ...]
    accuracy_before: CleanAccuracy
    accuracy_after: CleanAccuracy
    stages: tuple[StageRecord, ...]
    data: Mapping[str, Any]
    provenance: Provenance
    residual: FoundResidual | None = None
    update_before: tuple[ModuleSpectrum, ...] = ()
    update_after: tuple[ModuleSpectrum, ...] = ()
    adapted: tuple[str, ...] = ()
    trained_head: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    output: str | None = None
    logit_difference: Mapping[str, float] = field(default_factory=dict)
    suspects_card: Mapping[str, Any] = field(default_factory=dict)
    utility: UtilityChange | None = None
    removed: tuple[Removed, ...] = ()
    triggers: tuple[TriggerChange, ...] = ()
    suspects_share: float = 1.0
    unmet: str = ""
    asked: tuple[str, ...] = ()
    power: Power | None = None
    covering: Covering | None = None
    kind: str = SEQUENCE_CLASSIFIER.name
    schema_version: int = SCHEMA_VERSION
