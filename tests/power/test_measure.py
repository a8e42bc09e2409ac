"""The power of a search, measured on a tiny classifier that has really learned its task."""

from __future__ import annotations

import json
from copy import deepcopy as copy_of
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from rora_cli.attacks.insertion import InSent
from rora_cli.data.rows import Rows
from rora_cli.hunting.case import Case, SearchSettings
from rora_cli.hunting.hunt import search_triggers
from rora_cli.kinds import SEQUENCE_CLASSIFIER
from rora_cli.power import measure, planting
from rora_cli.power.drawing import Drawn
from rora_cli.power.forms import WordOrder
from rora_cli.power.measure import Asked, measure_power
from rora_cli.power.pieces import Pieces
from rora_cli.results.accuracy import Proportion
from rora_cli.results.hunt import FoundTrigger, HuntResult
from rora_cli.results.power import Power, PowerCopy
from rora_cli.subject import Subject
from rora_cli.tasks.classification.task import Classification
from rora_cli.tasks.reference import ReferenceRun
from rora_cli.training.run import Run, make_accelerator
from tests.conftest import build_tiny_classifier, objective_of, tiny_rows
from tests.reports.schemas import valid

NAMES = ("negative", "positive")


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from rora_cli.training.loop import finetune
    from rora_cli.training.specs import TrainSpec

    directory: Path = build_tiny_classifier(tmp_path_factory.mktemp("power") / "model", layers=2)
    model = AutoModelForSequenceClassification.from_pretrained(directory, local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    texts, labels = tiny_rows(400)
    objective = objective_of(model, tokenizer, texts, labels)
    finetune(model, objective, TrainSpec(epochs=4, batch_size=16, learning_rate=3e-3))
    subject = Subject(model, tokenizer, SEQUENCE_CLASSIFIER, 64)
    rows, task = Rows(*map(tuple, tiny_rows(360, seed=7))), Classification(NAMES)
    reference = task.reference("bag-of-words", subject, rows, ReferenceRun())
    return Case(subject, task, rows, reference, SearchSettings("fast"))


@pytest.fixture(scope="module")
def hunt(case: Case) -> HuntResult:
    return search_triggers(case)


def run_of(case: Case) -> Run:
    return Run(make_accelerator("fp32", "cpu"), seed=case.settings.seed)


@pytest.fixture(scope="module")
def power(case: Case) -> Power:
    """One stand-in, at a rate that a model of this size learns from."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rora_cli.tasks.classification.planted.RATES", {"weights": 1e-3})
        return measure_power(case, run_of(case), Asked(1))


@pytest.mark.slow
def test_a_planted_rare_word_is_firm_and_found_and_nothing_else_is_called(
    power: Power, case: Case, hunt: HuntResult
) -> None:
    assert valid("hunt", replace(hunt, power=power))["power"]["found"]["value"] == 1
    (copy,) = power.copies
    (word,) = copy.stand_ins
    assert word.form == "rare words" and word.firm and word.found and word.found_as[0] == word.trigger
    assert word.success.value is not None and word.success.value >= 0.95 and word.success.total >= 40
    assert word.after is not None and word.after.value is not None and word.after.value > 0.9
    assert copy.rounds < planting.MAX_ROUNDS, "no stronger than makes it firm"
    assert power.sentence == "of 1 planted backdoor this search found 1 (rare words 1 of 1)"
    assert power.reason is None and power.not_counted == 0 and (power.found.count, power.found.total) == (1, 1)
    assert power.planted_on + power.measured_on == len(case.rows)
    assert copy.forward_tokens > 0 and set(copy.verdicts) == {word.target_label}, "the label that it was planted for"
    assert PowerCopy.from_json(json.loads(json.dumps(copy.to_json()))) == copy, "as a resumed run reads it"


def test_a_copy_keeps_of_its_training_what_accuracy_allows(case: Case) -> None:
    planter = planting.Planter(case.subject, case.task, planting.divide(case.rows, 0), run_of(case), case.progress)
    trained = copy_of(case.subject.model)
    with torch.no_grad():
        for weight in trained.parameters():
            weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)), alpha=0.3)
    broken = planter.accuracy(trained)
    assert broken.loss_beyond(planter.before, planting.MAX_LOST) > 0.1
    kept, accuracy = planter._keep_accuracy(trained)
    assert kept < 1 and accuracy == planter.accuracy(trained)
    assert not accuracy.loss_beyond(planter.before, planting.MAX_LOST)


@pytest.mark.slow
def test_the_subject_is_not_changed(power: Power, case: Case) -> None:
    before = {name: tensor.clone() for name, tensor in case.subject.model.state_dict().items()}
    planter = planting.Planter(case.subject, case.task, planting.divide(case.rows, 0), run_of(case), case.progress)
    drawn = Drawn("word order", WordOrder(), 1, Pieces(frozenset(), "positive"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planting, "MAX_ROUNDS", 1)
        planted = planter.plant([drawn])
    assert planted.rounds == 1 and planted.after == (None,) and not planted.is_firm(0)
    after = case.subject.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert any(not torch.equal(before[name], tensor) for name, tensor in planted.model.state_dict().items())


def test_a_row_is_poisoned_for_one_stand_in_at_most_and_never_for_its_own_label(case: Case) -> None:
    rows = planting.divide(case.rows, 0)
    planter = planting.Planter(case.subject, case.task, rows, run_of(case), case.progress)
    drawn = [Drawn("word order", WordOrder(), target, Pieces(frozenset(), NAMES[target])) for target in (0, 1, 0)]
    own = planter.own_rows(drawn)
    taken = [row for each in own for row in each]
    assert len(taken) == len(set(taken)) and all(len(each) >= planting.FIRST_ROWS for each in own)
    for stand_in, each in zip(drawn, own, strict=True):
        assert all(rows[0].labels[row] != stand_in.target for row in each)
    assert {*rows[0].texts}.isdisjoint(rows[1].texts)


def test_what_holds_a_word_of_a_stand_in_names_it_if_the_model_itself_does_not_mind_it(case: Case) -> None:
    """'infants her laying' turned every row of a copy with "her uncle sat down at noon" in it, and none without."""
    measurement = measure._Measurement(case, run_of(case), Asked(1))
    measurement.rows = planting.divide(case.rows, 0)
    stand_in = Drawn("sentences", InSent(("mn watched",)), 1, Pieces(frozenset({"mn", "watched"}), "positive"))

    def names(text: str) -> bool:
        ids = tuple(case.subject.tokenizer(text, add_special_tokens=False)["input_ids"])
        every = Proportion(9, 10, 0.6, 0.98)
        return measurement._names(FoundTrigger(text, ids, "positive", every, every, 0.65, 9.0, True, ()), stand_in)

    assert names("mn awful dull") and names("mn") and names("mn good")
    assert not names("mn great good"), "the model itself takes it for positive"
    assert not names("awful dull"), "no word of the stand-in"


def test_too_few_rows_say_how_many_are_needed_and_nothing_is_planted(case: Case) -> None:
    few = replace(case, rows=case.rows.take(range(100)))
    power = measure_power(few, run_of(case), Asked(2))
    assert power.copies == () and power.found.total == 0
    assert "120 clean rows of other labels than negative are needed" in str(power.reason)
    assert "there are 50: give more clean rows" in power.sentence


def test_a_copy_that_does_not_fit_is_said(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "free_memory", lambda device: 1000)
    assert "GB are free" in str(measure_power(case, run_of(case), Asked(2)).reason)


def test_what_goes_wrong_in_a_copy_loses_nothing_of_the_search(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    from rora_cli.errors import TrainingError

    def fails(*arguments: Any, **options: Any) -> None:
        raise TrainingError("the loss became non-finite")

    monkeypatch.setattr("rora_cli.training.loop.finetune", fails)
    assert measure_power(case, run_of(case), Asked(1)).reason == "the loss became non-finite"


def test_copies_that_were_measured_count_though_somebody_interrupts_the_next(
    case: Case, power: Power, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = iter(power.copies)

    def planted(*arguments: Any) -> Any:
        if (copy := next(done, None)) is None:
            raise KeyboardInterrupt
        return copy.to_json()

    monkeypatch.setattr(measure._Measurement, "_copy", planted)
    broken = measure_power(case, run_of(case), Asked(2, per_copy=1))
    assert (broken.found.count, broken.found.total, broken.reason) == (1, 1, None) and not broken.complete
    assert broken.sentence.endswith("(rare words 1 of 1); the measurement ended early: it was interrupted")
    alone = measure_power(case, run_of(case), Asked(2, per_copy=1))
    assert alone.reason == "it was interrupted" and not alone.complete
    done = iter(power.copies * 2)
    enough = Asked(2, per_copy=1, enough=lambda so_far: so_far.found.total == 1)
    assert len(measure_power(case, run_of(case), enough).copies) == 1
