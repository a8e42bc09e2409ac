"""What training and the defences may rely on, for each task of the registry."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rora_cli.data.rows import Rows
from rora_cli.kinds import SEQUENCE_CLASSIFIER
from rora_cli.subject import Subject
from rora_cli.tasks import registry
from rora_cli.tasks.thresholds import ClaimThresholds
from rora_cli.training.loop import finetune
from rora_cli.training.run import make_accelerator
from rora_cli.training.specs import TrainSpec
from tests.conftest import build_tiny_classifier, tiny_rows

Sample = tuple[Subject, Any, Rows]


def _classifier(directory: Path) -> Sample:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    path = build_tiny_classifier(directory)
    model = AutoModelForSequenceClassification.from_pretrained(path).eval()
    tokenizer = AutoTokenizer.from_pretrained(path)
    rows = Rows(*(tuple(part) for part in tiny_rows(192)))
    task = registry.make_task(SEQUENCE_CLASSIFIER, ("negative", "positive"))
    return Subject(model, tokenizer, SEQUENCE_CLASSIFIER, 32), task, rows


#: How to make a subject, its task and rows: one line for each task of the registry.
SAMPLES: dict[str, Callable[[Path], Sample]] = {"sequence classifier": _classifier}
SPEC = TrainSpec(epochs=8, batch_size=16, learning_rate=3e-3)


@pytest.fixture(params=list(SAMPLES))
def sample(request: pytest.FixtureRequest, tmp_path: Path) -> Sample:
    return SAMPLES[request.param](tmp_path / "model")


def trained(subject: Subject, objective: Any) -> Subject:
    student = subject.having(copy.deepcopy(subject.model))
    finetune(student.model, objective, SPEC, accelerator=make_accelerator(device="cpu"))
    return student


def test_every_task_is_held_to_the_contract() -> None:
    assert set(SAMPLES) == set(registry.TASKS)


def test_training_on_clean_rows_learns_them_and_a_students_answers_are_its_teachers(sample: Sample) -> None:
    subject, task, rows = sample
    teacher = trained(subject, task.objective(subject, rows.texts, rows.labels))
    quality = task.quality(teacher, rows)
    assert quality.overall.count > task.quality(subject, rows).overall.count and quality.overall.value > 0.9
    answers = task.answers(teacher, rows.texts)
    assert answers.shape == (len(rows), len(task.behaviours)) and (answers >= 0).all() and (answers <= 1).all()
    student = trained(subject, task.objective(subject, rows.texts, answers.tolist()))
    alike = task.shows(student, rows.texts) == task.shows(teacher, rows.texts)
    assert alike.all(axis=1).mean() > 0.9


def test_answers_are_those_that_the_subject_shows(sample: Sample) -> None:
    subject, task, rows = sample
    answers, shown = task.answers(subject, rows.texts), task.shows(subject, rows.texts)
    np.testing.assert_array_equal(answers.argmax(axis=1), shown.argmax(axis=1))


def test_a_correction_proposes_what_it_makes_and_never_makes_things_worse(sample: Sample) -> None:
    subject, task, rows = sample
    assert isinstance(task.claims, ClaimThresholds)
    if task.correction is None:
        return
    torch.manual_seed(0)
    before = task.quality(trained(subject, task.objective(subject, rows.texts, rows.labels)), rows)
    for _ in range(3):
        with torch.no_grad():
            for weight in subject.model.parameters():
                weight.add_(0.05 * torch.randn_like(weight))
        lost = task.quality(subject, rows).loss_beyond(before, 0.05)
        proposal = task.correction.propose(subject, rows, before, 0.05)
        assert proposal.quality.loss_beyond(before, 0.05) <= lost
        done = task.correction.make(subject, proposal)
        assert bool(done) == (proposal.change is not None)
        assert task.quality(subject, rows) == proposal.quality
