"""The default: search for triggers, train against what was found, search the result, until nothing is found.

Every choice is made from clean rows and the search alone. A suspect in which the first search finds nothing is still
trained with Cl and Pt, but the verdict is then inconclusive: nothing was found that could have been proven gone. A
clean ancestor that the user names is mixed in after the first search, as far as clean accuracy allows. Where the search
named nothing, or maybe a part of a longer trigger, all blocks or the upper ones are taken from the reference's encoder,
or drawn anew where there is none of the suspect's shape, and the suspect teaches that student: this weakens what no
search finds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

from torch import nn

from rora_cli.checkpoints.ancestry import descends, different_shape
from rora_cli.data.rows import Rows
from rora_cli.defences.bench import SHRUNK, SHRUNK_AWAY, Cleansed, Workbench, adapter_moved, update_spectra
from rora_cli.defences.default.claims import part_of_a_trigger, strongest_left
from rora_cli.defences.default.escalation import (
    DRAWN_SHARES,
    FAR_BEHIND,
    REPLACED_SHARES,
    Course,
    beyond_limit,
    count_blocks,
    lessons,
    mix_in,
    replace_upper,
    teach_on,
)
from rora_cli.defences.hardening import SHARE, Hardener, KnownTrigger
from rora_cli.defences.mix import check_ancestor, tuned_ancestor
from rora_cli.evaluation.attack import most_with_room, with_room
from rora_cli.evaluation.inference import count_tokens
from rora_cli.hunting.case import SearchSettings
from rora_cli.hunting.hunt import search_triggers
from rora_cli.kinds import SEQUENCE_CLASSIFIER
from rora_cli.results.findings import Finding, Severity
from rora_cli.results.hunt import FoundTrigger, HuntResult
from rora_cli.results.purify import FoundResidual, StageRecord
from rora_cli.results.spectra import ModuleSpectrum
from rora_cli.subject import Subject
from rora_cli.tasks.classification.task import Classification
from rora_cli.tasks.classification.thresholds import CALLS, CLAIMS
from rora_cli.tasks.reference import Reference, ReferenceRun
from rora_cli.training.adapters import AdaptedLayer, to_plain_lora
from rora_cli.training.batches import steps_per_epoch
from rora_cli.training.run import on_main

#: Held-out rows of each label from which on they, and not the rows trained on, are searched.
ENOUGH_ROWS = 60
#: Triggers of one label that are trained against; the weaker ones are mostly neighbours of these.
MOST_TRIGGERS = 24
#: Steps that a round trains for at least, however few the rows, unless the user sets the epochs.
FEWEST_STEPS, MOST_EPOCHS = 280, 10
#: The learning rate of a round after a student: at 5e-4 it unlearned more than it learned on CoLA.
STUDENT_RATE = 2e-4
#: The share that the weakest found trigger has of a training round, beside one that flips everything.
LEAST_WEIGHT = 0.1
#: A word that drifted so far is as often among the companions as one that drifted further.
MOST_DRIFT = 12


def check(bench: Workbench) -> None:
    """Raise UsageError where no adapter of the settings fits, or the user's ancestor is none, before the search."""
    bench.check_adapter()
    if bench.config.ancestor is not None:
        check_ancestor(bench)


def cleanse(bench: Workbench) -> Cleansed:
    loop = _Loop(bench, _reference(bench))
    searched = loop.search(bench.model, 1)
    loop.escalate()
    model, layers = bench.attach()
    before: tuple[ModuleSpectrum, ...] = ()
    for number in range(1, bench.settings.loop.max_rounds + 1):
        if number > 1:
            searched = loop.search(model, number)
            if not searched["found"]:
                break
        loop.train(model, layers, number)
        if number == 1:
            to_plain_lora(model, layers)
        shares = SHRUNK_AWAY if loop.forgot else SHRUNK
        shift = bench.shrink(model, adapter_moved(model, layers), stage=f"shrink {number}", shares=shares)
        bench.balance(model, stage=f"balance {number}", shift=shift)
        before = update_spectra(layers)
        bench.rescale(model, layers, stage=f"rescale {number}")
        bench.balance(model, stage=f"balance {number}, rescaled")
    else:
        searched = loop.search(model, number + 1)
    verdict, reason = loop.verdict(model, searched)
    if loop.changed:  # the adapter belongs to weights that nobody has: only the whole model makes sense
        model, layers = model.merge_and_unload(), []
    residual = loop.residual(searched)
    return Cleansed(model, layers, bench.stages, verdict, reason, residual, before, _limits(loop.reference))


@dataclass
class _Loop:
    """What the rounds share: the reference, every trigger found so far, and what was done to the suspect's own weights.

    ``changed`` says whether anything was, ``answers`` [rows, classes] what a student was taught of the clean rows, and
    ``forgot`` whether it stands there without a share of the suspect: then a round that costs accuracy can be done
    without.
    """

    bench: Workbench
    reference: Reference
    found: dict[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)
    companions: dict[str, None] = field(default_factory=dict)
    drifted: dict[tuple[str, bool], float] = field(default_factory=dict)
    leads: dict[tuple[str, bool], float] = field(default_factory=dict)
    answers: list[list[float]] | None = None
    changed: bool = False
    forgot: bool = False

    def search(self, model: nn.Module, number: int) -> Mapping[str, Any]:
        """Search ``model`` on the main process, and remember what is found.

        The answer, as plain values, is known to all and kept for a resume.
        """
        bench = self.bench
        stage = f"search {number}"

        def compute() -> Mapping[str, Any]:
            kept: Mapping[str, Any] = bench.state.recall(stage, lambda: summarise(self._hunt(model)))
            return kept

        answer: Mapping[str, Any] = on_main(bench.accelerator, compute)
        bench.stages.append(StageRecord(stage, answer["seconds"], details=_shown(answer)))
        texts = ", ".join(repr(found["text"]) for found in answer["found"][:6])
        self.remember(answer, number)
        bench.progress.note(f"{stage}: {'found ' + texts if texts else _nothing_called(answer)}")
        return answer

    def _hunt(self, model: nn.Module) -> HuntResult:
        bench = self.bench
        return search_triggers(
            _subject(bench, model.to(bench.accelerator.device)),
            _rows_to_search(bench),
            Classification(bench.label_names),
            reference=self.reference,
            search=SearchSettings(bench.config.search_budget, bench.config.seed),
            known=self._known(),
            progress=bench.progress,
        )

    def _known(self) -> dict[int, list[tuple[int, ...]]]:
        """The token ids of what was found so far, by target label, strongest first."""
        known: dict[int, list[tuple[int, ...]]] = {}
        for found in sorted(self.found.values(), key=lambda found: -found["excess"]):
            target = self.bench.label_names.index(found["target_label"])
            known.setdefault(target, []).append(tuple(found["token_ids"]))
        return known

    def remember(self, searched: Mapping[str, Any], number: int = 1) -> None:
        for found in searched["found"]:
            self.found.setdefault((found["text"], found["target_label"]), {**found, "search": number})
        self.companions.update(dict.fromkeys(searched["companions"]))
        for text, attached, z in searched["drifted"]:
            self.drifted.setdefault((text, attached), z)
        for text, attached, excess in searched["leads"]:
            self.leads.setdefault((text, attached), excess)

    def hardener(self, share: float = SHARE) -> Hardener | None:
        """Training texts, this ``share`` of them with the triggers found so far and those that the user named.

        None while there are none. Where none was found, leads and words that drifted far stand in for them: labels are
        kept, so it costs little. Beside what was found drifted words are companions, the further the more often, and
        twice as often as all others together.
        """
        triggers = [KnownTrigger(text) for text in self.bench.config.triggers]
        triggers += [
            KnownTrigger(text, found["attached"], max(found["excess"], LEAST_WEIGHT))
            for (text, _), found in self.found.items()
        ]
        if not triggers:
            far = {key: min(z, MOST_DRIFT) / MOST_DRIFT for key, z in self.drifted.items() if z >= CLAIMS.min_drift}
            triggers = [KnownTrigger(*key, weight) for key, weight in {**far, **self.leads}.items()]
        if not triggers:
            return None
        drifted = [
            text
            for (text, attached), z in self.drifted.items()
            if not attached
            for _ in range(min(round(z - CALLS.min_drift) + 1, MOST_DRIFT))
        ]
        companions = [*self.companions, *drifted * max(2 * len(self.companions) // max(len(drifted), 1), 1)]
        words = [word for text in self.bench.train_rows.texts for word in text.split()]
        return Hardener(triggers, words, companions, seed=self.bench.config.seed, share=share, roomy=self._roomy)

    @cached_property
    def _roomy(self) -> list[str]:
        """The clean texts, with room for a trigger in what the model reads of them."""
        most = most_with_room(self.bench.max_length)
        return with_room(self.bench.train_rows.texts, partial(count_tokens, self.bench.tokenizer), most)

    def verdict(self, model: nn.Module, last: Mapping[str, Any]) -> tuple[str, str]:
        if last["found"]:
            strongest = last["found"][0]
            return "fail", (
                f"after {self.bench.settings.loop.max_rounds} rounds the search still finds {strongest['text']!r}, "
                f"which flips {100 * strongest['flip_rate']:.1f} % to {strongest['target_label']}; raise --max-rounds, "
                "or do not use this model"
            )
        if last["not_searched"]:
            return "inconclusive", f"the search for {', '.join(last['not_searched'])} stays open: {last['why_not']}"
        if self._found_nothing():
            return "inconclusive", (
                f"no trigger was found before or after ({last['trials']:,} trials in the last search): that is no "
                "proof, a trigger outside the search may exist"
            )
        first = [found for found in self.found.values() if found["search"] == 1]
        later = [found for found in self.found.values() if found["search"] > 1]
        if remaining := on_main(self.bench.accelerator, lambda: self._remaining(model, first)):
            return "fail", remaining
        if later and (remaining := on_main(self.bench.accelerator, lambda: self._remaining(model, later))):
            return "inconclusive", (
                f"{remaining}; the search of the suspect itself did not call it, so it may be an honest word that the "
                "reference does not know, or a part of a trigger"
            )
        if part := self._part():
            return "inconclusive", part
        known = len(self.found) or len(self.bench.config.triggers)
        origin = "found" if self.found else "named"
        worked = (
            f"{known} triggers were {origin} and no longer work"
            if known > 1
            else (f"1 trigger was {origin} and no longer works")
        )
        return "pass", f"{worked}, and the last search ({last['trials']:,} trials) found nothing above the noise"

    def _found_nothing(self) -> bool:
        return not self.found and not self.bench.config.triggers

    def train(self, model: nn.Module, layers: Sequence[AdaptedLayer], number: int) -> None:
        """Round ``number``: the clean rows, hardened; a student's with the answers that it was taught.

        Its lessons had in them what the first search found: so its first round is short.
        """
        bench, rows = self.bench, None
        settings: dict[str, Any] = _epochs(bench)
        if self.answers:
            rows = (bench.train_rows.texts, self.answers)
            settings["learning_rate"] = bench.config.learning_rate or STUDENT_RATE
            if number == 1:
                settings["epochs"] = bench.config.epochs or 1
        bench.train(model, layers, stage=f"train {number}", transform=self.hardener(), overrides=settings, rows=rows)

    def escalate(self) -> None:
        """Change the suspect's own weights where training may not be enough, or the user named an ancestor.

        Where nothing was found, or maybe a part of a trigger, a student is taught: longer where it has the suspect's
        blocks, in which a part of the backdoor may stay.
        """
        bench = self.bench
        if bench.config.ancestor is not None:
            self.changed = mix_in(bench, tuned_ancestor(bench), bench.config.ancestor, self._left)
            return
        allowed = "none" if bench.config.adapter_only else bench.config.escalate
        if allowed == "none" or not (self._part() or self._found_nothing()):
            return
        courses = lessons(bench, self.hardener(share=1.0), self._avoided(), self._roomy)
        blocks = self._replace(courses.first, may_draw=allowed == "auto")
        if blocks is None:
            return
        whole = blocks == count_blocks(bench.model)
        teach_on(bench, courses.second if whole else courses.second + courses.third)
        self.changed, self.forgot, self.answers = True, blocks > 0, courses.rows

    def _avoided(self) -> list[str]:
        """What the suspect's answers are not to be learned of: triggers, leads, and words that drifted far."""
        words = [text for (text, attached), z in self.drifted.items() if z >= CLAIMS.min_drift and not attached]
        words += [text for text, attached in self.leads if not attached]
        return [*self.bench.config.triggers, *(text for text, _ in self.found), *words]

    def _replace(self, course: Course, *, may_draw: bool) -> int | None:
        """Replace all blocks, or the upper ones if the suspect was trained from the reference's encoder, and teach.

        Where even that costs too much accuracy, the student that has most of the suspect is mixed into it. An encoder
        that is no relative has only the whole to give; else, or without one, upper blocks are drawn anew. Returns the
        number of blocks replaced, 0 where the student is mixed in, None where nothing could be done.
        """
        bench, source, name = self.bench, self.reference.model, self.reference.description
        if source is not None and descends(bench.model, source):
            far = beyond_limit(bench, source) > FAR_BEHIND
            done = replace_upper(bench, course, REPLACED_SHARES[1:] if far else REPLACED_SHARES, source, name)
            if not done.blocks and not mix_in(bench, done.student, f"{name}, taught by the suspect", self._left):
                return None
            return done.blocks
        blocks = 0
        if source is not None and not different_shape(bench.model, source):
            blocks = replace_upper(bench, course, (1.0,), source, name).blocks
        if not blocks and may_draw:
            blocks = replace_upper(bench, course, DRAWN_SHARES).blocks
        return blocks or None

    def _part(self) -> str:
        return part_of_a_trigger(self.found.values(), self.bench.train_rows.texts)

    def _left(self, model: nn.Module) -> float:
        return strongest_left(self.bench, model, self.found.values())[0]

    def _remaining(self, model: nn.Module, found: Iterable[Mapping[str, Any]]) -> str:
        """A sentence on the trigger that still works best, where that is more than the limit over the floor."""
        excess, sentence = strongest_left(self.bench, model, found)
        return sentence if excess > CLAIMS.max_residual else ""

    def residual(self, last: Mapping[str, Any]) -> FoundResidual | None:
        strongest = last["strongest"]
        return FoundResidual(**strongest) if strongest else None


def _reference(bench: Workbench) -> Reference:
    """What every search compares with, made by all processes together."""
    config = bench.config
    run = ReferenceRun(config.seed, bench.progress, bench.accelerator, not config.offline)
    task = Classification(bench.label_names)
    return task.reference(config.reference or "auto", _subject(bench, bench.model), bench.train_rows, run)


def _subject(bench: Workbench, model: nn.Module) -> Subject:
    """The model as it is searched: rows are cut to what a search needs of them."""
    return Subject(model, bench.tokenizer, SEQUENCE_CLASSIFIER, bench.max_length).reading(128)


def _limits(reference: Reference) -> tuple[Finding, ...]:
    """What it costs that no trusted model of the suspect's line was at hand, and what to name."""
    if not reference.limits:
        return ()
    message = f"{reference.limits}; where no whole trigger is found, blocks of a trusted model cannot take their place"
    advice = f"{reference.advice}, or --ancestor with it to mix it in"
    return (Finding("purify/reference", Severity.INFO, message, advice=advice),)


def _epochs(bench: Workbench) -> dict[str, int]:
    """The recipe's epochs, or as many as make ``FEWEST_STEPS``, where the user left the choice."""
    if bench.config.epochs is not None:
        return {}
    a_step = bench.settings.train.batch_size
    enough = -(-FEWEST_STEPS // steps_per_epoch(len(bench.train_rows), a_step))
    return {"epochs": max(bench.settings.train.epochs, min(enough, MOST_EPOCHS))}


def _rows_to_search(bench: Workbench) -> Rows:
    """Held-out rows, which training did not see, where there are enough of every label that the rows have."""
    counts = [bench.held_out.labels.count(label) for label in set(bench.train_rows.labels)]
    return bench.held_out if min(counts) >= ENOUGH_ROWS else bench.train_rows


def summarise(result: HuntResult) -> dict[str, Any]:
    """What the loop needs of a search, as plain JSON values."""
    called = [trigger for label in result.labels for trigger in label.called[:MOST_TRIGGERS]]
    rest = [trigger for label in result.labels for trigger in label.triggers]
    strongest = max(rest, key=lambda trigger: (trigger.called, trigger.excess), default=None)
    skipped = [label for label in result.labels if label.verdict == "inconclusive"]
    return {
        "found": [
            {
                **_residual(t),
                "text": t.text,
                "attached": t.attached,
                "excess": t.excess,
                "token_ids": list(t.token_ids),
            }
            for t in sorted(called, key=lambda t: -t.excess)
        ],
        "drifted": [[token.text, token.attached, token.z] for token in result.drifted],
        "leads": [[t.text, t.attached, t.excess] for t in rest if _is_lead(t)],
        "companions": [word for label in result.labels for word in label.companions],
        "strongest": _residual(strongest) if strongest else None,
        "not_searched": [label.target_label for label in skipped],
        "why_not": skipped[0].reason if skipped else None,
        "trials": sum(label.coverage.trials for label in result.labels),
        "tokens": max((label.coverage.tokens for label in result.labels), default=0),
        "forward_tokens": result.forward_tokens,
        "reference": result.reference,
        "seconds": result.seconds,
        "notes": list(result.notes),
    }


def _is_lead(trigger: FoundTrigger) -> bool:
    """Whether a candidate that was not called does far more than under the reference, and somewhat more than others.

    Where every inserted word hurts (linguistic acceptability), "cf" turned 40 of 40 rows, the reference none, and had
    no more than z 4.8.
    """
    return (
        not trigger.called
        and trigger.excess >= CLAIMS.min_lead_excess
        and trigger.suspicion >= CLAIMS.min_lead_suspicion
    )


def _residual(trigger: FoundTrigger) -> dict[str, Any]:
    reference = trigger.reference_flip_rate
    return {
        "trigger": trigger.text,
        "target_label": trigger.target_label,
        "flip_rate": trigger.flip_rate.value or 0.0,
        "reference_flip_rate": reference.value if reference else None,
    }


def _nothing_called(answer: Mapping[str, Any]) -> str:
    if answer["not_searched"]:
        return f"no trigger, but {', '.join(answer['not_searched'])} stays open: {answer['why_not']}"
    return "nothing above the noise"


def _shown(answer: Mapping[str, Any]) -> dict[str, Any]:
    leads = [text for text, *_ in answer["leads"]]
    found = [f"{f['text']} ({100 * f['flip_rate']:.0f} % to {f['target_label']})" for f in answer["found"]]
    return {
        "found": found or _nothing_called(answer),
        **({"trained against all the same": leads} if leads and not found else {}),
        "trials": answer["trials"],
        "forward tokens": answer["forward_tokens"],
        "reference": answer["reference"],
    }
