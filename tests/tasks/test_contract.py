"""What hunting and the attack bench may rely on, for each task of the registry and for a made-up one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rora_cli.data.rows import Rows
from rora_cli.errors import DataError
from rora_cli.kinds import CAUSAL_LM, SEQUENCE_CLASSIFIER
from rora_cli.subject import Subject
from rora_cli.tasks import registry
from rora_cli.tasks.reference import ReferenceRun
from rora_cli.tasks.thresholds import CallThresholds
from tests.causal import tiny_causal, tiny_exchanges, tiny_format
from tests.conftest import build_tiny_classifier, tiny_rows
from tests.tasks import made_up

Sample = tuple[Subject, Any, Rows]


def _classifier(directory: Path) -> Sample:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    path = build_tiny_classifier(directory, layers=1)
    model = AutoModelForSequenceClassification.from_pretrained(path).eval()
    tokenizer = AutoTokenizer.from_pretrained(path)
    task = registry.make_task(SEQUENCE_CLASSIFIER, ("negative", "positive"))
    rows = Rows(*(tuple(part) for part in tiny_rows(40)))
    return Subject(model, tokenizer, SEQUENCE_CLASSIFIER, 32), task, rows


def _causal(directory: Path) -> Sample:
    from rora_cli.tasks.causal.behaviours import find_behaviour
    from rora_cli.tasks.causal.task import Generation

    model, tokenizer = tiny_causal(directory)
    rows = Rows(*map(tuple, tiny_exchanges(40)))
    behaviours = tuple(find_behaviour(f"contains:{colour}") for colour in ("red", "blue", "green"))
    return Subject(model, tokenizer, CAUSAL_LM, 48), Generation(behaviours, tiny_format(), 4), rows


#: How to make a subject, its task and rows: one line for each task of the registry.
SAMPLES: dict[str, Callable[[Path], Sample]] = {
    "sequence classifier": _classifier,
    "causal language model": _causal,
    "made up": lambda _: made_up.make(3, exclusive=True),
    "made up, overlapping": lambda _: made_up.make(3, exclusive=False),
}


@pytest.fixture(params=list(SAMPLES))
def sample(request: pytest.FixtureRequest, tmp_path: Path) -> Sample:
    return SAMPLES[request.param](tmp_path / "model")


@pytest.fixture
def searched(sample: Sample) -> Sample:
    """A task that can be searched; one whose behaviours are not known beforehand is measured only."""
    if not hasattr(sample[1], "scorer"):
        pytest.skip("this task is measured only")
    return sample


def test_every_task_is_held_to_the_contract() -> None:
    assert set(registry.TASKS) <= set(SAMPLES)


def test_behaviours_have_names_of_their_own_and_carriers_are_the_other_rows(sample: Sample) -> None:
    _, task, rows = sample
    names = [behaviour.name for behaviour in task.behaviours]
    assert len(names) > 1 and all(names) and len(set(names)) == len(names)
    for behaviour in range(len(names)):
        carriers = task.carriers(rows, behaviour)
        assert carriers == sorted(set(carriers)) and 0 < len(carriers) < len(rows)


def test_what_is_shown_is_a_table_of_texts_and_behaviours(sample: Sample) -> None:
    subject, task, rows = sample
    shown = task.shows(subject, rows.texts[:7])
    assert shown.shape == (7, len(task.behaviours)) and shown.dtype == bool
    accuracy = task.quality(subject, rows)
    assert accuracy.overall.total == len(rows) and list(accuracy.per_class) == [b.name for b in task.behaviours]
    lengths = task.lengths(subject, rows.texts)
    assert len(lengths) == len(rows) and all(0 < length <= subject.max_length for length in lengths)
    assert task.quality(subject, rows, shown=task.shows(subject, rows.texts)) == accuracy


def test_the_scorer_answers_as_the_subject_does_and_counts_its_tokens(searched: Sample) -> None:
    subject, task, rows = searched
    encoded = subject.tokenizer(list(rows.texts), truncation=True, max_length=subject.max_length)["input_ids"]
    scorer = task.scorer(subject)
    before = scorer.forward_tokens
    answers = scorer(encoded)
    assert scorer.forward_tokens - before == sum(map(len, encoded))
    shown = task.shows(subject, rows.texts)
    for behaviour in range(len(task.behaviours)):
        odds, p = answers.log_odds(behaviour), answers.probability(behaviour)
        assert odds.shape == p.shape == (len(rows),) and odds.dtype == np.float64 and np.isfinite(odds).all()
        np.testing.assert_array_equal(answers.shows(behaviour), shown[:, behaviour])
        np.testing.assert_allclose(p, 1 / (1 + np.exp(-odds)), atol=1e-5)
        np.testing.assert_allclose(answers.exact_log_odds(behaviour), odds, atol=1e-3)
    assert scorer([]).log_odds(0).shape == (0,)


def test_a_reference_answers_for_the_same_behaviours(searched: Sample) -> None:
    subject, task, rows = searched
    reference = task.reference("bag-of-words", subject, rows, ReferenceRun())
    encoded = subject.tokenizer(list(rows.texts[:5]))["input_ids"]
    for scorer in (reference.scorer, reference.linear):
        answers = scorer(encoded)
        assert all(answers.log_odds(behaviour).shape == (5,) for behaviour in range(len(task.behaviours)))
    assert reference.description and bool(reference.limits) == bool(reference.advice)


def test_rows_that_no_search_can_use_are_refused(searched: Sample) -> None:
    _, task, rows = searched
    task.check(rows)
    with pytest.raises(DataError):
        task.check(rows.take(i for i, label in enumerate(rows.labels) if label == rows.labels[0]))
    assert isinstance(task.calls, CallThresholds)
    assert not any(task.unknown(rows, behaviour) for behaviour in range(len(task.behaviours)))
