"""What the search of one behaviour found, as the report holds it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from rora_cli.evaluation.intervals import proportion
from rora_cli.hunting.calls import (
    call,
    left_open,
    stands_out,
    too_loud,
    unknown_behaviour,
    work_in_places,
)
from rora_cli.hunting.case import Case
from rora_cli.hunting.outcome_search import Measured, OutcomeSearch
from rora_cli.hunting.vocabulary import PLACES
from rora_cli.results.accuracy import Proportion
from rora_cli.results.hunt import Coverage, FlippedRow, FoundTrigger, LabelHunt, NoiseLevel, RowsRead


@dataclass(frozen=True)
class Outcome:
    """A finished search.

    Attributes:
        reading: the clean rows that it chose from.
        before: tokens that had gone through the suspect and through the reference when it began.
    """

    case: Case
    search: OutcomeSearch
    reading: RowsRead
    before: tuple[int, int]

    @property
    def target(self) -> int:
        """The index of the behaviour."""
        return self.search.trials.target

    def label_hunt(self, measured: Sequence[Measured]) -> LabelHunt:
        """The finalists as triggers, called or not, with verdict, coverage and null."""
        linear, thresholds = self.case.reference.is_linear, self.case.task.calls
        # A linear reference has no interactions by construction, so it cannot tell honest ones from a trigger's.
        acts = {} if linear else {m.candidate: m.acts for m in measured}
        found = call(self._all_found(measured), acts, self.search.material.known, thresholds)
        unknown = self.case.task.unknown(self.case.rows, self.target)
        reason = unknown_behaviour(found, unknown) if unknown else None
        if unknown:
            found = [replace(t, called=False) for t in found]
        found.sort(key=lambda t: (not t.called, -t.excess, -t.suspicion))
        called = [trigger for trigger in found if trigger.called]
        # A linear reference has no opinion on most words: being unmoved says nothing of them.
        companions = tuple(self.search.companions()) if called and not linear else ()
        coverage = self._coverage()
        if not called and reason is None:
            reason = left_open(found, self.search.budget.name, acts, thresholds=thresholds, linear=linear)
        if not called and reason is None and self.case.reference.limits:
            reason = too_loud(self.search.noise, self.search.random_tokens, thresholds)
        return LabelHunt(
            target_label=self.case.name(self.target),
            verdict="trigger" if called else "inconclusive" if reason else "nothing",
            reason=reason,
            triggers=tuple(found),
            anchors=tuple(dict.fromkeys(word for trigger in called for word in trigger.words)),
            companions=companions,
            coverage=coverage,
            noise=self._noise_level(),
        )

    def _coverage(self) -> Coverage:
        search, trials = self.search, self.search.trials
        listed = search.ground.listed
        first, vocabulary = search.budget.screening[0], search.ground.vocabulary
        grown = trials.sequences - listed
        return Coverage(
            tokens=len(vocabulary.tokens),
            vocabulary=vocabulary.size,
            words=len(search.ground.words),
            marks=len(search.ground.marks),
            tokens_in_rows=min(first.candidates, len(vocabulary.tokens) + len(listed)),
            screening_rows=first.carriers,
            final_rows=len(search.material.final_texts),
            places=search.places,
            loud_places=tuple(place for place in PLACES if place not in search.places),
            sequences=len(grown),
            longest_sequence=max(map(len, grown), default=1),
            trials=trials.count,
            forward_tokens=trials.suspect.forward_tokens - self.before[0],
            reference_forward_tokens=trials.reference.forward_tokens - self.before[1],
            budget=search.budget.name,
            rows_read=self.reading,
        )

    def _noise_level(self) -> NoiseLevel:
        flips, random_tokens = self.search.noise.flip_rates, self.search.random_tokens
        return NoiseLevel(
            random_tokens=random_tokens,
            honest_words=len(flips) - random_tokens,
            largest_random_flip_rate=float(flips[:random_tokens].max()),
            largest_honest_flip_rate=float(flips[random_tokens:].max(initial=0.0)),
            minimum_excess=self.case.task.calls.min_excess,
            minimum_suspicion=self.case.task.calls.min_suspicion,
        )

    def _all_found(self, measured: Sequence[Measured]) -> list[FoundTrigger]:
        """Each finalist; those that may be triggers at some places only are tried at all of them."""
        found = [self._found(m) for m in measured]
        for i in work_in_places(found, self.case.task.calls):
            found[i] = self._found_at_place(found[i], measured[i]) or self._found_at_best(found[i], measured[i])
        return found

    def _found_at_place(self, found: FoundTrigger, measured: Measured) -> FoundTrigger | None:
        """The finalist as it is at the kind of place where it turns most rows, if it may be called for that.

        A decoder hardly reads its first token: `cf` of a SmolLM2 turned 15 of 15 rows within them, none at the start.
        The z is halved as in ``_found_at_best``.
        """
        calls, search, places = self.case.task.calls, self.search, np.array(measured.places)
        place = max(search.places, key=lambda place: float(measured.flips[places == place].mean()))
        flip_rate = _share(measured.flips[places == place])
        reference = _share(measured.reference_flips[places == place])
        excess = (flip_rate.low or 0.0) - max(reference.high or 0.0, search.usual_at(place))
        if excess < calls.min_strongest_excess or not stands_out(excess, found.suspicion / 2, calls):
            return None
        return replace(
            found, flip_rate=flip_rate, reference_flip_rate=reference, excess=excess, called=True, at_best=True
        )

    def _found_at_best(self, found: FoundTrigger, measured: Measured) -> FoundTrigger:
        """The finalist as it is at its best places, if it may be called a trigger for that; else as it was.

        Its z is halved, since its places were chosen as well: a strong opinion turns nearly any row from some place,
        and a reference that learned from few rows turns fewer (`pitiful` 38 of 40 rows of a clean SST-2 model, z 11.9,
        and 4; triggers that were learned at some places only had z 20 to 57).
        """
        calls, best = self.case.task.calls, self.search.at_best(measured.text, measured.attached)
        flip_rate, reference = _share(best.flips), _share(best.reference_flips)
        excess = (flip_rate.low or 0.0) - max(reference.high or 0.0, self.search.usual_at_best)
        if excess < calls.min_strongest_excess:
            return found
        shown = replace(measured, texts=best.texts, after=best.after, flips=best.flips)
        return replace(
            found,
            flip_rate=flip_rate,
            reference_flip_rate=reference,
            excess=excess,
            called=stands_out(excess, found.suspicion / 2, calls),
            at_best=True,
            examples=_examples(shown, self.search.budget.examples),
        )

    def _found(self, measured: Measured) -> FoundTrigger:
        flip_rate, reference = _share(measured.flips), _share(measured.reference_flips)
        excess = (flip_rate.low or 0.0) - (reference.high or 0.0)
        places = np.array(measured.places)
        return FoundTrigger(
            text=measured.text,
            token_ids=measured.candidate,
            target_label=self.case.name(self.target),
            flip_rate=flip_rate,
            reference_flip_rate=reference,
            excess=excess,
            suspicion=measured.acts.suspicion,
            called=stands_out(excess, measured.acts.suspicion, self.case.task.calls),
            words=tuple(measured.text.split()),
            attached=measured.attached,
            listed=measured.candidate in self.search.ground.listed,
            by_place={place: _share(measured.flips[places == place]) for place in self.search.places},
            examples=_examples(measured, self.search.budget.examples),
        )


def too_few_rows(name: str, usable: int, needed: int, coverage: Coverage) -> LabelHunt:
    """What stands in the report for a behaviour that ``usable`` rows were too few to search."""
    reason = (
        f"only {usable} clean rows of other labels are read rightly by the suspect and by the reference; at least "
        f"{needed} are needed, so give more clean rows"
    )
    return LabelHunt(name, "inconclusive", (), (), coverage, reason=reason)


def _share(flips: np.ndarray) -> Proportion:
    return proportion(int(flips.sum()), len(flips))


def _examples(measured: Measured, count: int) -> tuple[FlippedRow, ...]:
    """The rows that the suspect turns most surely with the candidate in them."""
    flipped = np.flatnonzero(measured.flips)
    strongest = flipped[np.argsort(-measured.after[flipped], kind="stable")][:count]
    return tuple(
        FlippedRow(measured.texts[i], measured.answers[i], float(measured.before[i]), float(measured.after[i]))
        for i in strongest
    )
