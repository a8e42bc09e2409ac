from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from rora_cli.data.rows import Rows
from rora_cli.evaluation.accuracy import clean_accuracy
from rora_cli.evaluation.inference import predict_logits
from rora_cli.kinds import SEQUENCE_CLASSIFIER
from rora_cli.results.accuracy import CleanAccuracy
from rora_cli.subject import Subject
from rora_cli.tasks.classification.head_bias import balancing_shift, trainable_bias
from rora_cli.tasks.classification.task import Classification
from tests.conftest import tiny_rows

NAMES = ("negative", "positive", "neutral")


def leaning(classes: int, lean: float, rows: int = 3000) -> tuple[np.ndarray, list[int]]:
    """Noisy logits whose class 0 is held back by ``lean``."""
    rng = np.random.default_rng(0)
    labels = rng.integers(classes, size=rows)
    logits = rng.normal(size=(rows, classes))
    logits[np.arange(rows), labels] += 2.0
    logits[:, 0] -= lean
    return logits, labels.tolist()


@pytest.mark.parametrize("classes", [2, 3])
def test_the_smallest_shift_that_gives_a_class_back_what_it_lost(classes: int) -> None:
    names = NAMES[:classes]
    even, labels = leaning(classes, 0.0)

    def assess(shifted: np.ndarray) -> CleanAccuracy:
        return clean_accuracy(shifted, labels, names)

    before = assess(even)
    logits, _ = leaning(classes, 0.5)
    assert assess(logits).loss_beyond(before, 0.01) > 0
    shift = balancing_shift(logits, labels, assess, before, 0.01)
    assert 0.2 < shift[0] < 0.5 and not shift[1:].any()
    assert assess(logits + shift).loss_beyond(before, 0.01, slack=1.0) == 0
    assert assess(logits + 0.9 * shift).loss_beyond(before, 0.01, slack=1.0) > 0


def test_what_is_kept_is_left_alone_and_what_cannot_be_mended_loses_least() -> None:
    even, labels = leaning(2, 0.0)

    def assess(shifted: np.ndarray) -> CleanAccuracy:
        return clean_accuracy(shifted, labels, NAMES[:2])

    before = assess(even)
    assert not balancing_shift(even, labels, assess, before, 0.01).any()
    broken = np.random.default_rng(1).normal(size=even.shape)
    broken[:, 0] -= 1.0
    shift = balancing_shift(broken, labels, assess, before, 0.01)
    assert assess(broken + shift).loss_beyond(before, 0.01) < assess(broken).loss_beyond(before, 0.01) - 0.1
    for other in (0.8, 1.2):
        assert assess(broken + shift).loss_beyond(before, 0.01) <= assess(broken + other * shift).loss_beyond(
            before, 0.01
        )


def test_the_bias_of_the_head_that_may_be_changed() -> None:
    model = nn.Sequential(nn.Linear(4, 2), nn.Linear(2, 2))
    assert trainable_bias(model, 2) is model[1].bias
    model[1].requires_grad_(False)
    assert trainable_bias(model, 2) is model[0].bias
    assert trainable_bias(nn.Sequential(nn.Linear(4, 2, bias=False)), 2) is None


def test_a_proposal_is_what_making_it_gives_and_a_head_that_cannot_be_shifted_promises_nothing(tiny_model: Any) -> None:
    """Else an update would be kept whole for the sake of a shift that is never made."""
    model, tokenizer = tiny_model
    rows = Rows(*(tuple(part) for part in tiny_rows(60)))
    subject, task = Subject(model, tokenizer, SEQUENCE_CLASSIFIER, 32), Classification(NAMES[:2])
    middle = float(np.median(np.diff(predict_logits(model, tokenizer, rows.texts, max_length=32))))
    with torch.no_grad():
        model.classifier.bias += torch.tensor([0.0, -middle])
    before = task.quality(subject, rows)
    with torch.no_grad():
        model.classifier.bias += torch.tensor([5.0, 0.0])
    leaning = task.quality(subject, rows)
    assert leaning.loss_beyond(before, 0.05) > 0

    model.classifier.requires_grad_(False)
    frozen = task.correction.propose(subject, rows, before, 0.05)
    assert frozen.change is None and frozen.quality == leaning
    assert task.correction.make(subject, frozen) == {} and task.quality(subject, rows) == leaning

    model.classifier.requires_grad_(True)
    proposal = task.correction.propose(subject, rows, before, 0.05)
    assert task.quality(subject, rows) == leaning, "proposing changes nothing"
    done = task.correction.make(subject, proposal)
    assert done == {"added to the bias": {"positive": pytest.approx(5.0, abs=0.2)}}
    assert task.quality(subject, rows) == proposal.quality
    assert proposal.quality.loss_beyond(before, 0.05) == 0
