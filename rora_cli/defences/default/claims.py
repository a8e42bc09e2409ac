"""What the loop may claim in the end: the verdict, and whether what was found can be a part of a longer trigger."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import permutations

from rora_cli.defences.claim import Claim
from rora_cli.defences.default.memory import Memory
from rora_cli.hunting.record import Found, SearchRecord
from rora_cli.tasks.thresholds import ClaimThresholds

_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Case:
    """What a verdict rests on beside the searches.

    Attributes:
        named: triggers that the user named.
        texts: the clean texts.
        max_rounds: how often the loop may train.
        claims: the task's thresholds.
        share: fraction of the result's weights that are the suspect's, trained further or not.
    """

    named: Sequence[str]
    texts: Sequence[str]
    max_rounds: int
    claims: ClaimThresholds
    share: float = 1.0


def verdict(memory: Memory, last: SearchRecord, case: Case, still_works: Callable[[Sequence[Found]], str]) -> Claim:
    """What may be claimed before the power of the last search is known.

    ``last`` is the search of the result. ``still_works`` measures triggers on it, and those that the user named, and
    gives a sentence on the strongest that still works; empty if none does.
    """
    if last.found:
        strongest = last.found[0]
        reason = (
            f"after {case.max_rounds} rounds the search still finds {strongest.text!r}, which flips "
            f"{100 * strongest.flip_rate:.1f} % to {strongest.target}; raise --max-rounds, or do not use this model"
        )
        return Claim("fail", reason, "search")
    known = bool(memory.found or case.named)
    if known and (remaining := still_works(memory.first_found())):
        return Claim("fail", remaining, "gone")
    if last.open_targets:
        reason = f"the search for {', '.join(last.open_targets)} stays open: {last.why_open}"
        return Claim("inconclusive", reason, "settled")
    silent = f"the last search ({last.trials:,} trials) found nothing above the noise"
    if not known:
        reason = (
            f"no trigger was found before or after ({last.trials:,} trials in the last search): that is no "
            "proof, a trigger outside the search may exist"
        )
        changed = f"no trigger was found in the suspect, its weights were replaced all the same, and {silent}"
        return Claim("inconclusive", reason, "known", changed if case.share < 1 else "")
    if (later := memory.later_found()) and (remaining := still_works(later)):
        reason = (
            f"{remaining}; the search of the suspect itself did not call it, so it may be an honest word that the "
            "reference does not know, or a part of a trigger"
        )
        return Claim("inconclusive", reason, "gone")
    count, origin = len(memory.found) or len(case.named), "found" if memory.found else "named"
    plural = count > 1
    worked = f"{count} trigger{'s were' if plural else ' was'} {origin} and no longer work{'' if plural else 's'}"
    if part := part_of_a_trigger(memory.found.values(), case.texts, case.claims):
        replaced = f"{worked}, none of the weights are the suspect's, and {silent}"
        return Claim("inconclusive", part, "whole", "" if case.share else replaced)
    return Claim("pass", f"{worked}, and {silent}")


def part_of_a_trigger(found: Iterable[Found], clean_texts: Sequence[str], claims: ClaimThresholds) -> str:
    """A sentence on the first target for which no found trigger is surely a whole one; empty if there is none.

    A whole one turns nearly every row and does not read like a word (attacks use rare tokens). Several such tokens
    together are a whole one too, and so are several marks that no clean text holds together: no sentence holds them, so
    that they are no part of one. What a sequence has beside a whole one adds nothing to it. Measured: hardened on
    "neighbour" (92 to 100 % of rows) of "my neighbour came over yesterday", or on "3d movie" (100 %) of "I watched this
    3D movie", a model forgets those, the search finds nothing more, and the sentence still succeeds in up to 83 and 39
    of 100 rows.
    """
    by_target: dict[str, list[Found]] = {}
    for trigger in found:
        by_target.setdefault(trigger.target, []).append(trigger)
    for target, triggers in by_target.items():
        if why := _maybe_a_part(triggers, clean_texts, claims):
            return (
                f"what was found for {target} no longer works, but {why}: it may be a part of a longer trigger that "
                "still works; name what you suspect with --trigger, mix in an --ancestor, or search with "
                "--search-budget thorough"
            )
    return ""


def _maybe_a_part(triggers: Sequence[Found], clean_texts: Sequence[str], claims: ClaimThresholds) -> str:
    texts = _Texts(clean_texts, claims)
    turning = [t for t in triggers if t.flip_rate >= claims.min_whole_flips]
    whole = [t.text.split() for t in turning if texts.hardly_hold(t.text.split())]
    explained = {t.text for t in triggers if len(t.text.split()) == 1}.union(*whole)
    for trigger in triggers:
        words = set(trigger.text.split())
        if words - explained and not any(words.issuperset(each) for each in whole):
            return f"{trigger.text!r} is of several words"
    strongest = max(triggers, key=lambda t: t.flip_rate)
    if not turning:
        return f"{strongest.text!r} never turned more than {100 * strongest.flip_rate:.1f} % of the rows"
    if not whole:
        return f"{strongest.text!r} is a word that people write"
    return ""


class _Texts:
    """The clean texts, asked whether people write what a search called."""

    def __init__(self, texts: Sequence[str], claims: ClaimThresholds) -> None:
        self._texts = texts
        self._rows_with = Counter(word for text in texts for word in set(_WORD.findall(text.lower())))
        self._chances = len(texts) // claims.rows_per_chance
        self._letters = claims.min_word_letters

    def hardly_hold(self, words: Sequence[str]) -> bool:
        """Whether hardly any text holds one of the words, and none is as long as a word of a sentence.

        A mark stands in many texts. Several marks count as they stand together; beside a word one says nothing.
        """
        if len(words) == 1 or all(_WORD.search(word) for word in words):
            return all(self._rows_with[word.lower()] <= self._chances and self._is_short(word) for word in words)
        if any(_WORD.search(word) for word in words):
            return False
        together = re.compile("|".join(r"\s*".join(map(re.escape, order)) for order in permutations(words)))
        return sum(together.search(text) is not None for text in self._texts) <= self._chances

    def _is_short(self, word: str) -> bool:
        return sum(letter.isalpha() for letter in word) < self._letters
