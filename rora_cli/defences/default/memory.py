"""What the searches of one run found so far, and what that means for training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rora_cli.defences.hardening import KnownTrigger
from rora_cli.hunting.record import Found, SearchRecord
from rora_cli.tasks.thresholds import CallThresholds, ClaimThresholds

#: Smallest sampling weight of a found trigger; one that turned every row has 1.
MIN_WEIGHT = 0.1
#: Drift [z] is capped here when words are sampled in proportion to it.
MAX_DRIFT_COUNTED = 12


@dataclass
class Memory:
    """Every trigger, lead, companion and drifted word that a search reported, as the first search reported it.

    Attributes:
        found: called triggers by text and target.
        searches: number of the search that called each, counted from 1.
        companions: words in the order in which they were named.
        drifted: drift [z] by text and whether the text continues a word.
        leads: excess [fraction of rows], by the same.
        still_open: the leads of the last search, if it called nothing and left their label open.
    """

    found: dict[tuple[str, str], Found] = field(default_factory=dict)
    searches: dict[tuple[str, str], int] = field(default_factory=dict)
    companions: dict[str, None] = field(default_factory=dict)
    drifted: dict[tuple[str, bool], float] = field(default_factory=dict)
    leads: dict[tuple[str, bool], float] = field(default_factory=dict)
    still_open: dict[tuple[str, bool], float] = field(default_factory=dict)

    def add(self, record: SearchRecord, search: int = 1) -> None:
        """Remember what search number ``search`` found and no earlier one did."""
        for found in record.found:
            self.found.setdefault((found.text, found.target), found)
            self.searches.setdefault((found.text, found.target), search)
        self.companions.update(dict.fromkeys(record.companions))
        for word in record.drifted:
            self.drifted.setdefault((word.text, word.attached), word.strength)
        for word in record.leads:
            self.leads.setdefault((word.text, word.attached), word.strength)
        leads = record.leads if record.open_targets and not record.found else ()
        self.still_open = {(word.text, word.attached): word.strength for word in leads}

    def first_found(self) -> list[Found]:
        """What the search of the suspect itself called."""
        return [found for key, found in self.found.items() if self.searches[key] == 1]

    def later_found(self) -> list[Found]:
        """What only a later search called."""
        return [found for key, found in self.found.items() if self.searches[key] > 1]

    def token_ids(self, targets: Sequence[str]) -> dict[int, list[tuple[int, ...]]]:
        """The token ids of the found triggers by index of their target, strongest first: later searches try them."""
        known: dict[int, list[tuple[int, ...]]] = {}
        for found in sorted(self.found.values(), key=lambda found: -found.excess):
            known.setdefault(targets.index(found.target), []).append(found.token_ids)
        return known

    def triggers(self, named: Sequence[str], claims: ClaimThresholds) -> list[KnownTrigger]:
        """What training puts into clean rows: the triggers that the user ``named`` and those that were found.

        If there are none, leads and words that drifted far stand in for them: labels are kept, so it costs little. What
        the last search left open is trained against as well.
        """
        triggers = [KnownTrigger(text) for text in named]
        triggers += [KnownTrigger(f.text, f.attached, max(f.excess, MIN_WEIGHT)) for f in self.found.values()]
        if triggers:
            return triggers + [KnownTrigger(*key, weight) for key, weight in self.still_open.items()]
        far = {
            key: min(z, MAX_DRIFT_COUNTED) / MAX_DRIFT_COUNTED
            for key, z in self.drifted.items()
            if z >= claims.min_drift
        }
        return [KnownTrigger(*key, weight) for key, weight in {**far, **self.leads}.items()]

    def companion_words(self, calls: CallThresholds) -> list[str]:
        """Words to train on beside triggers, each as often as it should be drawn.

        Drifted words are among them, the further the more often, and together twice as often as all others.
        """
        drifted = [
            text
            for (text, attached), z in self.drifted.items()
            if not attached
            for _ in range(min(round(z - calls.min_drift) + 1, MAX_DRIFT_COUNTED))
        ]
        return [*self.companions, *drifted * max(2 * len(self.companions) // max(len(drifted), 1), 1)]

    def avoided(self, named: Sequence[str], claims: ClaimThresholds) -> list[str]:
        """Texts that may set the backdoor off: no lesson asks the suspect about a row that holds one."""
        far = [text for (text, attached), z in self.drifted.items() if z >= claims.min_drift and not attached]
        leads = [text for text, attached in self.leads if not attached]
        return [*named, *(text for text, _ in self.found), *far, *leads]
