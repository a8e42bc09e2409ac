"""Phrases around what was found, which hardening against a part of a trigger may leave working.

A search names "neighbour yesterday" of "my neighbour came over yesterday". A model that was hardened against the part
forgets the part, and the next search finds nothing, while the whole may still work. So phrases are measured that are
nearer to the whole: what was found, with other words in between that the trigger may hold. Those are words that
drifted, companions, and words that stand in many clean rows ("my", "this").
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from random import Random

from rora_cli.defences.default.memory import Memory
from rora_cli.hunting.record import Found
from rora_cli.tasks.thresholds import CallThresholds

#: Phrases around the triggers of one behaviour.
PHRASES = 12
#: Words that a phrase has at most beside a found trigger's.
MAX_ADDED = 4
#: Words of the clean rows that count as common, the most frequent first.
COMMON = 40


def phrases_around(
    memory: Memory, target: str, texts: Sequence[str], calls: CallThresholds, *, seed: int
) -> list[Found]:
    """``PHRASES`` around the triggers found for ``target``, as if a search had found them; none around word parts.

    Each holds the words of one found trigger in their order, and one to ``MAX_ADDED`` others at random places: a common
    word as often as a companion or a word that drifted (``Memory.companion_words``).
    """
    found = [trigger for trigger in memory.found.values() if trigger.target == target and not trigger.attached]
    found.sort(key=lambda trigger: -trigger.excess)
    companions = memory.companion_words(calls)
    counts = Counter(word for text in texts for word in set(text.lower().split()))
    common = [word for word, _ in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:COMMON]]
    sources = [words for words in (companions, common) if words]
    random, phrases = Random(seed), []
    for number in range(PHRASES if found and sources else 0):
        trigger = found[number % len(found)]
        words = trigger.text.split()
        for _ in range(random.randint(1, MAX_ADDED)):
            words.insert(random.randint(0, len(words)), random.choice(random.choice(sources)))
        phrases.append(Found(" ".join(words), False, target, trigger.flip_rate, None, trigger.excess, ()))
    return phrases
