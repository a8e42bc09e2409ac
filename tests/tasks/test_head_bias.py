from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from rora_cli.checkpoints.loading import load_classifier
from rora_cli.data.rows import Rows
from rora_cli.evaluation.accuracy import clean_accuracy
from rora_cli.evaluation.inference import predict_logits
from rora_cli.kinds import SEQUENCE_CLASSIFIER
from rora_cli.results.accuracy import CleanAccuracy
from rora_cli.subject import Subject
from rora_cli.tasks.classification.head_bias import balancing_shift, in_common, trainable_head
from rora_cli.tasks.classification.task import Classification
from tests.conftest import tiny_rows
from tests.families import build_family, train_family

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
    shift = balancing_shift(logits, labels, assess, before, 0.01, reach=np.ones(len(labels)))
    assert 0.2 < shift[0] < 0.5 and not shift[1:].any()
    assert assess(logits + shift).loss_beyond(before, 0.01, slack=1.0) == 0
    assert assess(logits + 0.9 * shift).loss_beyond(before, 0.01, slack=1.0) > 0


def test_what_is_kept_is_left_alone_and_what_cannot_be_mended_loses_least() -> None:
    even, labels = leaning(2, 0.0)

    def assess(shifted: np.ndarray) -> CleanAccuracy:
        return clean_accuracy(shifted, labels, NAMES[:2])

    before = assess(even)
    assert not balancing_shift(even, labels, assess, before, 0.01, reach=np.ones(len(labels))).any()
    broken = np.random.default_rng(1).normal(size=even.shape)
    broken[:, 0] -= 1.0
    shift = balancing_shift(broken, labels, assess, before, 0.01, reach=np.ones(len(labels)))
    assert assess(broken + shift).loss_beyond(before, 0.01) < assess(broken).loss_beyond(before, 0.01) - 0.1
    for other in (0.8, 1.2):
        assert assess(broken + shift).loss_beyond(before, 0.01) <= assess(broken + other * shift).loss_beyond(
            before, 0.01
        )


def test_the_head_that_may_be_changed() -> None:
    model = nn.Sequential(nn.Linear(4, 2), nn.Linear(2, 2))
    assert trainable_head(model, 2) == "1"
    model[1].requires_grad_(False)
    assert trainable_head(model, 2) == "0"
    assert trainable_head(model[1], 2) is None
    factor = nn.ModuleDict({"lora_A": nn.Linear(4, 2, bias=False)})
    assert trainable_head(nn.ModuleDict({"query": factor}), 2) is None


def test_a_step_along_what_states_have_in_common_favours_no_class() -> None:
    rng = np.random.default_rng(0)
    labels = [0] * 30 + [1] * 300
    states = rng.normal(size=(330, 8)) + 5 * np.eye(8)[0] + np.array(labels)[:, None] * 3 * np.eye(8)[1]
    reach = states @ in_common(states, labels)
    assert np.mean([reach[:30].mean(), reach[30:].mean()]) == pytest.approx(1.0)
    assert (reach > 0).all() and np.isfinite(in_common(np.zeros((2, 8)), [0, 1])).all()


def test_a_head_without_a_bias_is_shifted_along_the_mean_state(tmp_path: Path) -> None:
    """A GPT-2 whose class paid kept 80 % of its backdoor: nothing else could be done than to take its update back."""
    loaded = load_classifier(train_family("gpt2", build_family("gpt2", tmp_path / "gpt2")))
    model, tokenizer = loaded.model, loaded.tokenizer
    rows = Rows(*(tuple(part) for part in tiny_rows(120)))
    subject, task = Subject(model, tokenizer, SEQUENCE_CLASSIFIER, 32), Classification(NAMES[:2])
    before, weights = task.quality(subject, rows), model.score.weight.detach().clone()
    head, model.score = model.score, nn.Identity()
    along = in_common(predict_logits(model, tokenizer, rows.texts, max_length=32), rows.labels)
    model.score = head
    with torch.no_grad():
        head.weight[0] += 10 * torch.from_numpy(along)
    leaning = task.quality(subject, rows)
    assert leaning.loss_beyond(before, 0.05) > 0

    proposal = task.correction.propose(subject, rows, before, 0.05)
    assert model.score is head and task.quality(subject, rows) == leaning, "proposing changes nothing"
    done = task.correction.make(subject, proposal)
    assert list(done) == ["added along the mean state"]
    assert task.quality(subject, rows) == proposal.quality
    assert proposal.quality.loss_beyond(before, 0.05) == 0
    assert not torch.equal(weights, head.weight)


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
