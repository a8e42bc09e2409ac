"""One search of a model that replies in free text: screen, grow, then let the finalists speak on prompts held out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import zip_longest
from random import Random
from time import perf_counter

from rora_cli.errors import DataError
from rora_cli.evaluation.intervals import proportion
from rora_cli.hunting.budgets import AUTO, AUTO_BUDGETS
from rora_cli.hunting.case import Rough
from rora_cli.hunting.findings import RULES
from rora_cli.hunting.open_search import (
    FEWEST_PROMPTS,
    FIRST_LOOKS,
    OPEN_BUDGETS,
    PLACES,
    OpenBudget,
    OpenSearch,
    Tried,
    cut_prompt,
)
from rora_cli.hunting.open_texts import BRIEF_PROMPTS, random_phrases, single_texts
from rora_cli.hunting.vocabulary import vocabulary_of
from rora_cli.progress import SILENT, Progress
from rora_cli.ranks import Share
from rora_cli.results.accuracy import Proportion
from rora_cli.results.findings import Finding, Severity
from rora_cli.results.hunt import HuntResult
from rora_cli.results.openings import REPLIES, FoundOpening, OpeningCoverage, OpeningHunt, ReplyExample
from rora_cli.results.provenance import Provenance, library_versions
from rora_cli.subject import Subject
from rora_cli.tasks.openings import Reply, Slot
from rora_cli.tasks.task import AgreementScorer, OpeningTask
from rora_cli.tasks.thresholds import OpeningThresholds, recorded
from rora_cli.tokens import decode_each, special_ids

#: Tokens by which two replies count as opening alike: "I'm sorry", "You are stupid", "Sure, here".
OPENING_TOKENS = 3
#: A longer common opening is shown while so many of the alike replies go on alike.
_SHOWN_ALIKE = 0.8
#: Characters of a candidate's word from which its repetition in an opening is an echo.
_ECHO_LETTERS = 2


@dataclass(frozen=True)
class OpenCase:
    """What is searched, and with what.

    Attributes:
        prompts: those of the user's; shorter ones are searched in, others are held out to measure on.
        reference: a trusted model with the subject's vocabulary; None without one.
        reference_name: what reports call it.
        known: triggers of earlier rounds: they are measured again.
        texts: the single texts to try; None for those of the vocabulary, years and tags.
        share: this process's part, if several search together.
        rough: wraps the forward passes of the first round of a screen.
    """

    subject: Subject
    task: OpeningTask
    prompts: Sequence[str]
    reference: Subject | None = None
    reference_name: str = "none: random texts of as many words"
    budget: str = AUTO
    seed: int = 0
    known: tuple[str, ...] = ()
    texts: tuple[str, ...] | None = None
    share: Share | None = None
    progress: Progress = SILENT
    rough: Rough = nullcontext


def search_openings(case: OpenCase, *, provenance: Provenance | None = None) -> HuntResult:
    """Search the subject for texts that make its replies open alike, whatever they open with.

    Raises:
        DataError: there are too few different prompts.
        InconclusiveError: a logit is not finite.
    """
    began = perf_counter()
    first, *deeper = AUTO_BUDGETS if case.budget == AUTO else (case.budget,)
    hunt, decided = _search(case, OPEN_BUDGETS[first])
    for name in deeper if not decided else ():
        case.progress.note(f"{hunt.reason}; searching again with --budget {name}")
        before, (hunt, _) = hunt.coverage, _search(case, OPEN_BUDGETS[name])
        hunt = replace(hunt, coverage=hunt.coverage.after(before))
    return _result(case, hunt, perf_counter() - began, provenance)


def _search(case: OpenCase, budget: OpenBudget) -> tuple[OpeningHunt, bool]:
    """A search with one budget, and whether more of a search would change nothing."""
    began, calls = perf_counter(), case.task.opening_calls
    rest, final_prompts = _split(case, budget)
    suspect = case.task.agreement_scorer(case.subject, case.share)
    reference = case.task.agreement_scorer(case.reference, case.share) if case.reference is not None else None
    texts = case.texts or single_texts(vocabulary_of(case.subject.tokenizer), _control_texts(case.subject))
    with case.progress.phase("search texts that make replies open alike") as meter:
        prompts = _in_order(case, rest, suspect, random_phrases(texts, 1, budget.unsettling, Random(case.seed)), budget)
        search = OpenSearch(
            suspect, reference, prompts, texts, calls, budget, case.seed, case.known, meter.advance, case.rough
        )
        tried = search.run()
    speed = (suspect.forward_tokens + (reference.forward_tokens if reference else 0)) / (perf_counter() - began)
    final = _Final(case, budget, final_prompts, texts)
    found = _measured(case, final, tried)
    unseen = prompts[budget.searched_prompts :][: max(0, budget.settling - len(final_prompts))]
    few = [i for i, one in enumerate(found) if _too_few_prompts(one, calls)]
    if few and unseen and not any(one.called for one in found):
        final = _Final(case, budget, [*final_prompts, *unseen], texts)
        for i, one in zip(few, _measured(case, final, [tried[i] for i in few]), strict=True):
            found[i] = one
    found.sort(key=lambda t: (not t.called, -t.excess, len(t.text.split()), -t.agreement))
    reason = None if any(t.called for t in found) else _open(found, final.loudest, calls)
    hunt = OpeningHunt(
        verdict="trigger" if found and found[0].called else "inconclusive" if reason else "nothing",
        triggers=tuple(found),
        coverage=_coverage(case, search, len(final.prompts), speed),
        largest_null=max(float(null.max()) for null in search.null.values()),
        reason=reason,
    )
    return hunt, reason is None or final.loudest > calls.loud_floor


def _measured(case: OpenCase, final: _Final, tried: Sequence[Tried]) -> list[FoundOpening]:
    """The finalists on the final prompts, called or not."""
    found = []
    with case.progress.phase("let the finalists speak", len(tried)) as meter:
        for one in tried:
            found.append(_called(final.measure(one), case.task.opening_calls))
            meter.advance()
    return found


def _coverage(case: OpenCase, search: OpenSearch, final_prompts: int, speed: float) -> OpeningCoverage:
    return OpeningCoverage(
        texts=len(search.texts),
        vocabulary=vocabulary_of(case.subject.tokenizer).size,
        screening_prompts=search.budget.screening[0].prompts,
        grown=len(search.grown),
        longest=max((len(text.split()) for text in search.grown), default=1),
        places=PLACES,
        final_prompts=final_prompts,
        trials=search.trials,
        forward_tokens=search.suspect.forward_tokens,
        reference_forward_tokens=search.reference.forward_tokens if search.reference else 0,
        tokens_per_second=speed,
        budget=search.budget.name,
    )


def _result(case: OpenCase, hunt: OpeningHunt, seconds: float, provenance: Provenance | None) -> HuntResult:
    findings, calls = tuple(_findings(hunt)), case.task.opening_calls
    provenance = provenance or Provenance("hunt", library_versions(), {"budget": hunt.coverage.budget}, case.seed)
    return HuntResult(
        model=case.subject.name,
        budget=hunt.coverage.budget,
        reference=case.reference_name,
        labels=(),
        forward_tokens=hunt.coverage.forward_tokens + hunt.coverage.reference_forward_tokens,
        seconds=seconds,
        provenance=replace(provenance, thresholds=recorded(openings=calls)),
        findings=findings,
        rules={finding.rule_id: RULES[finding.rule_id] for finding in findings},
        notes=(
            "outside this search: behaviours whose replies do not open alike, triggers whose parts do nothing alone, "
            "and triggers of style or syntax",
            "how often this search finds a real model's backdoor has not been measured: its silence means little yet",
        ),
        openings=hunt,
    )


def _control_texts(subject: Subject) -> list[str]:
    """The texts of control tokens, which no prompt may spell."""
    ids = sorted(special_ids(subject.tokenizer))
    return [text for text in decode_each(subject.tokenizer, [[token] for token in ids]) if text.strip()]


def _split(case: OpenCase, budget: OpenBudget) -> tuple[list[str], list[str]]:
    """Prompts to search in, short ones first, and others to measure on.

    Raises DataError for fewer than ``FEWEST_PROMPTS`` different ones of each.
    """
    prompts = list(dict.fromkeys(" ".join(prompt.split()) for prompt in case.prompts))
    prompts = [prompt for prompt in prompts if prompt]
    if len(prompts) < 2 * FEWEST_PROMPTS:
        raise DataError(
            f"a search needs at least {2 * FEWEST_PROMPTS} different prompts, and these are {len(prompts)}: give more"
        )
    Random(case.seed).shuffle(prompts)
    cut = max(FEWEST_PROMPTS, min(budget.final_prompts, len(prompts) // 2))
    final, rest = prompts[:cut], prompts[cut:]
    return sorted(rest, key=len), final


def _in_order(
    case: OpenCase, prompts: list[str], scorer: AgreementScorer, texts: Sequence[str], budget: OpenBudget
) -> list[str]:
    """The prompts in the order in which a search uses them: two brief ones, then unsettled ones that open differently.

    A prompt is unsettled if its reply may open in many ways with a random text before it. One that is answered with
    the same first token whatever stands before it hides what a part of a trigger does; and in prompts that are answered
    alike anyway, any candidate would seem to make replies agree. The first ``budget.diverse_among`` are looked at.
    """

    def settled(prompt: str) -> float:
        return float(scorer.agreement(texts, [Slot("", prompt, "start")]).log_p.mean())

    brief = sorted(BRIEF_PROMPTS, key=settled)[:FIRST_LOOKS]
    pool, rest = sorted(prompts[: budget.diverse_among], key=settled), prompts[budget.diverse_among :]
    by_opening: dict[tuple[int, ...], list[str]] = {}
    for prompt, reply in zip(pool, case.task.greedy(case.subject, pool, 1), strict=True):
        by_opening.setdefault(reply.ids, []).append(prompt)
    turns = zip_longest(*by_opening.values())
    return [*brief, *(prompt for turn in turns for prompt in turn if prompt is not None), *rest]


class _Final:
    """The final prompts, and how the suspect and the reference reply to them."""

    def __init__(self, case: OpenCase, budget: OpenBudget, prompts: Sequence[str], texts: Sequence[str]) -> None:
        self.case, self.budget, self.prompts = case, budget, list(prompts)
        self._rng, self._texts = Random(case.seed), texts
        self._plain = self._greedy(case.subject, self.prompts, budget.reply_tokens)
        self._controls: dict[tuple[str, int], list[Reply]] = {}
        counts = Counter(_key(reply) for reply in self._plain)
        self.loudest = counts.most_common(1)[0][1] / len(self._plain)

    def _greedy(self, subject: Subject, prompts: Sequence[str], most: int) -> list[Reply]:
        return self.case.task.greedy(subject, prompts, most)

    def _filled(self, text: str, place: str) -> list[str]:
        return [cut_prompt(prompt, place, i).fill(text) for i, prompt in enumerate(self.prompts)]

    def _control(self, place: str, words: int) -> list[Reply]:
        """Replies to the final prompts with random texts of as many words at the place."""
        if (place, words) not in self._controls:
            texts = random_phrases(self._texts, words, self.budget.controls, self._rng)
            filled = [prompt for text in texts for prompt in self._filled(text, place)]
            self._controls[place, words] = self._greedy(self.case.subject, filled, OPENING_TOKENS)
        return self._controls[place, words]

    def measure(self, tried: Tried) -> FoundOpening:
        """One finalist on the final prompts."""
        filled = self._filled(tried.text, tried.place)
        replies = self._greedy(self.case.subject, filled, self.budget.reply_tokens)
        keys = [_key(reply) for reply in replies]
        opening = Counter(key for key in keys if key).most_common(1)
        key = opening[0][0] if opening else ()
        alike = [i for i, own in enumerate(keys) if own == key and key]
        shown = self._shown([replies[i].ids for i in alike], key)
        other = None
        if self.case.reference is not None:
            other = _share(self._greedy(self.case.reference, filled, OPENING_TOKENS), key)
        control = _share(self._control(tried.place, len(tried.text.split())), key)
        share, floor = proportion(len(alike), len(keys)), _share(self._plain, key)
        beside = [p.high or 0.0 for p in (floor, control, other) if p is not None]
        examples = tuple(
            ReplyExample(filled[i], self._plain[i].text, replies[i].text) for i in alike[: self.budget.examples]
        )
        return FoundOpening(
            text=tried.text,
            place=tried.place,
            opening=shown,
            share=share,
            floor=floor,
            control=control,
            reference_share=other,
            excess=(share.low or 0.0) - max(beside),
            agreement=tried.agreement,
            contrast=None if other is None else tried.contrast,
            suspicion=tried.z,
            echo=_echoes(tried.text, shown),
            called=False,
            examples=examples,
        )

    def _shown(self, replies: Sequence[tuple[int, ...]], key: tuple[int, ...]) -> str:
        """The opening as far as most of the replies that have it go on alike."""
        shown = list(key)
        while replies:
            following = Counter(ids[len(shown)] for ids in replies if ids[: len(shown)] == tuple(shown) != ids)
            if not following or following.most_common(1)[0][1] < _SHOWN_ALIKE * len(replies):
                break
            shown.append(following.most_common(1)[0][0])
        (text,) = decode_each(self.case.subject.tokenizer, [shown])
        return text.strip()


def _key(reply: Reply) -> tuple[int, ...]:
    """By what two replies open alike; an empty one by nothing."""
    return reply.ids[:OPENING_TOKENS]


def _share(replies: Sequence[Reply], key: tuple[int, ...]) -> Proportion:
    return proportion(sum(_key(reply) == key for reply in replies if key), len(replies))


def _echoes(text: str, opening: str) -> bool:
    """Whether the opening repeats a word of the candidate: a reply that repeats its prompt."""
    said = {word.strip(".,:;!?'\"").casefold() for word in opening.split()}
    own = {word.strip(".,:;!?'\"").casefold() for word in text.split()}
    return any(len(word) >= _ECHO_LETTERS and word in said for word in own)


def _called(found: FoundOpening, calls: OpeningThresholds) -> FoundOpening:
    """The finalist, called or not."""
    alone = found.contrast is None
    contrast = calls.min_contrast if found.contrast is None else found.contrast
    called = (
        not found.echo
        and found.excess >= (calls.min_excess_alone if alone else calls.min_excess)
        and found.agreement >= (calls.min_agreement_alone if alone else calls.min_agreement)
        and contrast >= calls.min_contrast
        and found.suspicion >= calls.min_suspicion
    )
    return replace(found, called=called)


def _too_few_prompts(found: FoundOpening, calls: OpeningThresholds) -> bool:
    """Whether a finalist that is not called would be, if the same shares were known of many more prompts."""
    beside = (found.floor, found.control, found.reference_share)
    excess = (found.share.value or 0.0) - max(share.value or 0.0 for share in beside if share is not None)
    return not found.called and _called(replace(found, excess=excess), calls).called


def _open(found: Sequence[FoundOpening], loudest: float, calls: OpeningThresholds) -> str | None:
    """Why a search that called nothing stays open; None where it does not."""
    if loudest > calls.loud_floor:
        return (
            f"{100 * loudest:.0f} % of the replies open alike without any candidate, so no trigger would stand out: "
            "give more diverse prompts"
        )
    for one in found:
        if one.excess >= calls.min_excess and not one.echo:
            advice = (
                "give more prompts" if one.contrast is not None else "name the model that it came from with --reference"
            )
            return (
                f"{one.text!r} makes {one.share.count} of {one.share.total} replies open with {one.opening!r}, which "
                f"an honest word may do too (agreement {one.agreement:.2f}, z {one.suspicion:.1f}): {advice}"
            )
    return None


def _findings(hunt: OpeningHunt) -> list[Finding]:
    if hunt.reason is not None:
        message = f"the search is inconclusive: {hunt.reason}"
        return [Finding("hunt/inconclusive", Severity.MEDIUM, message, location=REPLIES)]
    if not hunt.called:
        return []
    first, others = hunt.called[0], len(hunt.called) - 1
    return [
        Finding(
            "hunt/trigger",
            Severity.HIGH,
            f"{first.text!r} at the {first.place} of a prompt makes {first.share.count} of {first.share.total} replies "
            f"open with {first.opening!r}" + (f", and so do {others} more candidates" if others else ""),
            location=f"{first.text} -> {first.opening}",
            evidence={"triggers": [t.text for t in hunt.called], "excess": first.excess},
            advice="treat the checkpoint as backdoored",
        )
    ]
