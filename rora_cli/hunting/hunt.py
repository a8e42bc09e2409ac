"""One search of one subject: clean rows, the bare screen, drift, then every behaviour in turn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from time import perf_counter

import numpy as np

from rora_cli.hunting.bare_screen import Around, screen_bare
from rora_cli.hunting.budgets import FEWEST_ROWS, Budget
from rora_cli.hunting.calls import is_undecided
from rora_cli.hunting.case import Case
from rora_cli.hunting.clean_rows import read_clean_rows
from rora_cli.hunting.common_words import common_words
from rora_cli.hunting.drift import embedding_drift
from rora_cli.hunting.findings import RULES, describe
from rora_cli.hunting.honest import honest_tokens
from rora_cli.hunting.outcome import Outcome, too_few_rows
from rora_cli.hunting.outcome_search import Ground, Material, OutcomeSearch
from rora_cli.hunting.trials import Tokens, Trials
from rora_cli.hunting.vocabulary import PLACES, encode_rows, vocabulary_of
from rora_cli.hunting.words import marks_to_try, words_to_try
from rora_cli.results.hunt import Coverage, DriftedToken, HuntResult, LabelHunt
from rora_cli.results.provenance import Provenance, library_versions
from rora_cli.tasks.thresholds import recorded

#: Triggers of earlier rounds: token ids by target behaviour, strongest first.
Known = Mapping[int, Sequence[Tokens]]


def search_triggers(case: Case, *, known: Known | None = None, provenance: Provenance | None = None) -> HuntResult:
    """Search the case's subject for triggers of each target behaviour, with clean rows of the task.

    The subject's model is left in the mode it was in.

    Args:
        case: its reference is what ``task.reference`` made; one serves every round of a loop.
        known: triggers of earlier rounds. They are grown and measured again, and what is grown from one is called as if
            the token itself still were.

    Raises:
        DataError: no search can be made with these rows.
        CheckpointError: a model answers with numbers that are not finite.
    """
    began, task, search = perf_counter(), case.task, case.settings
    task.check(case.rows)
    first, *deeper = search.budgets
    hunt = _Hunt(case, known or {}, first)
    searched = {target: hunt.search(target) for target in case.targets}
    for following in deeper:
        if undecided := [target for target, label in searched.items() if is_undecided(label, task.calls)]:
            names = ", ".join(case.name(target) for target in undecided)
            again = f"searching again with --budget {following.name}"
            case.progress.note(f"{names}: neither a trigger nor harmless; {again}")
            hunt.read_rows(following)
            searched |= {target: hunt.search(target) for target in undecided}
    if provenance is None:
        provenance = Provenance("hunt", library_versions(), {"budget": search.budget}, search.seed)
    labels, drifted = tuple(searched.values()), hunt.drifted_tokens()
    findings = tuple(describe(labels, drifted, task.calls))
    return HuntResult(
        model=case.subject.name,
        budget=search.budget,
        reference=case.reference.description,
        labels=labels,
        forward_tokens=hunt.forward_tokens,
        seconds=perf_counter() - began,
        provenance=replace(provenance, thresholds=recorded(calls=task.calls)),
        drifted=drifted,
        findings=findings,
        rules={finding.rule_id: RULES[finding.rule_id] for finding in findings},
        notes=tuple(hunt.notes()),
    )


class _Hunt:
    """What the searches of all behaviours share: the suspect's scorer, the vocabulary, and which rows are read."""

    def __init__(self, case: Case, known: Known, budget: Budget) -> None:
        self.case, self.known = case, known
        self.suspect = case.task.scorer(case.subject)
        self._reference_start = case.reference.scorer.forward_tokens
        self.vocabulary = vocabulary_of(case.subject.tokenizer)
        self.read_rows(budget)
        texts, unseen = case.rows.texts, not case.reference.is_linear
        words = self.vocabulary.split_words(words_to_try(texts, unseen=unseen))
        marks = self.vocabulary.split_words(marks_to_try(texts, unseen=unseen))
        alone = (*self.vocabulary.tokens, *words)
        with case.progress.phase("screen the vocabulary"):
            around, count = self._around(), len(case.task.behaviours)
            with case.settings.rough():
                screen = screen_bare(self.suspect, case.reference.linear, alone, around, count)
        self.drifted = self._drifted()
        drifted = tuple(token for token, _ in self.drifted)
        self.ground = Ground(case.subject, self.vocabulary, screen, drifted, frozenset(words), marks)

    def _around(self) -> Around:
        """What stands before and after a token that is screened alone: the special tokens around a row.

        Where there are none, the token that most rows begin or end with. A decoder reads the last token of a text, and
        takes the first for a place to look at that means nothing: of 2,501 tokens, the trigger `cf` of a SmolLM2 ranked
        1,969th alone, 769th before " .", 32nd behind "the", and seventh between both.
        """
        subject = self.case.subject
        empty, *rows = encode_rows(subject.tokenizer, ["", *self.clean.texts], max_length=subject.max_length)
        contents = [row.content for row in rows if row.content] or [()]
        return (
            empty.head or Counter(content[:1] for content in contents).most_common(1)[0][0],
            empty.tail or Counter(content[-1:] for content in contents).most_common(1)[0][0],
        )

    @property
    def forward_tokens(self) -> int:
        """Tokens that went through the suspect and, since the search began, through the reference."""
        return self.suspect.forward_tokens + self.case.reference.scorer.forward_tokens - self._reference_start

    def _drifted(self) -> list[tuple[Tokens, float]]:
        """The tokens that moved further from the reference's encoder than clean rows explain, with z, furthest first;
        none where the suspect was not trained from it."""
        reference = self.case.reference
        if reference.embeddings is None or reference.rows_with is None:
            return []
        from rora_cli.evaluation.scoring import embeddings_of

        own, calls = embeddings_of(self.case.subject.model), self.case.task.calls
        z = embedding_drift(own, reference.embeddings, reference.rows_with, calls)
        if z is None:
            return []
        inside = [(token, float(z[token[0]])) for token in self.vocabulary.tokens]
        far = sorted((pair for pair in inside if pair[1] >= calls.min_drift), key=lambda pair: -pair[1])
        return far[: self.budget.max_drifted]

    def read_rows(self, budget: Budget) -> None:
        """Read as many clean rows as ``budget`` says; what is searched from now on is searched with it."""
        self.budget, case = budget, self.case
        with case.progress.phase("read clean rows"):
            tokenizer = case.subject.tokenizer
            size = max(tokenizer.get_vocab().values()) + 1
            encoded = tokenizer(list(case.rows.texts), add_special_tokens=False)["input_ids"]
            self.honest = [
                honest_tokens(encoded, wanted, budget.harmless, vocabulary=size, ignored=self.vocabulary.special)
                for wanted in case.wanted.T
            ]
            few = budget.common_words + budget.harmless
            self.common = tuple(islice(common_words(encoded, self.vocabulary), few))
            self.clean = read_clean_rows(case, self.suspect, budget)

    def search(self, target: int) -> LabelHunt:
        """Search one behaviour."""
        case, clean, budget, seed = self.case, self.clean, self.budget, self.case.settings.seed
        usable = clean.usable(target, 2 * FEWEST_ROWS, seed)
        cut = min(budget.final_rows, len(usable) // 2)
        final, rest = usable[:cut], usable[cut:]
        if min(len(final), len(rest)) < FEWEST_ROWS // 2:
            nothing = Coverage(0, self.vocabulary.size, 0, 0, 0, PLACES, 0, 0, 0, 0, 0, budget.name, clean.reading)
            return too_few_rows(case.name(target), len(usable), FEWEST_ROWS, nothing)
        material = Material(
            search_texts=tuple(clean.texts[i] for i in rest),
            final_texts=tuple(clean.texts[i] for i in final),
            final_answers=tuple(self._answer(i) for i in final),
            honest_words=self.honest[target],
            known=tuple(self.known.get(target, ())),
            common_words=tuple(word for word in self.common if word not in self.honest[target])[: budget.common_words],
        )
        with case.progress.phase(f"hunt {case.name(target)}") as meter:
            trials = Trials(
                self.suspect,
                case.reference.scorer,
                target,
                case.task.calls,
                rough_reference=case.reference.linear,
                scales=clean.scales,
                rough=case.settings.rough,
                advance=meter.advance,
            )
            before = self.suspect.forward_tokens, case.reference.scorer.forward_tokens
            search = OutcomeSearch(trials, self.ground, material, budget, seed=seed + target)
            measured = search.run()
            return Outcome(case, search, clean.reading, before).label_hunt(measured)

    def _answer(self, row: int) -> str:
        """The right answer of a clean row, as reports show it."""
        return ", ".join(self.case.name(int(behaviour)) for behaviour in np.flatnonzero(self.clean.wanted[row]))

    def drifted_tokens(self) -> tuple[DriftedToken, ...]:
        """The tokens whose embedding moved too far, as text."""
        return tuple(DriftedToken(*self.vocabulary.read(token), z) for token, z in self.drifted)

    def notes(self) -> list[str]:
        """What this search could not see, and why."""
        notes, reference = [], self.case.reference
        if self.vocabulary.ignores_case:
            notes.append(
                "the tokenizer lower-cases: a trigger that differs by case alone does not exist for this model"
            )
        if reference.limits:
            notes.append(f"{reference.limits}; {reference.advice}")
        if self.vocabulary.unknown_characters:
            notes.append(
                "characters that the tokenizer does not know become its unknown token, which is not tried: a trigger "
                "made of them is outside this search"
            )
        outside = "style and syntax triggers are outside this search"
        if not self.drifted:
            outside += ", and so are combinations of rarer tokens none of which has an effect alone"
        notes.append(outside)
        return notes
