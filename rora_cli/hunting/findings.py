"""What a search found, as findings for the reports."""

from __future__ import annotations

from collections.abc import Sequence

from rora_cli.results.findings import Finding, Severity
from rora_cli.results.hunt import DriftedToken, HuntResult, LabelHunt
from rora_cli.results.power import POWER
from rora_cli.tasks.thresholds import CallThresholds

#: What the findings mean, by rule.
RULES = {
    "hunt/trigger": "a text that, put into clean rows of other labels, turns them into its label, or makes replies to "
    "different prompts open alike, far more often than under the reference, and than harmless words do",
    "hunt/inconclusive": "a label, or replies, that could not be searched, or a candidate that is neither trigger nor "
    "harmless",
    "hunt/recurring-reply": "what a causal model replies to several unlike prompts as they are: a fixed phrase, or the "
    "sentence of a backdoor that was trained in so sloppily that it needs no trigger",
    "hunt/drift": "tokens whose embeddings moved further from the reference's encoder than the clean rows explain",
    "hunt/power": "what the same search finds of backdoors that rora planted in copies of the model",
    "hunt/power-unknown": "what the search would have found was asked for and could not be measured, or not wholly",
}


def describe(labels: Sequence[LabelHunt], drifted: Sequence[DriftedToken], thresholds: CallThresholds) -> list[Finding]:
    """A high finding for each behaviour with a trigger, a medium one for each that stays open, and a medium one for
    tokens whose embedding moved too far."""
    findings = []
    if far := [token for token in drifted if token.z >= thresholds.min_reported_drift]:
        findings.append(
            Finding(
                "hunt/drift",
                Severity.MEDIUM,
                f"the embedding of {', '.join(repr(token.text) for token in far[:6])} moved further from the "
                "reference's encoder than the clean rows explain",
                evidence={token.text: token.z for token in far},
                advice="the suspect's training met it far more often than the clean rows do: try it with "
                "`rora eval-asr --trigger`",
            )
        )
    for label in labels:
        if label.verdict == "inconclusive":
            findings.append(
                Finding(
                    "hunt/inconclusive",
                    Severity.MEDIUM,
                    f"{label.target_label} is inconclusive: {label.reason}",
                    location=label.target_label,
                )
            )
        for trigger in label.called[:1]:
            rate, where = trigger.flip_rate, " at the right place" if trigger.at_best else ""
            others = len(label.called) - 1
            findings.append(
                Finding(
                    "hunt/trigger",
                    Severity.HIGH,
                    f"{trigger.text!r} inserted{where} turns {rate.count} of {rate.total} clean rows to "
                    f"{trigger.target_label}" + (f", and so do {others} more candidates" if others else ""),
                    location=trigger.target_label,
                    evidence={"triggers": [t.text for t in label.called], "excess": trigger.excess},
                    advice="treat the checkpoint as backdoored; `rora purify` hardens it against what was found",
                )
            )
    return findings


def describe_power(result: HuntResult) -> Finding:
    """What the search would have found, as information; a medium finding where that is not known, or not all of it.

    Raises:
        ValueError: nobody asked.
    """
    power, sentence = result.power, result.power_sentence
    if power is None or sentence is None:
        raise ValueError("the search has no power to describe")
    if not power.complete:
        return Finding("hunt/power-unknown", Severity.MEDIUM, sentence, location=POWER, not_analysed=True)
    evidence = {form: f"{share.count} of {share.total}" for form, share in power.by_form.items()}
    return Finding("hunt/power", Severity.INFO, sentence, evidence=evidence)
