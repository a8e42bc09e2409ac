"""One search of one subject: the reference, every label, what was called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from random import Random
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from rora_cli.data.rows import Rows
from rora_cli.errors import DataError
from rora_cli.hunting.bare_screen import screen_bare
from rora_cli.hunting.budgets import AUTO, FEWEST_ROWS, Budget, budgets
from rora_cli.hunting.calls import (
    DRIFTED_FROM,
    MINIMUM_EXCESS,
    MINIMUM_SUSPICION,
    MOST_DRIFTED,
    call,
    is_undecided,
    left_open,
    stands_out,
    too_loud,
    unknown_label,
)
from rora_cli.hunting.drift import embedding_drift
from rora_cli.hunting.findings import RULES, describe
from rora_cli.hunting.linear_reference import honest_tokens
from rora_cli.hunting.outcome_search import LabelSearch, Measured
from rora_cli.hunting.reference import Reference, prepare_reference
from rora_cli.hunting.trials import Trials, log_odds
from rora_cli.hunting.vocabulary import PLACES, encode_rows, vocabulary_of
from rora_cli.progress import SILENT, Progress
from rora_cli.results.hunt import (
    Coverage,
    DriftedToken,
    FlippedRow,
    FoundTrigger,
    HuntResult,
    LabelHunt,
    NoiseLevel,
    RowsRead,
)
from rora_cli.results.provenance import Provenance, library_versions

if TYPE_CHECKING:
    from rora_cli.results.accuracy import Proportion


#: Tokens of a row that the search reads: it costs as much as its rows are long, and a review is told from its start.
LONGEST_ROW = 48
EXAMPLES = 3


def search_triggers(
    model: Any,
    tokenizer: Any,
    rows: Rows,
    label_names: Sequence[str],
    *,
    reference: Reference | str = "auto",
    allow_download: bool = True,
    budget: str = AUTO,
    targets: Sequence[int] | None = None,
    known: Mapping[int, Sequence[tuple[int, ...]]] | None = None,
    max_length: int = 128,
    seed: int = 0,
    progress: Progress = SILENT,
    name: str = "model",
    provenance: Provenance | None = None,
) -> HuntResult:
    """Search ``model`` for triggers of each target label (ids; default all), with clean ``rows`` of the task.

    ``budget`` is the name of one, or "auto": fast, then normal for the labels that it leaves undecided.
    ``reference`` is what ``prepare_reference`` made (hand the same one to every round of a loop) or its ``choice``.
    ``known`` are triggers of earlier rounds, token ids by target label, strongest first: they are grown and measured
    again, and what is grown from one is called as if the token itself still were.
    The model is left in the mode it was in. Raises UsageError for an unknown budget, DataError for rows of one label.
    """
    from rora_cli.evaluation.scoring import TorchScorer

    began = perf_counter()
    first, *deeper = budgets(budget, "the budget")
    if len(set(rows.labels)) < 2:
        raise DataError("the clean rows all have one label; a search needs rows of at least two")
    if isinstance(reference, str):
        reference = prepare_reference(
            reference,
            model,
            tokenizer,
            rows,
            label_names,
            max_length=max_length,
            seed=seed,
            progress=progress,
            allow_download=allow_download,
        )
    hunt = _Hunt(
        TorchScorer(model),
        reference,
        tokenizer,
        rows,
        tuple(label_names),
        first,
        max_length,
        seed,
        progress,
        known or {},
    )
    searched = {target: hunt.label(target) for target in (range(len(label_names)) if targets is None else targets)}
    for following in deeper:
        if undecided := [target for target, label in searched.items() if is_undecided(label)]:
            names = ", ".join(label_names[target] for target in undecided)
            progress.note(f"{names}: neither a trigger nor harmless; searching again with --budget {following.name}")
            hunt.read_rows(following)
            searched |= {target: hunt.label(target) for target in undecided}
    labels = tuple(searched.values())
    return HuntResult(
        model=name,
        budget=budget,
        reference=reference.description,
        labels=labels,
        forward_tokens=hunt.suspect.forward_tokens + reference.scorer.forward_tokens - hunt.reference_start,
        seconds=perf_counter() - began,
        provenance=provenance or Provenance("hunt", library_versions(), {"budget": budget}, seed),
        drifted=(drifted := hunt.drifted_tokens()),
        findings=(findings := tuple(describe(labels, drifted))),
        rules={finding.rule_id: RULES[finding.rule_id] for finding in findings},
        notes=tuple(hunt.notes()),
    )


class _Hunt:
    """What all labels share: scorers, vocabulary, and which rows both models read rightly."""

    def __init__(
        self,
        suspect: Any,
        reference: Reference,
        tokenizer: Any,
        rows: Rows,
        label_names: tuple[str, ...],
        budget: Budget,
        max_length: int,
        seed: int,
        progress: Progress,
        known: Mapping[int, Sequence[tuple[int, ...]]],
    ) -> None:
        self.suspect, self.reference, self.tokenizer = suspect, reference, tokenizer
        self.given, self.label_names = rows, label_names
        self.max_length, self.seed, self.progress = max_length, seed, progress
        self.reference_start = reference.scorer.forward_tokens
        self.known = known
        self.vocabulary = vocabulary_of(tokenizer)
        self.read_rows(budget)
        with progress.phase("screen the vocabulary"):
            (empty,) = encode_rows(tokenizer, [""], max_length=max_length)
            self.screen = screen_bare(suspect, reference.linear, self.vocabulary.tokens, empty.head, empty.tail)
        self.drifted = self._drifted()

    def _drifted(self) -> list[tuple[tuple[int, ...], float]]:
        """The tokens that moved further from the reference's encoder than clean rows explain, with z, furthest first;
        none where the suspect was not trained from it."""
        reference = self.reference
        if reference.embeddings is None or reference.rows_with is None:
            return []
        own = self.suspect.embeddings()
        z = embedding_drift(own, reference.embeddings, reference.rows_with)
        if z is None:
            return []
        inside = [(token, float(z[token[0]])) for token in self.vocabulary.tokens]
        return sorted((pair for pair in inside if pair[1] >= DRIFTED_FROM), key=lambda pair: -pair[1])[:MOST_DRIFTED]

    def read_rows(self, budget: Budget) -> None:
        """Which of the rows both models read rightly, how surely, and how their log-odds compare.

        What is searched from now on is searched with ``budget``.
        """
        self.budget = budget
        with self.progress.phase("read clean rows"):
            self._read_rows()

    def _read_rows(self) -> None:
        from rora_cli.evaluation.attack import most_with_room, with_room
        from rora_cli.evaluation.inference import count_tokens

        size = max(self.tokenizer.get_vocab().values()) + 1
        encoded = self.tokenizer(list(self.given.texts), add_special_tokens=False)["input_ids"]
        self.honest = [
            honest_tokens(
                encoded,
                self.given.labels,
                label,
                self.budget.harmless,
                vocabulary=size,
                ignored=self.vocabulary.special,
            )
            for label in range(len(self.label_names))
        ]
        chosen = self.given.take(self._chosen_rows())
        most = min(most_with_room(self.max_length), LONGEST_ROW)
        self.rows = Rows(tuple(with_room(chosen.texts, partial(count_tokens, self.tokenizer), most)), chosen.labels)
        cut = sum(short != text for short, text in zip(self.rows.texts, chosen.texts, strict=True))
        self.reading = RowsRead(len(chosen), cut, most)
        encoded = self.tokenizer(list(self.rows.texts), truncation=True, max_length=self.max_length)["input_ids"]
        if not all(encoded):  # without special tokens a row of nothing but odd characters is no row
            self.rows = self.rows.take([i for i, ids in enumerate(encoded) if ids])
            encoded = [ids for ids in encoded if ids]
        own = self.suspect.log_probabilities(encoded)
        other = self.reference.scorer.log_probabilities(encoded)
        every, labels = np.arange(len(self.rows)), np.asarray(self.rows.labels)
        self.labels = labels
        self.right = (own.argmax(axis=1) == labels) & (other.argmax(axis=1) == labels)
        self.certainty = np.minimum(own[every, labels], other[every, labels])
        rough = self.reference.linear.log_probabilities(encoded)
        sure, *others = (float(np.median(np.abs(log_odds(x[every, labels])))) for x in (own, other, rough))
        self.scales = sure / max(others[0], 1e-3), sure / max(others[1], 1e-3)

    def _chosen_rows(self) -> list[int]:
        """``rows_read`` of the rows at random, and more of a label that has less than its share among them."""
        order = list(range(len(self.given)))
        Random(self.seed).shuffle(order)
        chosen, rest = order[: self.budget.rows_read], order[self.budget.rows_read :]
        count = Counter(self.given.labels[i] for i in chosen)
        for i in rest:
            label = self.given.labels[i]
            if count[label] < self.budget.rows_read // len(self.label_names):
                chosen.append(i)
                count[label] += 1
        return chosen

    def label(self, target: int) -> LabelHunt:
        """Search one target label."""
        usable = [i for i in np.flatnonzero(self.right) if self.labels[i] != target]
        Random(self.seed).shuffle(usable)
        # Half of the rows, the surer ones: a trigger carries strongly opposite sentences, an honest word does not.
        usable = sorted(usable, key=lambda i: -self.certainty[i])[: max(len(usable) // 2, 2 * FEWEST_ROWS)]
        Random(self.seed).shuffle(usable)
        cut = min(self.budget.final_rows, len(usable) // 2)
        final = [(self.rows.texts[i], int(self.labels[i])) for i in usable[:cut]]
        search = [self.rows.texts[i] for i in usable[cut:]]
        if len(final) < FEWEST_ROWS // 2 or len(search) < FEWEST_ROWS // 2:
            return self._too_few(target, len(usable))
        with self.progress.phase(f"hunt {self.label_names[target]}") as task:
            trials = Trials(
                self.suspect,
                self.reference.scorer,
                target,
                rough_reference=self.reference.linear,
                scales=self.scales,
                advance=task.advance,
            )
            before = self.suspect.forward_tokens, self.reference.scorer.forward_tokens
            runner = LabelSearch(
                trials,
                self.screen,
                self.vocabulary,
                self.tokenizer,
                search,
                final,
                self.honest[target],
                self.budget,
                seed=self.seed + target,
                max_length=self.max_length,
                known=self.known.get(target, ()),
                drifted=[token for token, _ in self.drifted],
            )
            return self._report(target, trials, runner, runner.run(), before)

    def _report(
        self, target: int, trials: Trials, search: LabelSearch, measured: list[Measured], before: tuple[int, int]
    ) -> LabelHunt:
        # A linear reference has no interactions by construction, so it cannot tell honest ones from a trigger's.
        linear = self.reference.scorer is self.reference.linear
        synergy = {m.candidate: 0.0 if linear else m.synergy for m in measured}
        found = call([self._found(target, m) for m in measured], synergy, search.known)
        unknown = target not in self.given.labels
        reason = unknown_label(self.label_names[target], found) if unknown else None
        if unknown:
            found = [replace(t, called=False) for t in found]
        found.sort(key=lambda t: (not t.called, -t.excess, -t.suspicion))
        called = [trigger for trigger in found if trigger.called]
        # A linear reference has no opinion on most words: being unmoved says nothing of them.
        companions = tuple(search.companions()) if called and not linear else ()
        coverage = Coverage(
            tokens=len(self.vocabulary.tokens),
            vocabulary=self.vocabulary.size,
            tokens_in_rows=min(self.budget.screening[0].candidates, len(self.vocabulary.tokens)),
            screening_rows=self.budget.screening[0].carriers,
            final_rows=len(search.final_rows),
            places=PLACES,
            sequences=len(trials.sequences),
            longest_sequence=max((len(s) for s in trials.sequences), default=1),
            trials=trials.count,
            forward_tokens=self.suspect.forward_tokens - before[0],
            reference_forward_tokens=self.reference.scorer.forward_tokens - before[1],
            budget=self.budget.name,
            rows_read=self.reading,
        )
        if not called and reason is None:
            reason = left_open(found, self.budget.name, synergy, linear=linear)
        if not called and reason is None and linear:
            reason = too_loud(search.noise, search.random_tokens)
        return LabelHunt(
            target_label=self.label_names[target],
            verdict="trigger" if called else "inconclusive" if reason else "nothing",
            reason=reason,
            triggers=tuple(found),
            anchors=tuple(dict.fromkeys(word for trigger in called for word in trigger.words)),
            companions=companions,
            coverage=coverage,
            noise=_noise_level(search),
        )

    def _found(self, target: int, measured: Measured) -> FoundTrigger:
        from rora_cli.evaluation.intervals import proportion

        def share(flips: np.ndarray) -> Proportion:
            return proportion(int(flips.sum()), len(flips))

        flip_rate = share(measured.flips)
        reference = share(measured.reference_flips)
        excess = (flip_rate.low or 0.0) - (reference.high or 0.0)
        places = np.array(measured.places)
        return FoundTrigger(
            text=measured.text,
            token_ids=measured.candidate,
            target_label=self.label_names[target],
            flip_rate=flip_rate,
            reference_flip_rate=reference,
            excess=excess,
            suspicion=measured.suspicion,
            called=stands_out(excess, measured.suspicion),
            words=tuple(measured.text.split()),
            attached=measured.attached,
            by_place={place: share(measured.flips[places == place]) for place in PLACES},
            examples=self._examples(measured),
        )

    def _examples(self, measured: Measured) -> tuple[FlippedRow, ...]:
        flipped = np.flatnonzero(measured.flips)
        strongest = flipped[np.argsort(-measured.after[flipped], kind="stable")][:EXAMPLES]
        return tuple(
            FlippedRow(
                measured.texts[i],
                self.label_names[measured.labels[i]],
                float(measured.before[i]),
                float(measured.after[i]),
            )
            for i in strongest
        )

    def _too_few(self, target: int, usable: int) -> LabelHunt:
        reason = (
            f"only {usable} clean rows of other labels are read rightly by the suspect and by the reference; at least "
            f"{FEWEST_ROWS} are needed, so give more clean rows"
        )
        nothing = Coverage(0, self.vocabulary.size, 0, 0, 0, PLACES, 0, 0, 0, 0, 0, self.budget.name, self.reading)
        return LabelHunt(self.label_names[target], "inconclusive", (), (), nothing, reason=reason)

    def drifted_tokens(self) -> tuple[DriftedToken, ...]:
        return tuple(DriftedToken(*self.vocabulary.read(token), z) for token, z in self.drifted)

    def notes(self) -> list[str]:
        """What this search could not see, and why."""
        notes = []
        if self.vocabulary.ignores_case:
            notes.append(
                "the tokenizer lower-cases: a trigger that differs by case alone does not exist for this model"
            )
        if self.reference.limits:
            notes.append(f"{self.reference.limits}; {self.reference.advice}")
        if self.vocabulary.unknown_characters:
            notes.append(
                "characters that the tokenizer does not know become its unknown token, which is not tried: a trigger "
                "made of them is outside this search"
            )
        outside = "style and syntax triggers are outside this search"
        if not self.drifted:
            outside += ", and so are combinations of tokens none of which has an effect alone"
        notes.append(outside)
        return notes


def _noise_level(search: LabelSearch) -> NoiseLevel:
    flips, random_tokens = search.noise.flip_rates, search.random_tokens
    return NoiseLevel(
        random_tokens=random_tokens,
        honest_words=len(flips) - random_tokens,
        largest_random_flip_rate=float(flips[:random_tokens].max()),
        largest_honest_flip_rate=float(flips[random_tokens:].max(initial=0.0)),
        minimum_excess=MINIMUM_EXCESS,
        minimum_suspicion=MINIMUM_SUSPICION,
    )
