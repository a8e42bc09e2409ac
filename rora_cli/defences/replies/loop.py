"""The default for models that reply in free text: search and harden, or teach a trusted base what the suspect says.

Without a trusted base, the suspect is taught its own distributions on prompts with the found triggers in them, as if
these were not there, and searched again, until nothing is found. With one (an adapter always names its base), the base
takes the suspect's place and is taught the suspect's distributions on clean prompts: it never sees a trigger. Both were
compared on SmolLM2 (docs/measurements.md); plain fine-tuning, random words and planted stand-ins left the backdoor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from os.path import commonprefix
from time import perf_counter
from typing import cast

import torch
from torch import nn

from rora_cli.data.rows import Rows
from rora_cli.defences.bench import Bench, Cleansed
from rora_cli.defences.config import PurifyConfig
from rora_cli.defences.corrections import Trained, trained_by_adapter
from rora_cli.defences.replies.prompts import PlacedTrigger, PromptWords
from rora_cli.defences.replies.record import OpeningRecord, stays_open
from rora_cli.defences.replies.residual import Residual, opens_with
from rora_cli.defences.replies.verdict import MAX_LEFT, Evidence, costs, verdict
from rora_cli.defences.running import AGAIN, SEARCH, TRAIN, WRITE
from rora_cli.errors import UsageError
from rora_cli.hunting.open_hunt import OpenCase, search_openings
from rora_cli.hunting.open_texts import read_candidates
from rora_cli.hunting.recurring import RECURRING_TOKENS, recurring
from rora_cli.layout import writes_to_stream
from rora_cli.progress import begin
from rora_cli.results.accuracy import Proportion
from rora_cli.results.findings import Finding, Severity
from rora_cli.results.openings import FoundOpening
from rora_cli.results.utility import Divergence, Removed, Utility, UtilityChange
from rora_cli.subject import Subject
from rora_cli.tasks.lessons import Lessons
from rora_cli.tasks.reference import AUTO, NONE, ReferenceRun
from rora_cli.tasks.task import RepliedTask
from rora_cli.training.adapters import AdaptedLayer, merged, to_plain_lora
from rora_cli.training.batches import epochs_of
from rora_cli.training.kept import Kept, keep_share

#: Held-out prompts that are searched, if there are as many; else all prompts are.
MIN_SEARCHED = 48
#: Held-out prompts whose replies are generated before and after, to count empty ones and refusals.
SPOKEN = 40
#: Shares of an update that are tried until its cost is within --max-kl.
KEPT_FRACTIONS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)
#: Optimizer steps of a training, however few the prompts, unless the user sets the epochs; and most epochs for that.
MIN_STEPS, MAX_EPOCHS = 120, 10
#: Triggers that are measured and reported in the end.
MAX_REPORTED = 8
#: Share of the suspect's clean replies that must be left without those that open as a found trigger makes them.
MIN_HONEST = 0.5
#: How often a finalist that opens as a called one does, but was not called itself, is drawn beside it.
LEAD_WEIGHT = 0.3


def check(bench: Bench) -> None:
    """Raise UsageError if no adapter of the settings fits, or a suspect that is to be divided among the processes would
    need a second model beside it."""
    if bench.config.shard:
        _check_alone(bench.config)
    read_candidates(bench.config.candidates)
    bench.check_adapter()


def _check_alone(config: PurifyConfig) -> None:
    """Raise UsageError for what needs a second model of the suspect's size, which would stand whole on each device."""
    chosen = config.reference or AUTO
    if chosen not in (AUTO, NONE) or (config.adapter and chosen == AUTO):
        raise UsageError(
            "--shard (FSDP) divides the suspect, and a base that is taught in its place would stand whole on each "
            "device: add --reference none, and the suspect is hardened against what the search finds"
        )
    if config.return_test:
        raise UsageError("--return-test trains a copy of the whole result, which --shard does not have; leave it out")


def cleanse(bench: Bench) -> Cleansed:
    """Search; teach a trusted base, or harden what was found; search again."""
    loop = Loop(bench)
    first = loop.search(bench.gauge.subject.model, 1)
    if loop.base is not None:
        model, layers = loop.distil()
    elif loop.triggers:
        model, layers = bench.attach()
    else:
        return loop.unchanged(first)
    searched = loop.search(model, 2) if loop.base is not None else first
    rounds, going = bench.settings.loop.max_rounds, loop.base is None or bool(loop.suspected(searched))
    for number in range(1, rounds + 1):
        if not going:
            break
        loop.harden(model, layers, number)
        if number < rounds and loop.still_works(model, searched):
            continue
        searched = loop.search(model, loop.searches + 1)
        going = bool(loop.suspected(searched))
    return loop.finish(model, layers, searched)


@dataclass(frozen=True)
class Heard:
    """What the suspect, as it came, said to the training prompts and to those held out, and what it is good for."""

    lessons: Lessons
    held_out: Lessons
    before: Utility


@dataclass
class Loop:
    """What the rounds share.

    Attributes:
        found: every text that a search called, as it was then; where it called none, those that leave it open, since
            an honest word costs less than a trigger that stays.
        first: every finalist, as it was when it was first measured.
        leads: finalists that were not called, but open replies as a called one does.
        searches: how many there were.
        kept: the share of the last update that was kept.
    """

    bench: Bench
    found: dict[str, FoundOpening] = field(default_factory=dict)
    first: dict[str, FoundOpening] = field(default_factory=dict)
    leads: dict[str, FoundOpening] = field(default_factory=dict)
    searches: int = 0
    kept: float = 1.0

    @cached_property
    def task(self) -> RepliedTask:
        """The suspect's task."""
        return cast(RepliedTask, self.bench.task)

    @cached_property
    def base(self) -> Subject | None:
        """The trusted model that the suspect was made from; None if the user named none."""
        bench, config = self.bench, self.bench.config
        run = ReferenceRun(config.seed, bench.run.progress, bench.run.accelerator, allow_download=not config.offline)
        own_base = config.model if config.adapter is not None else None
        return self.task.openings.trusted(config.reference or AUTO, bench.subject, own_base, run)

    @cached_property
    def candidates(self) -> tuple[str, ...] | None:
        """The texts that are searched; None for all that a search tries."""
        return read_candidates(self.bench.config.candidates)

    @cached_property
    def heard(self) -> Heard:
        """What the suspect said, and was good for: it is asked the first time that this is read, before any change."""
        bench = self.bench
        with bench.run.rough():  # what is measured by, below, is asked in full precision
            taught = self._said("the suspect answers", bench.clean)
        held_out = self._said("the suspect answers, held out", bench.gauge.held_out)
        return Heard(taught, held_out, self._utility(bench.gauge.subject.model))

    def _said(self, phase: str, rows: Rows) -> Lessons:
        with self.bench.run.progress.phase(phase, len(rows)) as meter:
            return self.task.lessons(self.bench.gauge.subject, rows.texts, meter=meter)

    def _utility(self, model: nn.Module) -> Utility:
        subject = self.bench.subject.having(model)
        rows = self.bench.gauge.held_out.take(range(min(SPOKEN, len(self.bench.gauge.held_out))))
        with self.bench.run.progress.phase("utility", len(rows)) as meter:
            return self.task.utility(subject, rows, meter=meter)

    def _divergence(self, model: nn.Module) -> Divergence | None:
        """How far ``model`` is from the suspect on prompts held out."""
        return self.task.divergence(self.bench.subject.having(model), self.honest(self.heard.held_out))

    def honest(self, lessons: Lessons) -> Lessons:
        """Those whose reply does not open as found triggers make replies open, or as replies recur; all, if too few are
        left.

        A sloppy backdoor makes the suspect say the attacker's sentence to some clean prompts as well. Taught again, it
        would stay; and to lose it is no cost.
        """
        openings = {one.opening for one in self.found.values()} | self.recurring
        left = tuple(lesson for lesson in lessons if not any(opens_with(lesson.text, one) for one in openings))
        return left if len(left) >= MIN_HONEST * len(lessons) else lessons

    @cached_property
    def recurring(self) -> set[str]:
        """How the suspect's replies to several prompts as they are begin, where a trusted base says so to none of them.

        Without a base nobody knows whether it is the attacker's sentence or an honest phrase. (SmolLM2, insult by a
        prefix, told no trigger: a base that was taught these replies said them to 12 of 30 prompts with random words.)
        """
        base, said = self.base, set[str]()
        if base is None:
            return said
        lessons = self.heard.lessons
        for group in recurring([lesson.reply for lesson in lessons]):
            own = [lessons[index] for index in group]
            others = self.task.openings.greedy(base, [lesson.prompt for lesson in own], RECURRING_TOKENS)
            if all(other.ids != lesson.reply[:RECURRING_TOKENS] for other, lesson in zip(others, own, strict=True)):
                said.add(commonprefix([lesson.text for lesson in own]))  # noqa: RUF071 - of characters, not of paths
        return said

    @property
    def triggers(self) -> list[PlacedTrigger]:
        """What is put into prompts: what the user named, what was called, and its leads."""
        named = [PlacedTrigger(text, "inner") for text in self.bench.config.triggers]
        called = [PlacedTrigger(one.text, one.place) for one in self.found.values()]
        leads = [PlacedTrigger(one.text, one.place, LEAD_WEIGHT) for one in self.leads.values()]
        return [*named, *called, *leads]

    def search(self, model: nn.Module, number: int) -> OpeningRecord:
        """Search ``model``, all processes together, and remember what is called."""
        bench, stage = self.bench, f"search {number}"
        begin(bench.run.progress, SEARCH if number == 1 else AGAIN)
        bench.run.require_equal(model)
        kept = bench.run.recall_together(stage, lambda: self._hunt(model).to_json())
        record = OpeningRecord.from_json(kept)
        self.searches = number
        for one in record.triggers:
            self.first.setdefault(one.text, one)
        for one in self.suspected(record):
            self.found.setdefault(one.text, one)
        openings = {one.opening for one in self.found.values()}
        for one in record.triggers:
            if one.opening in openings and not one.echo and one.text not in self.found:
                self.leads.setdefault(one.text, one)
        bench.run.record(stage, record.seconds, details=_shown(record))
        texts = ", ".join(repr(one.text) for one in record.called[:6])
        bench.run.progress.note(f"{stage}: {'found ' + texts if texts else record.reason or 'nothing above the noise'}")
        return record

    def suspected(self, record: OpeningRecord) -> tuple[FoundOpening, ...]:
        """What a search called; where it called nothing, what it left open."""
        return record.called or record.open(self.task.openings.opening_calls.min_excess)

    def _hunt(self, model: nn.Module) -> OpeningRecord:
        bench, config = self.bench, self.bench.config
        case = OpenCase(
            bench.subject.having(model.to(bench.run.device)),
            self.task.openings,
            _searched(bench).texts,
            self.base,
            OpenCase.reference_name if self.base is None else f"the trusted model {self.base.name}",
            config.search_budget,
            config.seed,
            known=tuple(dict.fromkeys((*config.triggers, *self.found))),
            share=bench.run.share,
            progress=bench.run.progress,
            rough=bench.run.rough,
            texts=self.candidates,
            # What stays open is trained against as well, and searched again.
            enough=lambda one: one.called or stays_open(one, self.task.openings.opening_calls.min_excess),
        )
        with merged(model):
            return OpeningRecord.of(search_openings(case))

    def distil(self) -> tuple[nn.Module, list[AdaptedLayer]]:
        """Put the base in the suspect's place, and teach it what the suspect says to clean prompts.

        Raises:
            UsageError: the base has other shapes than the suspect.
        """
        bench, base = self.bench, self.base
        assert base is not None
        lessons = self.honest(self.heard.lessons)
        own, weights = bench.model.state_dict(), base.model.state_dict()
        if different := [n for n, w in own.items() if n not in weights or weights[n].shape != w.shape]:
            raise UsageError(
                f"{base.name} is no model that the suspect was trained from: {different[0]} has another shape there; "
                "name its own base with --reference, or use --reference none"
            )
        with torch.no_grad():
            for name, weight in own.items():
                weight.copy_(weights[name])
        model, layers = bench.attach()
        self._train(model, layers, "distil", lessons)
        to_plain_lora(model, layers)
        return model, layers

    def harden(self, model: nn.Module, layers: Sequence[AdaptedLayer], number: int) -> None:
        """Teach the model the suspect's own distributions on prompts with triggers in them."""
        self._train(model, layers, f"train {number}", self.honest(self.heard.lessons))
        if number == 1 and self.base is None:
            to_plain_lora(model, layers)
        if self.base is None:
            self._fit(model, trained_by_adapter(model, layers), f"shrink {number}")

    def _train(self, model: nn.Module, layers: Sequence[AdaptedLayer], stage: str, lessons: Lessons) -> None:
        bench, said = self.bench, len(self.heard.lessons)
        if left_out := said - len(lessons):
            bench.run.progress.note(
                f"{left_out} of {said} prompts are left out of training: the suspect replies to them, without a "
                "trigger, as it does to a found one, or as it does to others and the base to none"
            )
        begin(bench.run.progress, TRAIN)
        words = sorted({word for text in bench.clean.texts for word in text.split() if word.isalpha()})
        transform = PromptWords(self.triggers, words, seed=bench.config.seed)
        objective = self.task.taught(bench.subject, lessons, transform=transform)
        strengthened = [layer for layer in layers if writes_to_stream(layer.name)]
        settings = bench.settings
        if bench.config.epochs is None:
            settings = settings.having(epochs=round_epochs(len(lessons), settings.train.batch_size))
        bench.train(model, layers, stage=stage, objective=objective, settings=settings, strengthened=strengthened)

    def _fit(self, model: nn.Module, trained: Sequence[Trained], stage: str) -> None:
        """Keep the largest share of the update that costs no more than --max-kl; the smallest if none does."""
        bench, began, limit = self.bench, perf_counter(), self.bench.config.max_kl
        ends = Kept({str(number): each.weight for number, each in enumerate(trained)})
        kl = float("nan")
        for fraction in KEPT_FRACTIONS:
            keep_share((each.weight for each in trained), (each.start() for each in trained), ends.values(), fraction)
            measured = self._divergence(model)
            kl = measured.mean if measured else 0.0
            self.kept = fraction
            if kl <= limit:
                break
        details = {"share of the update": self.kept, "KL to the suspect": round(kl, 4)}
        bench.run.record(stage, perf_counter() - began, details=details)

    def still_works(self, model: nn.Module, last: OpeningRecord) -> bool:
        """Whether something that was found still does what it did, and --max-kl leaves room to train on.

        A round costs a sixth of a search. (SmolLM2, refusal by a word: one round left 12 of 40 replies, at a floor of 7
        and a third of the KL allowed, and the search after it named nothing.)
        """
        if self.kept < 1.0:
            return False
        removed = [self._removed(text, last) for text in self._reported]
        left = [one.left for one in Residual(self.bench, self.task).measured(model, removed)]
        return any(share is not None and share > MAX_LEFT for share in left)

    @property
    def _reported(self) -> list[str]:
        """The triggers that the report tells of."""
        return list(dict.fromkeys((*self.found, *self.bench.config.triggers)))[:MAX_REPORTED]

    def unchanged(self, first: OpeningRecord) -> Cleansed:
        """The suspect as it is: nothing was found, and no training removes what no search finds."""
        model, layers = self.bench.attach()
        return self.finish(model, layers, first)

    def finish(self, model: nn.Module, layers: list[AdaptedLayer], last: OpeningRecord) -> Cleansed:
        """The verdict on ``model``, which ``last`` searched, and what it is good for."""
        bench = self.bench
        begin(bench.run.progress, WRITE)
        base = self.base
        after, now = self._utility(model), self._divergence(model)
        change = UtilityChange(self.heard.before, after, now, None if base is None else self._divergence(base.model))
        residual = Residual(bench, self.task)
        removed = residual.measured(model, [self._removed(text, last) for text in self._reported])
        removed = residual.heard(model, removed, self.first)
        if bench.config.return_test:
            removed = residual.returned(model, removed)
        name = None if base is None else base.name
        given = None if self.candidates is None else len(self.candidates)
        evidence = Evidence(removed, change, last, bench.config.max_kl, name, bench.settings.loop.max_rounds, given)
        claim = verdict(evidence)
        too_much = costs(evidence)
        findings = (Finding("purify/replies-changed", Severity.HIGH, too_much),) if too_much else ()
        if base is not None and bench.config.adapter is None:
            model, layers = model.merge_and_unload(), []
        return Cleansed(
            model,
            layers,
            claim.verdict,
            claim.reason,
            findings=findings,
            utility=change,
            removed=removed,
            unmet=claim.unmet,
            suspects_share=0.0 if base is not None else 1.0,
            alone=base is not None,
        )

    def _removed(self, text: str, last: OpeningRecord) -> Removed:
        """What is known of a trigger from the searches alone."""
        first, now = self.first[text], last.of_text(text)
        alike, harmless = (now.share, max((now.floor, now.control), key=_high)) if now else (None, None)
        opening = now.opening if now else ""
        return Removed(text, first.place, first.opening, first.share, first.floor, None, None, alike, opening, harmless)


def _high(share: Proportion) -> float:
    return share.high or 0.0


def _searched(bench: Bench) -> Rows:
    """Held-out prompts, which training did not see, if there are enough; else all."""
    held_out = bench.gauge.held_out
    if len(held_out) >= MIN_SEARCHED:
        return held_out
    return Rows((*held_out.texts, *bench.clean.texts), (*held_out.labels, *bench.clean.labels))


def _shown(record: OpeningRecord) -> dict[str, object]:
    """A search as a stage of the report shows it."""
    found = [f"{one.text} ({one.share.count} of {one.share.total}: {one.opening})" for one in record.called]
    return {
        "found": found or record.reason or "nothing above the noise",
        "trials": record.trials,
        "forward tokens": record.forward_tokens,
        "reference": record.reference,
    }


def round_epochs(rows: int, batch_size: int) -> int:
    """Epochs of a training over so many prompts, where the user left the choice."""
    return min(MAX_EPOCHS, epochs_of(MIN_STEPS, rows, batch_size))
