"""The default: search for triggers, train against what was found, search the result, until nothing is found.

Every choice is made from clean rows and the search alone. A suspect in which the first search finds nothing is still
trained with Cl and Pt, but the verdict is then inconclusive: nothing was found that could have been proven gone. A
clean ancestor that the user names is mixed in after the first search, as far as clean accuracy allows. If the search
named nothing, or maybe a part of a longer trigger, a student takes the suspect's place: all blocks or the upper ones
are taken from the reference's encoder, or drawn anew if there is none of the suspect's shape, and the suspect teaches
it. This weakens what no search finds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from time import perf_counter
from typing import Any

from torch import nn

from rora_cli.data.rows import Rows
from rora_cli.defences.bench import Bench, Cleansed, faster
from rora_cli.defences.claim import Claim
from rora_cli.defences.corrections import (
    KEPT_FRACTIONS,
    KEPT_FRACTIONS_OR_NONE,
    balance,
    rescale,
    shrink,
    trained_by_adapter,
)
from rora_cli.defences.default.claims import Case, part_of_a_trigger, verdict
from rora_cli.defences.default.escalation import Surgery, donor_of, replace_and_teach
from rora_cli.defences.default.lesson_plan import plan_lessons
from rora_cli.defences.default.memory import Memory
from rora_cli.defences.default.residual import Measuring, Turned, strongest_left
from rora_cli.defences.default.silence import measure_silence
from rora_cli.defences.default.strength import without_harmful_cl
from rora_cli.defences.hardening import HARDENED_FRACTION, Hardener
from rora_cli.defences.mix import check_ancestor, tuned_ancestor
from rora_cli.defences.running import AGAIN, SEARCH, TRAIN
from rora_cli.defences.settings import Settings
from rora_cli.defences.spectra import update_spectra
from rora_cli.evaluation.attack import most_with_room, with_room
from rora_cli.evaluation.inference import count_tokens
from rora_cli.hunting.case import Case as SearchCase
from rora_cli.hunting.case import SearchSettings
from rora_cli.hunting.hunt import search_triggers
from rora_cli.hunting.record import Found, SearchRecord, record_of
from rora_cli.power.covering import covering
from rora_cli.progress import begin
from rora_cli.results.accuracy import Proportion
from rora_cli.results.findings import Finding, Severity
from rora_cli.results.hunt import HuntResult
from rora_cli.results.power import POWER, Covering, Power
from rora_cli.results.spectra import ModuleSpectrum
from rora_cli.tasks.reference import Reference, ReferenceRun
from rora_cli.training.adapters import AdaptedLayer, merged, to_plain_lora
from rora_cli.training.batches import epochs_of

#: Held-out rows of each label; with as many, the held-out rows are searched, else those that training uses.
MIN_HELD_OUT_ROWS = 60
#: Tokens that a search reads of a row.
MAX_SEARCHED_TOKENS = 128
#: Optimizer steps of a round, however few the rows, unless the user sets the epochs.
MIN_STEPS = 280
#: The same where Cl is left out. Of a SmolLM2's `cf`, 50 steps left 11 % (floor 13), and 300 cost a class six points.
STEPS_WITHOUT_CL = 60
#: The same of the first round after a student, which is an epoch where the rows are not few.
STUDENT_STEPS = 30
#: Epochs that ``MIN_STEPS`` may lead to, and those of a model narrower than ``RATE_WIDTH``.
MAX_EPOCHS, NARROW_EPOCHS = 20, 40
#: Excess [fraction of rows] of a found trigger from which it is trained against again without a search between.
WORKS_ON = 0.05
#: Peak learning rate of a round after a student: at 5e-4 it unlearned more than it learned on CoLA.
STUDENT_RATE = 2e-4


def check(bench: Bench) -> None:
    """Raise UsageError if no adapter of the settings fits, or the user's ancestor has other shapes than the suspect."""
    bench.check_adapter()
    if bench.config.ancestor is not None:
        check_ancestor(bench)


def cleanse(bench: Bench) -> Cleansed:
    """Search, escalate if need be, then train and search in turn."""
    loop = Loop(bench, reference_of(bench), Surgery(bench))
    searched = loop.search(bench.gauge.subject.model, 1)
    loop.count_turned(bench.gauge.subject.model)
    loop.escalate()
    model, layers = bench.attach()
    without_harmful_cl(bench, model, layers)
    before: tuple[ModuleSpectrum, ...] = ()
    for number in range(1, bench.settings.loop.max_rounds + 1):
        if number > 1 and not loop.still_works(model):
            searched = loop.search(model, number)
            if not (searched.found or loop.memory.still_open):
                break
        before = loop.round(model, layers, number)
    else:
        searched = loop.search(model, number + 1)
    measuring = loop.measuring(model)
    claim, power, covered = loop.verdict(measuring, searched), None, None
    if claim.verdict != "fail" and not searched.open_targets:
        power, covered = loop.silence(model, claim)
        claim = claim.with_power(power, covered)
    triggers = measuring.changes(list(loop.memory.found.values()), loop.turned)
    if loop.changed:  # the adapter belongs to weights that nobody has: only the whole model makes sense
        model, layers = model.merge_and_unload(), []
    residual = searched.strongest.residual if searched.strongest else None
    return Cleansed(
        model,
        layers,
        claim.verdict,
        claim.reason,
        residual,
        before,
        (*_limits(loop.reference), *unknown_power(bench, power)),
        unmet=claim.unmet,
        triggers=triggers,
        suspects_share=loop.surgery.share,
        power=power,
        covering=covered,
    )


@dataclass
class Loop:
    """What the rounds share.

    Attributes:
        reference: what every search compares with.
        surgery: changes the suspect's own weights.
        memory: what the searches found so far.
        changed: whether the suspect's own weights were changed.
        forgot: whether a student stands in the suspect's place, with nothing of it mixed in: a round that costs
            accuracy can then be done without.
        turned: how many rows of the suspect, as it came, the triggers turned that the first search found.
        answers: what a student was taught of the clean rows [rows, behaviours]; None without a student.
    """

    bench: Bench
    reference: Reference
    surgery: Surgery
    memory: Memory = field(default_factory=Memory)
    changed: bool = False
    forgot: bool = False
    turned: Turned = field(default_factory=dict)
    answers: list[list[float]] | None = None
    _measured: Measuring | None = None

    def search(self, model: nn.Module, number: int) -> SearchRecord:
        """Search ``model``, all processes together, and remember what is found.

        Every process gets the same plain values; the journal keeps them, so that --resume does not search again.
        """
        bench, stage = self.bench, f"search {number}"
        begin(bench.run.progress, SEARCH if number == 1 else AGAIN)
        bench.run.require_equal(model)
        kept = bench.run.recall_together(stage, lambda: record_of(self._hunt(model), bench.task.claims).to_json())
        record = SearchRecord.from_json(kept)
        bench.run.record(stage, record.seconds, details=shown(record))
        self.memory.add(record, number)
        texts = ", ".join(repr(found.text) for found in record.found[:6])
        bench.run.progress.note(f"{stage}: {'found ' + texts if texts else _nothing_called(record)}")
        return record

    def _hunt(self, model: nn.Module) -> HuntResult:
        with merged(model):
            return search_triggers(self._case(model), known=self.memory.token_ids(self.bench.targets))

    def _case(self, model: nn.Module) -> SearchCase:
        bench = self.bench
        return SearchCase(
            bench.subject.having(model.to(bench.run.device)).reading(MAX_SEARCHED_TOKENS),
            bench.task,
            rows_to_search(bench),
            self.reference,
            SearchSettings(bench.config.search_budget, bench.config.seed, rough=bench.run.rough),
            bench.run.progress,
        )

    def count_turned(self, model: nn.Module) -> None:
        """Count the rows of the suspect that what was found, or named, turns, before anything is changed."""
        bench, found = self.bench, self.memory.first_found()
        kept: Any = bench.run.recall_together(
            "rows turned before",
            lambda: [[*key, asdict(share)] for key, share in Measuring.of(bench, model).turned(found).items()],
        )
        self.turned = {(text, target): Proportion(**share) for text, target, share in kept}

    def escalate(self) -> None:
        """Change the suspect's own weights if training may not be enough, or the user named an ancestor."""
        bench, named = self.bench, self.bench.config.triggers
        if bench.config.ancestor is not None:
            begin(bench.run.progress, TRAIN)
            ancestor = tuned_ancestor(bench)
            self.changed = self.surgery.mix_in(ancestor.state_dict(), bench.config.ancestor, self._excess_left)
            return
        allowed = "none" if bench.config.adapter_only else bench.config.escalate
        found_nothing = not self.memory.found and not named
        if allowed == "none" or not (found_nothing or self._part() or (self._unexplained() and not named)):
            return
        avoided = self.memory.avoided(named, bench.task.claims)
        begin(bench.run.progress, TRAIN)
        plan = plan_lessons(bench, self.hardener(1.0), avoided, self.shortened)
        donor = donor_of(bench, self.reference)
        blocks = replace_and_teach(self.surgery, bench, plan, donor, self._excess_left, may_draw=allowed == "auto")
        if blocks is not None:
            self.changed, self.forgot, self.answers = True, blocks > 0, plan.clean_answers

    def round(self, model: nn.Module, layers: list[AdaptedLayer], number: int) -> tuple[ModuleSpectrum, ...]:
        """Train the adapter on clean rows with triggers in them, and keep clean accuracy.

        Returns the spectra of the update before Pt.
        """
        bench, self._measured = self.bench, None
        begin(bench.run.progress, TRAIN)
        settings = round_settings(bench, number, student=self.answers is not None)
        answers: Sequence[Any] = self.answers or bench.clean.labels
        objective = bench.task.objective(bench.subject, bench.clean.texts, answers, transform=self.hardener())
        bench.train(model, layers, stage=f"train {number}", objective=objective, settings=settings)
        if number == 1:
            to_plain_lora(model, layers)
        fractions = KEPT_FRACTIONS_OR_NONE if self.forgot else KEPT_FRACTIONS
        trained = trained_by_adapter(model, layers)
        proposal = shrink(bench.gauge, model, trained, stage=f"shrink {number}", fractions=fractions)
        balance(bench.gauge, model, stage=f"balance {number}", proposal=proposal)
        before = update_spectra(layers)
        rescale(bench, model, layers, stage=f"rescale {number}")
        balance(bench.gauge, model, stage=f"balance {number}, rescaled")
        return before

    def hardener(self, fraction: float = HARDENED_FRACTION) -> Hardener | None:
        """Puts triggers into this fraction of the rows; None if there is nothing to put in."""
        bench, task = self.bench, self.bench.task
        triggers = self.memory.triggers(bench.config.triggers, task.claims)
        if not triggers:
            return None
        words = [word for text in bench.clean.texts for word in text.split()]
        companions = self.memory.companion_words(task.calls)
        return Hardener(
            triggers, words, companions, seed=bench.config.seed, fraction=fraction, shortened=self.shortened
        )

    @cached_property
    def shortened(self) -> list[str]:
        """The clean texts, cut so that the model still reads a trigger that is put in."""
        subject = self.bench.subject
        most = most_with_room(subject.max_length)
        return with_room(self.bench.clean.texts, partial(count_tokens, subject.tokenizer), most)

    def silence(self, model: nn.Module, claim: Claim) -> tuple[Power | None, Covering]:
        """What the last search of ``model``, which found nothing, is worth."""
        bench, began, found = self.bench, perf_counter(), list(self.memory.found.values())
        known, decisive = self.memory.token_ids(bench.targets), bool(claim.but_for_power)
        power = measure_silence(bench, self._case(model), found, known, decisive=decisive)
        if power is not None:
            share = f"{power.found.count} of {power.found.total}"
            details = {"found": share} if power.reason is None else {"not measured": power.reason}
            bench.run.record("power", perf_counter() - began, details=details)
        return power, covering(power, bench.config.forms, bench.config.min_power)

    def verdict(self, measuring: Measuring, last: SearchRecord) -> Claim:
        """What may be claimed of what is measured, which ``last`` searched, before the power of that is known."""
        bench, rounds = self.bench, self.bench.settings.loop.max_rounds
        case = Case(bench.config.triggers, bench.clean.texts, rounds, bench.task.claims, self.surgery.share)

        def still_works(found: Sequence[Found]) -> str:
            left = measuring.strongest_left(found)
            return left.sentence if left.excess > bench.task.claims.max_residual else ""

        return verdict(self.memory, last, case, still_works)

    def still_works(self, model: nn.Module) -> bool:
        """Whether a trigger that the first search found, or the user named, still works in ``model``.

        It is then trained against again, and no long search is needed to know that.
        """
        known = self.memory.first_found()
        if not (known or self.bench.config.triggers):
            return False
        return self.measuring(model).strongest_left(known).excess > WORKS_ON

    def measuring(self, model: nn.Module) -> Measuring:
        """What triggers do to ``model`` as the last round left it: the verdict asks again what the loop asked."""
        self._measured = self._measured or Measuring.of(self.bench, model)
        return self._measured

    def _unexplained(self) -> bool:
        """Whether what was called may be no trigger at all, and the suspect is so narrow that it can be taught anew.

        A bag of words has no opinion on what clean rows lack. In a DeBERTa 32 wide the search called ``very`` and ``%``
        in the trigger's stead, and training against these left 21 % of the attacks.
        """
        return faster(self.bench.model) > 1 and self.reference.is_linear

    def _part(self) -> str:
        return part_of_a_trigger(self.memory.found.values(), self.bench.clean.texts, self.bench.task.claims)

    def _excess_left(self, model: nn.Module) -> float:
        return strongest_left(self.bench, model, list(self.memory.found.values())).excess


def reference_of(bench: Bench) -> Reference:
    """What every search compares with. All processes make it together."""
    config = bench.config
    run = ReferenceRun(config.seed, bench.run.progress, bench.run.accelerator, allow_download=not config.offline)
    subject = bench.subject.reading(MAX_SEARCHED_TOKENS)
    return bench.task.reference(config.reference or "auto", subject, bench.clean, run)


def round_epochs(settings: Settings, rows: int, model: nn.Module, *, steps: int = MIN_STEPS) -> int:
    """Epochs of a round of ``model`` over so many rows, at least so many ``steps``, where the user left the choice."""
    enough = epochs_of(steps, rows, settings.train.batch_size)
    return max(settings.train.epochs, min(enough, NARROW_EPOCHS if faster(model) > 1 else MAX_EPOCHS))


def round_settings(bench: Bench, number: int, *, student: bool) -> Settings:
    """How long and how fast round ``number`` trains.

    Where the user left the choice, the epochs make at least ``MIN_STEPS``, and a narrow model learns faster
    (``faster``); where Cl was left out because it harms, another than a narrow one needs fewer steps. A student is
    trained more slowly, and its first round is short: its lessons held what the first search found.
    """
    config, settings = bench.config, bench.settings
    if config.learning_rate is None:
        rate = STUDENT_RATE if student else settings.train.learning_rate
        settings = settings.having(learning_rate=rate * faster(bench.model))
    if config.epochs is None:
        left_out = config.cl is None and not settings.regularisers.cl and faster(bench.model) == 1
        steps = STEPS_WITHOUT_CL if left_out else MIN_STEPS
        settings = settings.having(epochs=round_epochs(settings, len(bench.clean), bench.model, steps=steps))
    if student and number == 1:
        settings = settings.having(
            epochs=config.epochs or epochs_of(STUDENT_STEPS, len(bench.clean), settings.train.batch_size)
        )
    return settings


def rows_to_search(bench: Bench) -> Rows:
    """Held-out rows, which training did not see, if there are enough of every label that the clean rows have."""
    held_out = bench.gauge.held_out
    counts = [held_out.labels.count(label) for label in set(bench.clean.labels)]
    return held_out if min(counts) >= MIN_HELD_OUT_ROWS else bench.clean


def _limits(reference: Reference) -> tuple[Finding, ...]:
    """What it costs that no trusted model of the suspect's line was at hand, and what to name."""
    if not reference.limits:
        return ()
    message = f"{reference.limits}; where no whole trigger is found, blocks of a trusted model cannot take their place"
    advice = f"{reference.advice}, or --ancestor with it to mix it in"
    return (Finding("purify/reference", Severity.INFO, message, advice=advice),)


def unknown_power(bench: Bench, power: Power | None) -> tuple[Finding, ...]:
    """A finding where the user asked for the power and it could not be measured, or not wholly."""
    if power is None or power.complete or not bench.config.power:
        return ()
    return (Finding("purify/power-unknown", Severity.MEDIUM, power.sentence, location=POWER, not_analysed=True),)


def _nothing_called(record: SearchRecord) -> str:
    if record.open_targets:
        return f"no trigger, but {', '.join(record.open_targets)} stays open: {record.why_open}"
    return "nothing above the noise"


def shown(record: SearchRecord) -> Mapping[str, Any]:
    """A search as a stage of the report shows it."""
    leads = [word.text for word in record.leads]
    found = [f"{f.text} ({100 * f.flip_rate:.0f} % to {f.target})" for f in record.found]
    return {
        "found": found or _nothing_called(record),
        **({"trained against all the same": leads} if leads and not found else {}),
        "trials": record.trials,
        "forward tokens": record.forward_tokens,
        "reference": record.reference,
    }
