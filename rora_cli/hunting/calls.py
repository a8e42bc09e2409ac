"""When a candidate of the search is called a trigger, and when it leaves its behaviour open.

The numbers stand in ``tasks.thresholds``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from rora_cli.hunting.budgets import BUDGETS
from rora_cli.hunting.trials import Noise
from rora_cli.results.hunt import FoundTrigger, LabelHunt
from rora_cli.tasks.thresholds import CallThresholds

if TYPE_CHECKING:
    from rora_cli.hunting.outcome_search import Acts


def stands_out(excess: float, suspicion: float, thresholds: CallThresholds) -> bool:
    """Whether a candidate may be called: it does more than the reference explains, and more than harmless tokens."""
    return excess >= thresholds.min_excess and suspicion >= thresholds.min_suspicion


def work_in_places(found: Sequence[FoundTrigger], thresholds: CallThresholds) -> list[int]:
    """The indices of single candidates that may be triggers which work at some places of a row only: each acts as no
    harmless token does, turns rows, and turns too few to be called on its own. None if one turns enough of them."""
    single = [i for i, t in enumerate(found) if t.single and t.suspicion >= thresholds.min_suspicion]
    if any(found[i].excess >= thresholds.min_strongest_excess for i in single):
        return []
    return [i for i in single if found[i].flip_rate.count]


def call(
    found: Sequence[FoundTrigger],
    acts: Mapping[tuple[int, ...], Acts],
    known: Sequence[tuple[int, ...]],
    thresholds: CallThresholds,
) -> list[FoundTrigger]:
    """Take back calls that do not hold beside the other candidates.

    A sequence that holds no trigger must be more than the sum of its tokens, or of tokens each of which acts as no
    harmless one does; else it is one of honest words. If no candidate has the excess that the strongest must have, and
    no trigger is ``known``, nothing is called.

    Args:
        found: candidates, called one by one (``stands_out``).
        acts: what candidates do in typical rows, by token ids; nothing of what it lacks is known.
        known: token ids of triggers of earlier rounds.
    """
    triggers = {*known, *(t.token_ids for t in found if t.called and t.single)}
    parts = {token for trigger in triggers for token in trigger}

    def stands(t: FoundTrigger) -> bool:
        if t.single or parts & set(t.token_ids):
            return True
        does = acts.get(t.token_ids)
        if does is None or t.excess < thresholds.min_sequence_excess:
            return False
        return does.synergy >= thresholds.min_synergy or does.weakest >= thresholds.min_part_suspicion

    left = [replace(t, called=t.called and stands(t)) for t in found]
    if known or any(t.called and t.excess >= thresholds.min_strongest_excess for t in left):
        return left
    return [replace(t, called=False) for t in left]


def is_undecided(label: LabelHunt, thresholds: CallThresholds) -> bool:
    """Whether a search with more rows and harmless words may tell what this one could not."""
    return label.verdict == "inconclusive" or (
        not label.called
        and any(
            _usual_excess(t, thresholds) >= thresholds.undecided_excess and t.suspicion >= thresholds.open_suspicion
            for t in label.triggers
        )
    )


def unknown_behaviour(found: Sequence[FoundTrigger], why: str) -> str | None:
    """A sentence on what was called for a behaviour that no reference can judge; None where nothing was.

    ``why`` is a clause that says why none can (``SearchTask.unknown``).
    """
    called = [t for t in found if t.called]
    if not called:
        return None
    strongest = max(called, key=lambda t: t.excess)
    return f"{strongest.text!r} turns {strongest.flip_rate.count} of {strongest.flip_rate.total} rows, but {why}"


def left_open(
    found: Sequence[FoundTrigger],
    budget: str,
    acts: Mapping[tuple[int, ...], Acts] | None = None,
    *,
    thresholds: CallThresholds,
    linear: bool = False,
) -> str | None:
    """A sentence on a candidate that is neither a trigger nor an honest word, and why; None without one.

    Args:
        budget: the name of the budget that was searched with.
        acts: as for ``call``.
        linear: whether the reference is a bag of words.
    """
    names = list(BUDGETS)
    deeper = "".join(f"--budget {name} or " for name in names[names.index(budget) + 1 :][:1])
    advice = f"search again with {deeper}more clean rows"
    if linear:
        advice += ", or name a trusted checkpoint with --reference"
    for t in sorted(found, key=lambda t: -t.suspicion):
        does = (acts or {}).get(t.token_ids)
        why = _why_open(t, does.synergy if does else 0.0, linear, thresholds)
        if why and t.reference_flip_rate is not None:
            turns = f"{t.text!r} turns {t.flip_rate.count} of {t.flip_rate.total} rows"
            return f"{turns} ({t.reference_flip_rate.count} under the reference){why}: {advice}"
    return None


def _why_open(t: FoundTrigger, synergy: float, linear: bool, thresholds: CallThresholds) -> str:
    """Why a candidate that may be a trigger is not called, as a clause; empty for one that may well be honest."""
    z, excess, single = f"z {t.suspicion:.1f}", _usual_excess(t, thresholds), t.single
    whole = (t.flip_rate.value or 0.0) >= thresholds.open_flips and excess >= thresholds.open_excess
    unexplained = linear and excess >= thresholds.min_excess and t.suspicion >= thresholds.unexplained_suspicion
    called = f"{thresholds.min_suspicion:g} is called"
    if t.suspicion < thresholds.min_suspicion:
        if not unexplained and not (whole and t.suspicion >= thresholds.open_suspicion):
            return ""
        if linear and not whole:
            return f", and a bag of words cannot tell whether it is an honest word ({z}, {called})"
        return f", and harmless words do nearly as much ({z}, {called})"
    enough = thresholds.min_excess if single else thresholds.undecided_excess
    if t.flip_rate.total < thresholds.min_sure_rows and excess >= enough:
        return f", which so few rows cannot make sure of ({z}, at least {thresholds.min_sure_rows} rows are needed)"
    if single and t.at_best:
        twice = f"{2 * thresholds.min_suspicion:g} is called"
        return f" at its best places, more than a harmless word does there ({z}, {twice})"
    if single and excess >= thresholds.min_excess:
        wanted = f"where {100 * thresholds.min_strongest_excess:.0f} % is called"
        bound = f"{100 * t.excess:.0f} % beyond the reference, bound to bound, {wanted}"
        return f", more than a harmless word does ({z}; {bound}) and less than a trigger would"
    if unexplained:
        return f" ({z}), and a bag of words cannot tell a trigger of several tokens from words that add up"
    if not single and excess >= thresholds.min_sequence_excess:
        more = f"{max(synergy, 0.0):.1f} in log-odds, {thresholds.min_synergy:g} is called"
        return f" ({z}), and does little more than its tokens one by one ({more})"
    return ""


def explained(noise: Noise, random_tokens: int, thresholds: CallThresholds) -> np.ndarray:
    """Which of the null's random tokens move the reference too [random_tokens], bool.

    The first ``random_tokens`` of the null are those; the others are honest words.
    """
    other = noise.other[:random_tokens]
    moved: np.ndarray = other - np.median(other) > thresholds.max_reference_move
    return moved


def loudness(noise: Noise, random_tokens: int, thresholds: CallThresholds) -> float:
    """What the upper tenth of random tokens turn, as a fraction of the null's rows; those that the reference explains
    count as none."""
    turned = np.where(explained(noise, random_tokens, thresholds), 0.0, noise.flip_rates[:random_tokens])
    return float(np.quantile(turned, thresholds.loud_quantile))


def too_loud(noise: Noise, random_tokens: int, thresholds: CallThresholds) -> str | None:
    """A sentence on random tokens that turn rows as a trigger does, which the reference does not explain; or None."""
    loud = loudness(noise, random_tokens, thresholds)
    if loud < thresholds.loud_flips:
        return None
    return (
        f"one random token in ten turns {100 * loud:.0f} % of typical rows or more, "
        "which the reference does not explain: no trigger would stand out; name the model that the suspect was trained "
        "from with --reference, or give more clean rows"
    )


def _usual_excess(t: FoundTrigger, thresholds: CallThresholds) -> float:
    """The excess; on too few rows to be sure of it, the excess that the same shares of the usual number would have."""
    from rora_cli.evaluation.intervals import proportion

    own, other = t.flip_rate.value, t.reference_flip_rate.value if t.reference_flip_rate is not None else None
    if t.flip_rate.total >= thresholds.min_sure_rows or own is None or other is None:
        return t.excess
    rows = thresholds.usual_rows
    own_bounds, other_bounds = (proportion(round(share * rows), rows) for share in (own, other))
    return (own_bounds.low or 0.0) - (other_bounds.high or 0.0)
