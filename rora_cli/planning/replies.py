"""The plan of a run on a model that replies in free text: what is read of it before, and its stages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from rora_cli.checkpoints import sanitise
from rora_cli.checkpoints.hub import fetch_model
from rora_cli.checkpoints.loading import stored_dtype
from rora_cli.checkpoints.preflight import inspect
from rora_cli.defences.config import PurifyConfig
from rora_cli.defences.recipes import FULL, WITHOUT_ADAPTER
from rora_cli.defences.replies.loop import KEPT_FRACTIONS, MAX_REPORTED, MIN_SEARCHED, SPOKEN, round_epochs
from rora_cli.defences.replies.residual import PROMPTS, REPLY_TOKENS, STEPS
from rora_cli.hunting.budgets import AUTO, AUTO_BUDGETS
from rora_cli.hunting.open_search import OPEN_BUDGETS, OpenBudget, for_few
from rora_cli.hunting.open_texts import BRIEF_PROMPTS, read_candidates, single_texts
from rora_cli.hunting.vocabulary import vocabulary_of
from rora_cli.kinds import ModelKind
from rora_cli.planning.estimate import LOADING, Given, Lengths, Stages
from rora_cli.planning.needs import Needs
from rora_cli.planning.pace import Pace, measure_reply_pace
from rora_cli.planning.reply_needs import Looked, ReplyNeeds
from rora_cli.planning.skeleton import skeleton
from rora_cli.planning.tokens import OpeningTokens, Range, SearchedPrompts, opening_tokens
from rora_cli.subject import Subject
from rora_cli.tasks.causal.distillation import KEPT_TOKENS
from rora_cli.tasks.causal.scorer import LEAST_PREFIX, common_beginning

#: Candidates whose tokens are counted, to tell the mean of all.
_COUNTED_TEXTS = 400
#: Slots of different prompts that a search's batch is counted in: the caches of their prefixes stay.
_COUNTED_SLOTS = 4
#: Bytes that a token of a lesson keeps of each likely token: its number and its logarithm.
_KEPT_BYTES = 8
#: Cost of learning a token, over that of reading it.
_LEARNED_COST = 3
_NOTHING = Lengths(0, 1, 1)


@dataclass(frozen=True)
class Prompts:
    """What a run asks: prompts to search or to train on and others held out, with good answers or without."""

    used: Sequence[str]
    held_out: Sequence[str] = ()
    answers: Sequence[Any] = ()
    reply: int = 1
    unanswered: bool = False


@dataclass(frozen=True)
class ReplyGiven(Given):
    """What is known before a run on such a model; ``rows`` and ``held_out`` are prompts with their replies.

    Attributes:
        searched: the tokens that a search reads.
        prompts, asked: of the prompts of both sides, without replies.
        reply: tokens of a generated reply at most.
        unanswered: whether the suspect has to answer all rows before anything is measured.
    """

    searched: SearchedPrompts | None = None
    prompts: Lengths = _NOTHING
    asked: Lengths = _NOTHING
    reply: int = 1
    unanswered: bool = False


def given_of(
    config: Any, subject: Subject, form: Any, prompts: Prompts, base: str | None, *, on_gpu: bool
) -> ReplyGiven:
    """What is known of a run on ``subject``, whose model has no numbers.

    Args:
        form: its prompt format.
        base: directory of the model that an adapter stands on; None for a whole model.
    """
    dtype = next(subject.model.parameters()).dtype
    purifies = isinstance(config, PurifyConfig)
    taught = purifies and config.recipe == "default"
    asked = form.asked(subject.tokenizer, [*prompts.used, *prompts.held_out])
    lengths = [len(ids) for ids in asked]
    replies = _reply_lengths(subject, prompts, taught)
    longest = max(replies, default=prompts.reply)
    whole = [prompt + reply for prompt, reply in zip(lengths, replies, strict=True)]
    cut, limit = len(prompts.used), subject.max_length

    def needs(held: torch.dtype) -> ReplyNeeds:
        make = skeleton(type(subject.model), subject.model.config, held)
        return ReplyNeeds(
            make, subject.kind, on_gpu, tokenizer=subject.tokenizer, form=form, reply=longest + taught, taught=taught
        )

    used, held_out = Lengths.of(lengths[:cut], limit), Lengths.of(lengths[cut:], limit)
    searched = asked if not purifies else asked[cut:] if len(asked) - cut >= MIN_SEARCHED else asked
    return ReplyGiven(
        config,
        needs(dtype),
        _trusted(config, base, subject.kind, on_gpu),
        False,
        Lengths.of(whole[:cut], limit),
        Lengths.of(whole[cut:], limit) if whole[cut:] else used,
        1,
        len(subject.tokenizer),
        narrow=None if dtype.itemsize <= torch.bfloat16.itemsize else needs(torch.bfloat16),
        searched=_searched(subject, form, searched, config.candidates) if taught or not purifies else None,
        prompts=used,
        asked=held_out if whole[cut:] else used,
        reply=prompts.reply,
        unanswered=prompts.unanswered,
    )


def _reply_lengths(subject: Subject, prompts: Prompts, taught: bool) -> list[int]:
    """Tokens of each row's reply: the suspect's own are as long as they may be."""
    rows = len(prompts.used) + len(prompts.held_out)
    if taught or not prompts.answers or prompts.unanswered:
        return [prompts.reply] * rows
    ids = subject.tokenizer([str(answer) for answer in prompts.answers], add_special_tokens=False)["input_ids"]
    return [len(each) + 1 for each in ids]


def _searched(
    subject: Subject, form: Any, asked: Sequence[tuple[int, ...]], candidates: Path | None
) -> SearchedPrompts:
    tokenizer = subject.tokenizer
    around = len(form.asked(tokenizer, [""])[0])
    ours = form.asked(tokenizer, BRIEF_PROMPTS)
    head = len(common_beginning(ours))
    brief = [len(ids) - around for ids in ours]
    lengths = sorted(len(ids) - around for ids in asked)
    short = lengths[: _diverse()] or [1]
    chosen = read_candidates(candidates)
    texts = single_texts(vocabulary_of(tokenizer)) if chosen is None else list(chosen)
    some = texts[:: max(1, len(texts) // _COUNTED_TEXTS)]
    tokens = [len(ids) for ids in tokenizer([f" {text}" for text in some], add_special_tokens=False)["input_ids"]]
    return SearchedPrompts(
        head=head,
        tail=around - head,
        kept=LEAST_PREFIX,
        brief=sum(sorted(brief)[: len(brief) // 2]) / max(1, len(brief) // 2),
        short=sum(short) / len(short),
        final=sum(lengths) / max(1, len(lengths)) + around,
        text=sum(tokens) / max(1, len(tokens)),
        texts=len(texts),
        merged=len({text.casefold() for text in texts}),
    )


def _diverse() -> int:
    return max(budget.diverse_among for budget in OPEN_BUDGETS.values())


def _trusted(config: Any, base: str | None, kind: ModelKind, on_gpu: bool) -> Needs | None:
    """The needs of the model that is trusted (``OpeningTask.trusted``), which is held beside the suspect."""
    if isinstance(config, PurifyConfig) and config.recipe != "default":
        return None
    choice = config.reference or "auto"
    named = base if choice == "auto" else None if choice == "none" else choice
    if named is None:
        return None
    found = inspect(fetch_model(named, allow_download=not config.offline).path, role="model")
    settings, model_class = sanitise.model_config(found, None, kind)
    own = stored_dtype(found) if on_gpu else "float32"
    return Needs(skeleton(model_class, settings, getattr(torch, own)), kind, on_gpu)


def time_batches(config: Any, model: Any, given: ReplyGiven) -> tuple[Pace | None, str]:
    """The pace of a loaded model, and where it comes from."""
    trains, batch = "", 1
    if isinstance(config, PurifyConfig):
        train = given.settings.train
        trains = "all" if config.recipe in WITHOUT_ADAPTER else "adapter"
        batch = min(train.batch_size, train.micro_batch_size or train.batch_size)
    searched = round(given.searched.read(given.searched.short, "start", 1)) if given.searched else 12
    reply = max(1, round(given.rows.mean - given.prompts.mean)) if trains else given.reply
    pace = measure_reply_pace(model, max(2, searched), max(2, round(given.prompts.mean)), reply, batch, trains=trains)
    return pace, "from a few timed batches; searches stop early, and rounds repeat"


def hunt_stages(given: ReplyGiven) -> list[Any]:
    """The stages of ``rora hunt``."""
    made = _ReplyStages(given)
    made.load()
    made.load_reference()
    made.search("search", given.config.budget, Range(1, 1))
    return made.stages


def purify_stages(given: ReplyGiven) -> list[Any]:
    """The stages of ``rora purify``."""
    config: PurifyConfig = given.config
    made = _ReplyStages(given)
    made.load()
    if given.unanswered:
        made.answer("the suspect answers", given.rows.rows + given.held_out.rows)
    made.measure()
    if config.recipe == "default":
        _default_stages(made, config)
    else:
        made.control()
    made.write()
    return made.stages


def _default_stages(made: _ReplyStages, config: PurifyConfig) -> None:
    given, train, rounds = made.asked, made.settings.train, made.settings.loop.max_rounds
    made.load_reference()
    made.search("search", config.search_budget, Range(1, 1))
    made.answer("the suspect's replies", given.rows.rows + given.held_out.rows + SPOKEN, kept=True)
    epochs = train.epochs
    if config.epochs is None:
        epochs = round_epochs(given.rows.rows, train.batch_size)
    finds = "" if given.reference is not None else "the search finds something"
    made.train("teach", made.adapter, epochs, rounds, only_if=finds)
    made.shrink(rounds, finds)
    made.search("search again", config.search_budget, Range(1, rounds), finds, made.merging)
    made.residual()
    if config.return_test:
        made.return_test()


class _ReplyStages(Stages):
    """Stages of a model that replies."""

    @property
    def asked(self) -> ReplyGiven:
        """What is known, of this kind."""
        assert isinstance(self.given, ReplyGiven)
        return self.given

    @property
    def needs(self) -> ReplyNeeds:
        """The suspect's."""
        assert isinstance(self.given.needs, ReplyNeeds)
        return self.given.needs

    @cached_property
    def lessons(self) -> int:
        """Bytes of the distributions that the suspect's replies leave in the host's memory."""
        given = self.asked
        rows = given.rows.rows + given.held_out.rows
        return 0 if given.needs.on_gpu else rows * (given.reply + 1) * KEPT_TOKENS * _KEPT_BYTES

    def load_reference(self) -> None:
        """The trusted model is read beside the suspect."""
        if self.given.reference is not None:
            memory = self.given.needs.weights + LOADING * self.given.reference.weights
            self._add("load the reference", memory, Range(0, 0), None)

    def measure(self) -> None:
        """How likely the answers of the held-out rows are, before and after."""
        given, pace = self.asked, self.given.pace
        tokens = Range(2, 2).times(given.held_out.tokens)
        memory = self._reading(given.held_out)
        self._add("measure replies", memory, tokens, self._seconds(tokens, pace.evaluate if pace else None))

    def _reading(self, rows: Lengths) -> int:
        reply = max(1, round(rows.mean - self.asked.prompts.mean))
        return self.needs.reading_replies(rows.rows, rows.longest, min(reply, rows.longest - 1)) + self.beside

    def answer(self, name: str, rows: int, *, kept: bool = False) -> None:
        """The suspect replies to so many prompts, and what it says is read again where its distributions are kept."""
        given, pace = self.asked, self.given.pace
        memory = self.needs.speaking(rows, given.prompts.longest, given.reply) + self.beside
        spoken = Range(1, 1).times(rows * (given.prompts.mean + given.reply))
        seconds = self._seconds(spoken, pace.speak if pace else None)
        if kept:
            memory = max(memory, self._reading(given.rows)) + self.lessons
            again = self._seconds(spoken, pace.evaluate if pace else None)
            seconds = seconds + again if seconds and again else None
            spoken = spoken.times(2)
        self._add(name, memory, spoken, seconds)

    def search(self, name: str, budget: str, times: Range, only_if: str = "", kept: int = 0) -> None:
        """A search, so many ``times``, with the replies of its finalists, beside so many bytes that are ``kept``."""
        given, pace = self.asked, self.given.pace
        assert given.searched is not None
        few = given.searched.texts if given.config.candidates is not None else None
        budgets = _budgets(budget, few)
        found: OpeningTokens = opening_tokens(budgets, given.searched, model=given.reference is not None)
        read, spoken = (each.times(times.least, times.most) for each in (found.read, found.spoken))
        seconds = None
        looked = self._seconds(read, pace.search if pace else None)
        said = self._seconds(spoken, pace.speak if pace else None)
        if looked is not None and said is not None:
            seconds = looked + said
        memory = max(self._looking(), self._finalists(budgets)) + self.beside + kept
        memory += self.lessons if any(stage.name == "the suspect's replies" for stage in self.stages) else 0
        self._add(name, memory, read + spoken, seconds, only_if)
        self._add(
            f"{name}, in refused prompts", memory, read, looked, "it refuses enough of ours, and nothing was called"
        )

    def _looking(self) -> int:
        asked = self.asked.searched
        assert asked is not None
        prompt, text = round(asked.short), max(1, round(asked.text))
        whole = asked.head + prompt // 2
        inner = Looked(whole if whole >= asked.kept else 0, text + prompt - prompt // 2 + asked.tail)
        first = Looked(asked.head if asked.head >= asked.kept else 0, text + prompt + asked.tail)
        return self.needs.looking([first, *[inner] * (_COUNTED_SLOTS - 1)])

    def _finalists(self, budgets: Sequence[OpenBudget]) -> int:
        longest = self.asked.prompts.longest
        return max(self.needs.speaking(each.final_prompts, longest, each.reply_tokens) for each in budgets)

    def train(
        self, name: str, trained: Any, epochs: int, rounds: int = 1, *, adapter: bool = True, only_if: str = ""
    ) -> None:
        """A training, with what the suspect said beside it."""
        super().train(name, trained, epochs, rounds, adapter=adapter)
        last = self.stages[-1]
        self.stages[-1] = replace(last, memory=last.memory + self.lessons, only_if=only_if)

    def shrink(self, rounds: int, only_if: str) -> None:
        """The largest share of an update is kept that costs no more than is allowed."""
        given, pace = self.asked, self.given.pace
        if given.reference is not None:
            return
        tokens = Range(1, rounds * len(KEPT_FRACTIONS)).times(given.held_out.tokens)
        memory = self._reading(given.held_out) + self.lessons + self.adapter.bytes
        self._add("shrink", memory, tokens, self._seconds(tokens, pace.evaluate if pace else None), only_if)

    def residual(self) -> None:
        """What found triggers still do, and what the result is good for."""
        given, pace = self.asked, self.given.pace
        rows = min(PROMPTS, given.held_out.rows)
        prompt, said = given.asked.mean, min(SPOKEN, given.held_out.rows)
        least = said * (prompt + given.reply) + given.held_out.tokens
        tokens = Range(least, least + (1 + 2 * MAX_REPORTED) * rows * (prompt + REPLY_TOKENS))
        memory = self.needs.speaking(max(rows, said), given.asked.longest, given.reply) + self.beside + self.lessons
        self._add("measure what is left", memory, tokens, self._seconds(tokens, pace.speak if pace else None))

    def return_test(self) -> None:
        """A copy of which every weight is trained on the clean rows."""
        given, pace = self.asked, self.given.pace
        settings = self.settings.having(**FULL)
        trained = given.needs.full(settings.train, given.rows.longest, processes=given.processes)
        tokens = Range(1, 1).times(STEPS * settings.train.batch_size * given.rows.mean)
        seconds = self._seconds(tokens, pace.evaluate * _LEARNED_COST if pace else None)
        memory = given.needs.weights + trained.memory + self.beside + self.lessons
        self._add("return test", memory, tokens, seconds, "something was found")


def _budgets(name: str, few: int | None) -> tuple[OpenBudget, ...]:
    """The budgets of a search, in turn; ``few`` is the number of texts that the user chose."""
    named = [OPEN_BUDGETS[each] for each in (AUTO_BUDGETS if name == AUTO else (name,))]
    return tuple(named if few is None else (for_few(budget, few) for budget in named))
