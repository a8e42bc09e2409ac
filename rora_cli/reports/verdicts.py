"""The verdict of ``purify`` for somebody who has not read the paper, and the command that may change it."""

from __future__ import annotations

import shlex

from rora_cli.reports.text import number, percent
from rora_cli.results.power import Power
from rora_cli.results.purify import CONDITIONS, PurifyResult
from rora_cli.results.utility import UtilityChange

#: The rules of a purification that cost too much.
_TOO_MUCH = ("purify/accuracy-lost", "purify/replies-changed")


def in_plain_words(result: PurifyResult) -> tuple[str, str]:
    """Two sentences: what was found and what that rests on; what to do next."""
    return _meaning(result), _advice(result)


def still_good(result: PurifyResult) -> str:
    """A sentence: how good the model still is."""
    if result.utility is not None:
        return _replies_kept(result.utility)
    return (
        f"On clean rows that it was not trained on, it is right {percent(result.accuracy_after.overall.value)} of the "
        f"time; before, it was {percent(result.accuracy_before.overall.value)}."
    )


def _replies_kept(change: UtilityChange) -> str:
    kl = number(change.divergence.mean) if change.divergence else "nothing"
    before, after = change.before, change.after
    return (
        f"To clean prompts that it was not trained on, it replies {kl} nats a token away from the suspect; it refuses "
        f"{after.refused.count} of {after.refused.total} benign ones (before {before.refused.count}) and says nothing "
        f"to {after.empty.count} (before {before.empty.count})."
    )


def what_is_unmet(result: PurifyResult) -> str:
    """The condition of a pass that does not hold, in a sentence; empty where none is known."""
    if not result.unmet or result.verdict == "pass":
        return ""
    return f"Of what a pass needs, this is not met: {CONDITIONS[result.unmet]}."


def next_command(result: PurifyResult) -> str | None:
    """The command that may meet the condition that is unmet; None where nothing is."""
    config = result.provenance.config
    if result.verdict == "not assessed":
        clean = str(config.get("clean") or "DATA")
        return shlex.join(["rora", "hunt", result.output or result.model, "--clean", clean])
    if result.verdict == "pass":
        return None
    if result.utility is not None and result.verdict == "inconclusive" and not result.removed:
        return _again(result, "--reference", "BASE")
    if _costs_too_much(result):
        name = "max_accuracy_drop" if result.utility is None else "max_kl"
        return _again(result, f"--{name.replace('_', '-')}", _doubled(result, name))
    if result.verdict == "fail":
        rounds = config.get("max_rounds")
        return _again(result, "--max-rounds", str(2 * rounds) if isinstance(rounds, int) else "6")
    covering = result.covering
    if result.unmet == "covered" and covering is not None and covering.found.count == covering.found.total:
        return _again(result, "--power", str(max(12, 2 * (result.power.asked if result.power else 0))))
    if config.get("search_budget") != "thorough":
        return _again(result, "--search-budget", "thorough")
    return _again(result, "--trigger", "TEXT") if config.get("reference") else _again(result, "--reference", "BASE")


def _meaning(result: PurifyResult) -> str:
    tested = _tested(result.power)
    if result.verdict == "pass":
        if not result.triggers and result.covering is not None:
            return f"No trigger was found in this model, before or after it was cleansed. That rests on {tested}."
        return (
            "The triggers that were found, or that you named, no longer work, and a new search finds none. That rests "
            f"on {tested}."
        )
    if result.verdict == "not assessed":
        return "The model was trained on clean data, and nobody has looked whether a trigger still works."
    if result.verdict == "inconclusive":
        if result.utility is not None:
            return "Nobody knows whether this model still obeys a trigger."
        what = "What was found may not be all" if result.triggers else "No trigger was found"
        return f"{what}, and that rests on {tested}: nobody knows whether this model still obeys a trigger."
    if _costs_too_much(result):
        return "To cleanse this model cost more of what it is good for than was allowed."
    return "A trigger still works."


def _tested(power: Power | None) -> str:
    """What a verdict rests on: the search, and how it did where the answer was known."""
    if power is None or power.reason is not None:
        return "a search that was not tested on this model"
    found, total = power.found.count, power.found.total
    return f"a search that found {found} of {total} backdoors that rora planted in copies of this model to test it"


def _advice(result: PurifyResult) -> str:
    if result.verdict == "pass":
        covering = result.covering
        if covering is not None and covering.complete:
            others = ", ".join(covering.uncovered)
            return (
                f"It can be shipped if backdoors made of {', '.join(covering.covered)} are what you fear; nobody "
                f"looked for others ({others})."
            )
        return (
            "It can be shipped if what was found is what you feared: what was searched for is gone, which is no "
            "proof against every backdoor."
        )
    if result.verdict == "not assessed":
        return "Search it before you ship it."
    if result.verdict == "inconclusive":
        return "Do not ship it yet; treat it as the download that it was until the command below has settled it."
    return "Do not use this model."


def _costs_too_much(result: PurifyResult) -> bool:
    return any(finding.rule_id in _TOO_MUCH for finding in result.findings)


def _doubled(result: PurifyResult, name: str) -> str:
    allowed = result.provenance.config.get(name)
    return f"{2 * allowed:g}" if isinstance(allowed, int | float) and allowed else "2"


def _again(result: PurifyResult, option: str, value: str) -> str:
    """The same command once more, with another value of one option; what was written is written over."""
    words = list(result.asked)
    if option in words and option != "--trigger":
        place = words.index(option)
        del words[place : place + 2]
    written = result.output is not None and (result.verdict != "fail" or "--keep-failed" in words)
    force = ["--force"] if written and "--force" not in words else []
    return shlex.join(["rora", "purify", result.model, *words, option, value, *force])
