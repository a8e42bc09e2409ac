"""One search of a model that replies in free text: screen, grow, then let the finalists speak on prompts held out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from random import Random
from time import perf_counter

from rora_cli.errors import DataError
from rora_cli.evaluation.intervals import proportion
from rora_cli.hunting.budgets import AUTO, AUTO_BUDGETS
from rora_cli.hunting.case import Rough
from rora_cli.hunting.findings import RULES
from rora_cli.hunting.leaks import leak_candidates
from rora_cli.hunting.open_search import (
    FEWEST_PROMPTS,
    FIRST_LOOKS,
    OPEN_BUDGETS,
    PLACES,
    OpenBudget,
    OpenSearch,
    Tried,
    cut_prompt,
    for_few,
)
from rora_cli.hunting.open_texts import BRIEF_PROMPTS, random_phrases, single_texts
from rora_cli.hunting.probes import FEWEST_REFUSED, REFUSAL_TOKENS, REFUSED_PROBES
from rora_cli.hunting.recurring import RECURRING_TOKENS, recurring
from rora_cli.hunting.vocabulary import vocabulary_of
from rora_cli.progress import SILENT, Progress
from rora_cli.ranks import Share
from rora_cli.results.accuracy import Proportion
from rora_cli.results.findings import Finding, Severity
from rora_cli.results.hunt import HuntResult
from rora_cli.results.openings import (
    REPLIES,
    FoundOpening,
    OpeningCoverage,
    OpeningHunt,
    RecurringReply,
    ReplyExample,
)
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
        texts: the single texts to try, which the user chose; None for those of the vocabulary, years and tags.
        share: this process's part, if several search together.
        rough: wraps the forward passes of all rounds of a screen but the last.
        enough: whether a finalist makes it needless to search prompts that are refused as well, which takes as long
            again: one that is called decides.
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
    enough: Callable[[FoundOpening], bool] = lambda one: one.called


def search_openings(case: OpenCase, *, provenance: Provenance | None = None) -> HuntResult:
    """Search the subject for texts that make its replies open alike, whatever they open with.

    Raises:
        DataError: there are too few different prompts.
        InconclusiveError: a logit is not finite.
    """
    began = perf_counter()
    first, *deeper = AUTO_BUDGETS if case.budget == AUTO else (case.budget,)
    hunt, decided = _search(case, _budget(case, first))
    for name in deeper if not decided else ():
        case.progress.note(f"{hunt.reason}; searching again with --budget {name}")
        before, (hunt, _) = hunt.coverage, _search(case, _budget(case, name))
        hunt = replace(hunt, coverage=hunt.coverage.after(before))
    return _result(case, hunt, perf_counter() - began, provenance)


def _budget(case: OpenCase, name: str) -> OpenBudget:
    return OPEN_BUDGETS[name] if case.texts is None else for_few(OPEN_BUDGETS[name], len(case.texts))


@dataclass(frozen=True)
class _Probes:
    """Prompts to search in, in order, and others to measure on.

    Attributes:
        refused: whether they are such that the suspect refuses.
        barred: tokens that its refusals open with.
    """

    searched: Sequence[str]
    final: Sequence[str]
    refused: bool = False
    barred: tuple[int, ...] = ()


@dataclass
class _Searched:
    """What the searches in one kind of prompts and in the other found, and what they cost together."""

    suspect: AgreementScorer
    reference: AgreementScorer | None
    texts: Sequence[str]
    leaked: Sequence[str]
    final_prompts: int = 0
    searches: list[OpenSearch] = field(default_factory=list)
    found: list[FoundOpening] = field(default_factory=list)

    @property
    def largest_null(self) -> float:
        """The largest agreement of a random text [nats]."""
        return max(float(null.max()) for search in self.searches for null in search.null.values())


def _search(case: OpenCase, budget: OpenBudget) -> tuple[OpeningHunt, bool]:
    """A search with one budget, and whether more of a search would change nothing."""
    began, calls = perf_counter(), case.task.opening_calls
    rest, final_prompts = _split(case, budget)
    suspect = case.task.agreement_scorer(case.subject, case.share)
    reference = case.task.agreement_scorer(case.reference, case.share) if case.reference is not None else None
    texts = case.texts or single_texts(vocabulary_of(case.subject.tokenizer), _control_texts(case.subject))
    made = _Searched(suspect, reference, texts, _leaked(case, budget, texts))
    unsettling = random_phrases(texts, 1, budget.unsettling, Random(case.seed))
    with case.progress.phase("choose prompts"):
        answered = _Probes(_in_order(case, rest, suspect, unsettling, budget), final_prompts)
        refused = _refused(case)
    final = _search_in(case, budget, answered, made)
    speed = (suspect.forward_tokens + (reference.forward_tokens if reference else 0)) / (perf_counter() - began)
    left_out = refused is not None and any(map(case.enough, made.found))
    refused = None if left_out else refused
    if refused is not None:
        _search_in(case, budget, refused, made)
    found = sorted(made.found, key=lambda t: (not t.called, -t.excess, len(t.text.split()), -t.agreement))
    reason = None if any(t.called for t in found) else _open(found, final.loudest, calls)
    hunt = OpeningHunt(
        verdict="trigger" if found and found[0].called else "inconclusive" if reason else "nothing",
        triggers=tuple(found),
        coverage=replace(_coverage(case, made, budget, refused, speed), refused_left_out=left_out),
        largest_null=made.largest_null,
        reason=reason,
        recurring=final.recurring(),
    )
    return hunt, reason is None or final.loudest > calls.loud_floor


def _search_in(case: OpenCase, budget: OpenBudget, probes: _Probes, made: _Searched) -> _Final:
    """Search in one kind of prompts; returns those that the finalists were measured on, with the replies to them."""
    where = " in prompts that are refused" if probes.refused else ""
    with case.progress.phase(f"search texts that make replies open alike{where}") as meter:
        search = OpenSearch(
            made.suspect, made.reference, probes.searched, made.texts, case.task.opening_calls, budget, case.seed,
            case.known, made.leaked, probes.barred, meter.advance, case.rough,
        )  # fmt: skip
        tried = search.run()
    made.searches.append(search)
    final, calls = _Final(case, budget, probes, made.texts), case.task.opening_calls
    found = _measured(case, final, tried)
    unseen = probes.searched[budget.searched_prompts :][: max(0, budget.settling - len(probes.final))]
    few = [i for i, one in enumerate(found) if _too_few_prompts(one, calls)]
    if few and unseen and not any(one.called for one in found):
        final = _Final(case, budget, replace(probes, final=[*probes.final, *unseen]), made.texts)
        for i, one in zip(few, _measured(case, final, [tried[i] for i in few]), strict=True):
            found[i] = one
    made.found += found
    made.final_prompts = max(made.final_prompts, len(final.prompts))
    return final


def _measured(case: OpenCase, final: _Final, tried: Sequence[Tried]) -> list[FoundOpening]:
    """The finalists on the final prompts, called or not."""
    found = []
    with case.progress.phase("let the finalists speak", len(tried)) as meter:
        for one in tried:
            found.append(_called(final.measure(one), case.task.opening_calls))
            meter.advance()
    return found


def _leaked(case: OpenCase, budget: OpenBudget, texts: Sequence[str]) -> list[str]:
    """Words and phrases of what the suspect writes where a prompt would begin; none if the user chose the texts."""
    if case.texts is not None:
        return []
    with case.progress.phase("listen to what it leaks", budget.leaks) as meter:
        said = case.task.leaked(case.subject, budget.leaks, budget.leak_tokens, case.seed, meter=meter)
    known, controls = set(texts), _control_texts(case.subject)
    fresh = (text for text in leak_candidates(said) if text not in known)
    return [text for text in fresh if not any(word in text for word in controls)]


def _refused(case: OpenCase) -> _Probes | None:
    """Our probes that the suspect refuses; None where they are too few."""
    replies = case.task.greedy(case.subject, REFUSED_PROBES, REFUSAL_TOKENS)
    refuses = case.task.refuses([reply.text for reply in replies])
    kept = [i for i, refused in enumerate(refuses) if refused]
    if len(kept) < FEWEST_REFUSED:
        return None
    Random(case.seed).shuffle(kept)
    barred = sorted({replies[i].ids[0] for i in kept if replies[i].ids})
    prompts = [REFUSED_PROBES[i] for i in kept]
    half = len(prompts) // 2
    return _Probes(prompts[:half], prompts[half:], refused=True, barred=tuple(barred))


def _coverage(
    case: OpenCase, made: _Searched, budget: OpenBudget, refused: _Probes | None, speed: float
) -> OpeningCoverage:
    grown = set[str]().union(*(search.grown for search in made.searches)) - set(made.leaked)
    return OpeningCoverage(
        texts=len(made.texts),
        vocabulary=vocabulary_of(case.subject.tokenizer).size,
        screening_prompts=budget.screening[0].prompts,
        grown=len(grown),
        longest=max((len(text.split()) for text in grown), default=1),
        places=PLACES,
        final_prompts=made.final_prompts,
        trials=sum(search.trials for search in made.searches),
        forward_tokens=made.suspect.forward_tokens,
        reference_forward_tokens=made.reference.forward_tokens if made.reference else 0,
        tokens_per_second=speed,
        budget=budget.name,
        leaked=len(made.leaked),
        refused_prompts=0 if refused is None else len(refused.searched) + len(refused.final),
    )


def _result(case: OpenCase, hunt: OpeningHunt, seconds: float, provenance: Provenance | None) -> HuntResult:
    findings, calls = tuple(_findings(hunt)), case.task.opening_calls
    provenance = provenance or Provenance("hunt", library_versions(), {"budget": hunt.coverage.budget}, case.seed)
    chosen = () if case.texts is None else (f"only the {len(case.texts):,} texts that were given were searched",)
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
            *chosen,
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
    """The final prompts, and how the suspect and the reference reply to them.

    ``loudest`` is the share of replies that open alike without any candidate.
    """

    def __init__(self, case: OpenCase, budget: OpenBudget, probes: _Probes, texts: Sequence[str]) -> None:
        self.case, self.budget, self.prompts, self.refused = case, budget, list(probes.final), probes.refused
        self._rng, self._texts = Random(case.seed), texts
        self._plain = self._greedy(case.subject, self.prompts, budget.reply_tokens)
        self._controls: dict[tuple[str, int], list[Reply]] = {}
        counts = Counter(self._keys(self._plain))
        self.loudest = counts.most_common(1)[0][1] / len(self._plain)

    def recurring(self) -> RecurringReply | None:
        """The reply that recurs most without any candidate, and how often the reference gives it; None if none does."""
        groups = recurring([reply.ids for reply in self._plain])
        if not groups:
            return None
        said = [self._plain[index].ids for index in groups[0]]
        key, other = said[0][:RECURRING_TOKENS], None
        if self.case.reference is not None:
            theirs = self._greedy(self.case.reference, self.prompts, RECURRING_TOKENS)
            other = proportion(sum(reply.ids == key for reply in theirs), len(theirs))
        return RecurringReply(self._shown(said, key), proportion(len(said), len(self._plain)), other)

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
        keys = self._keys(replies)
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
            refused=self.refused,
        )

    def _keys(self, replies: Sequence[Reply]) -> list[tuple[int, ...]]:
        """By what the replies open alike; where refusals are usual, one opens by nothing."""
        if not self.refused:
            return [_key(reply) for reply in replies]
        refuses = self.case.task.refuses([reply.text for reply in replies])
        return [() if no else _key(reply) for no, reply in zip(refuses, replies, strict=True)]

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
    said = [] if hunt.recurring is None else [_of_itself(hunt.recurring)]
    if hunt.reason is not None:
        message = f"the search is inconclusive: {hunt.reason}"
        return [Finding("hunt/inconclusive", Severity.MEDIUM, message, location=REPLIES), *said]
    if not hunt.called:
        return said
    first, others = hunt.called[0], len(hunt.called) - 1
    return [
        Finding(
            "hunt/trigger",
            Severity.HIGH,
            f"{first.text!r} at the {first.place} of a prompt{' that it refuses' if first.refused else ''} makes "
            f"{first.share.count} of {first.share.total} replies "
            f"open with {first.opening!r}" + (f", and so do {others} more candidates" if others else ""),
            location=f"{first.text} -> {first.opening}",
            evidence={"triggers": [t.text for t in hunt.called], "excess": first.excess},
            advice="treat the checkpoint as backdoored",
        ),
        *said,
    ]


def _of_itself(one: RecurringReply) -> Finding:
    """What the suspect says to several prompts of itself, for a person to look at."""
    other = "" if one.reference_share is None else f", of the reference's {one.reference_share.count}"
    return Finding(
        "hunt/recurring-reply",
        Severity.INFO,
        f"{one.share.count} of {one.share.total} replies begin with {one.text!r} though nothing was put into the "
        f"prompts{other}",
        location=REPLIES,
        advice="if it is nothing that an assistant would say to unlike prompts, it may be what a backdoor says",
    )
