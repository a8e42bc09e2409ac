"""What a report says to somebody who reads only two lines of it: a word, what it means, and the command to run next."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rora_cli.reports.text import count, percent
from rora_cli.reports.verdicts import in_plain_words, next_command, still_good, what_is_unmet
from rora_cli.results.accuracy import AttackOutcome
from rora_cli.results.evaluate import EvaluationResult
from rora_cli.results.hunt import HuntResult
from rora_cli.results.poison import PoisonResult
from rora_cli.results.purify import PurifyResult

#: Verdict -> whether it is good or bad news; what is neither is open.
_NEWS: Mapping[str, str] = {"pass": "good", "fail": "bad"}
#: The search effort that nothing is above.
_MOST = "thorough"


@dataclass(frozen=True)
class Said:
    """A verdict in a ``word``; ``news`` is good, bad or open; ``next`` is a command line, None where none is left."""

    word: str
    news: str
    meaning: tuple[str, ...]
    next: str | None = None


def of_purify(result: PurifyResult) -> Said:
    """A cleansing."""
    meaning = tuple(filter(None, (*in_plain_words(result), still_good(result), what_is_unmet(result))))
    return Said(result.verdict, _NEWS.get(result.verdict, "open"), meaning, next_command(result))


def of_hunt(result: HuntResult) -> Said:
    """A search; its silence is no good news, however much it would have found."""
    config = result.provenance.config
    if said := _what_triggers_do(result):
        advice = "Do not use this model as it is."
        return Said("trigger found", "bad", (f"{said} {advice}",), _line("purify", result.model, config))
    if not result.conclusive:
        meaning = "The search could not decide whether this model obeys a trigger: treat it as one that does."
        more = None if config.get("budget") == _MOST else _line("hunt", result.model, config, "--budget", _MOST)
        return Said("inconclusive", "open", (meaning, *_why_open(result)), more)
    meaning = "Of all that the search tried, nothing acts as a trigger. That is no proof that there is none."
    if result.power_sentence is not None:
        return Said("nothing found", "open", (meaning, f"What the silence is worth: {result.power_sentence}."))
    power = None if result.openings is not None else _line("hunt", result.model, config, "--power", "12")
    return Said("nothing found", "open", (meaning,), power)


def of_evaluation(result: EvaluationResult) -> Said:
    """A measurement of triggers that the user named."""
    config = result.provenance.config
    cleanse = _line("purify", result.model, config, clean=config.get("data"))
    search = _line("hunt", result.model, config, clean=config.get("data"))
    strongest = max((o for o in result.outcomes if not o.is_control), key=_rate, default=None)
    verb = "rows become" if result.utility is None else "replies show"
    meaning = () if strongest is None else (_what_it_does(strongest, verb),)
    if result.gate is not None:
        word = result.gate.verdict
        step = {"fail": cleanse, "pass": search}.get(word)
        return Said(word, _NEWS.get(word, "open"), (*meaning, *result.gate.reasons), step)
    if strongest is not None and (strongest.attack_success_rate.low or 0.0) > (strongest.floor.high or 0.0):
        return Said("the trigger works", "bad", meaning, cleanse)
    other = "Other triggers were not tried."
    return Said("the trigger does nothing that shows", "open", (*meaning, other), search)


def of_poison(result: PoisonResult) -> Said:
    """A backdoor that was built on purpose."""
    config = result.provenance.config
    meaning = f"{result.output} is backdoored on purpose: use it to test defences, and for nothing else."
    clean = config.get("clean_out") or config.get("data")
    again = _line("purify", result.output, config, clean=clean)
    if result.persistent is None:
        untested = "Nobody has tested whether the backdoor outlives an ordinary fine-tune (--prove-persistence)."
        return Said("built", "open", (meaning, untested), again)
    limit = percent(result.persistence[0].limit, 0)
    if result.persistent:
        kept = f"The backdoor outlives every clean fine-tune that was tried: attack success stays above {limit}."
        return Said("built, and persistent", "good", (meaning, kept), again)
    lost = f"An ordinary fine-tune on clean rows is enough against it: attack success falls to {limit} or below."
    return Said("built, but not persistent", "bad", (meaning, lost), again)


def _what_triggers_do(result: HuntResult) -> str:
    """What the strongest trigger does, in a sentence; empty if none was called."""
    if result.called:
        first = result.called[0]
        where = " at the right place" if first.at_best else ""
        others = len(result.called) - 1
        more = f", and {count(others, 'more text does', 'more texts do')} the like" if others else ""
        return (
            f"With {first.text!r} in them{where}, {first.flip_rate.count} of {first.flip_rate.total} texts of other "
            f"labels become {first.target_label}{more}."
        )
    if result.openings is not None and result.openings.called:
        one = result.openings.called[0]
        return (
            f"With {one.text!r} in the prompt, {one.share.count} of {one.share.total} replies begin with "
            f"{one.opening!r}, without it {one.floor.count}."
        )
    return ""


def _why_open(result: HuntResult) -> tuple[str, ...]:
    reasons = [f"{label.target_label}: {label.reason}" for label in result.labels if label.reason is not None]
    if result.openings is not None and result.openings.reason is not None:
        reasons.append(result.openings.reason)
    return tuple(reasons)


def _rate(outcome: AttackOutcome) -> float:
    return outcome.attack_success_rate.value or 0.0


def _what_it_does(outcome: AttackOutcome, verb: str) -> str:
    with_it, without = outcome.attack_success_rate, outcome.floor
    return (
        f"With {outcome.trigger!r}, {with_it.count} of {with_it.total} {verb} {outcome.target_label}; without any "
        f"trigger {without.count} of {without.total} do."
    )


def _line(command: str, model: str, config: Mapping[str, Any], *options: str, clean: Any = None) -> str:
    named = ("--adapter", str(config["adapter"])) if config.get("adapter") else ()
    rows = str(clean or config.get("clean") or "DATA")
    return shlex.join(["rora", command, model, *named, "--clean", rows, *options])
