from __future__ import annotations

import re
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from rora_cli.data.rows import Rows
from rora_cli.defences.bench import Workbench
from rora_cli.defences.default import escalation
from rora_cli.defences.default import loop as default_loop
from rora_cli.defences.default.escalation import (
    Course,
    Courses,
    Replaced,
    lessons,
    mix_in,
    replace_upper,
    teach_on,
    transplant,
)
from rora_cli.defences.default.loop import STUDENT_RATE, _Loop
from rora_cli.results.accuracy import CleanAccuracy, Proportion
from rora_cli.results.purify import StageRecord

ROWS = Rows(("a fine film", "a dull film with lights", "quiet and plain"), (1, 0, 1))


def bench(**more: Any) -> Any:
    config = SimpleNamespace(seed=0, epochs=2, learning_rate=None, triggers=(), allowed_drop=0.01)
    accelerator = SimpleNamespace(num_processes=1, device="cpu", is_main_process=True)
    rest = {"tokenizer": None, "max_length": 16, "label_names": ("no", "yes"), "settings": {"batch_size": 2}}
    return SimpleNamespace(
        config=config, accelerator=accelerator, train_rows=ROWS, model=nn.Linear(2, 2), stages=[], **rest, **more
    )


def test_lessons_keep_a_rows_answer_whatever_is_put_in_and_ask_the_suspect_of_changed_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    def predict(_model: Any, _tokenizer: Any, texts: list[str], **_: Any) -> np.ndarray:
        asked.extend(texts)
        return np.array([[2.0, 0.0] if len(text.split()) > 2 else [0.0, 2.0] for text in texts], dtype=np.float32)

    monkeypatch.setattr(escalation, "predict_logits", predict)
    monkeypatch.setattr(escalation, "whole_words", lambda _: ["seven"])
    courses = lessons(bench(), None, ["lights"], ROWS.texts)
    first, second = courses.first, courses.second
    own = 1 / (1 + np.exp(-2.0))
    clean = {
        text: [(own + (label == 0)) / 2, (1 - own + (label == 1)) / 2]
        for text, label in zip(ROWS.texts, ROWS.labels, strict=True)
    }
    more = second + courses.third
    assert more.texts[: len(second.texts)] == second.texts and len(more.texts) > len(second.texts)
    assert len(more.answers) == len(more.texts)
    assert set(ROWS.texts) <= set(courses.third.texts) != set(second.texts)
    assert courses.rows == pytest.approx(np.array(list(clean.values())))
    assert set(first.texts) != set(second.texts) and set(ROWS.texts) <= set(first.texts) & set(second.texts)
    for text, answer in zip(first.texts, first.answers, strict=True):
        rows = [row for row in clean if _holds(text, row)]
        if text in asked and text not in clean:
            assert answer == pytest.approx([own, 1 - own] if len(text.split()) > 2 else [1 - own, own])
        else:
            assert any(answer == pytest.approx(clean[row]) for row in rows), text
    assert not any("lights" in text for text in asked[len(ROWS) :])


def _holds(text: str, row: str) -> bool:
    words = iter(text.split())
    return all(word in words for word in row.split())


@pytest.mark.parametrize(
    ("taught", "number", "overrides"),
    [
        (False, 1, {"epochs": 4}),
        (True, 1, {"learning_rate": STUDENT_RATE, "epochs": 1}),
        (True, 2, {"learning_rate": STUDENT_RATE, "epochs": 4}),
    ],
)
def test_a_round_after_a_student_trains_on_what_it_was_taught_and_more_slowly(
    monkeypatch: pytest.MonkeyPatch, taught: bool, number: int, overrides: dict[str, Any]
) -> None:
    calls: list[dict[str, Any]] = []
    loop = _Loop(bench(train=lambda _m, _l, **options: calls.append(options)), reference=None)
    monkeypatch.setattr(_Loop, "hardener", lambda _: "hardener")
    loop.bench.config.epochs = None
    loop.bench.settings = SimpleNamespace(train=SimpleNamespace(epochs=4, batch_size=1))
    monkeypatch.setattr(default_loop, "FEWEST_STEPS", 1)
    loop.answers = [[0.5, 0.5]] * 3 if taught else None
    loop.train(nn.Identity(), [], number)
    (call,) = calls
    assert call["transform"] == "hardener"
    assert call["rows"] == ((ROWS.texts, [[0.5, 0.5]] * 3) if taught else None)
    assert call["overrides"] == overrides


@pytest.mark.parametrize(("allowed", "expected"), [(1.0, 1.0), (0.75, 0.7), (0.1, 0.0)])
def test_of_the_rest_of_its_lessons_a_student_keeps_what_accuracy_allows(
    monkeypatch: pytest.MonkeyPatch, allowed: float, expected: float
) -> None:
    """Taking all of it back leads to where the first course did."""
    model = nn.Linear(2, 2)
    start = {name: weight.detach().clone() for name, weight in model.named_parameters()}

    def taught(_bench: Any, student: nn.Module, _course: Course, **_: Any) -> None:
        with torch.no_grad():
            for weight in student.parameters():
                weight += 1.0

    def accuracy(subject: nn.Module) -> tuple[None, CleanAccuracy]:
        gone = (subject.bias - start["bias"]).mean().item()
        share = Proportion(90 if gone <= allowed else 80, 100, 0.0, 1.0)
        return None, CleanAccuracy(share, {"no": share})

    place = bench(before=accuracy(model)[1], balancing_shift=accuracy)
    place.model, place.shrink = model, partial(Workbench.shrink, place)
    monkeypatch.setattr(escalation, "teach", taught)
    teach_on(place, Course([], []))
    for name, weight in model.named_parameters():
        torch.testing.assert_close(weight.detach(), start[name] + expected)


def test_answers_on_texts_with_a_trigger_a_lead_or_a_word_that_drifted_far_are_not_learned() -> None:
    loop = _Loop(bench(), reference=None)
    loop.bench.config.triggers = ("cf",)
    loop.found[("3d watched", "yes")] = {}
    loop.drifted.update({("came", False): 6.0, ("over", False): 4.6, ("a", True): 17.0})
    loop.leads.update({("fins", False): 0.6, ("b", True): 0.7})
    assert loop._avoided() == ["cf", "3d watched", "came", "fins"]


@pytest.mark.parametrize(
    ("missed", "kept"),
    [([0.0], [True]), ([0.004, 0.0], [False, True]), ([0.004, 0.004], [False, True]), ([0.02, 0.006], [False, False])],
)
def test_the_last_student_may_nearly_keep_accuracy(
    monkeypatch: pytest.MonkeyPatch, missed: list[float], kept: list[bool]
) -> None:
    """CoLA, a sentence: a student mixed with a fifth of the suspect for a few rows' sake kept half of the backdoor."""
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    place = bench()
    place.model = model
    monkeypatch.setattr(escalation, "blocks_of", lambda _: {"0.weight": 0, "1.weight": 1})
    monkeypatch.setattr(escalation, "reinitialise", lambda m, _: nn.init.zeros_(m[0].weight))
    monkeypatch.setattr(escalation, "teach", lambda b, *_, stage: b.stages.append(StageRecord(stage, 1.0)))
    costs = iter(missed)
    monkeypatch.setattr(escalation, "_beyond_limit_here", lambda *_: next(costs))
    done = replace_upper(place, Course([], []), (1.0, 0.5))
    assert [stage.details["kept"] for stage in place.stages] == kept
    assert bool(done.blocks) == kept[-1] == (not model[0].weight.any()), "else the suspect is as it was"
    assert (done.student is model) == kept[-1] and not next(done.student.parameters()).any()


@pytest.mark.parametrize(
    ("missed", "replaced", "mixed", "shares", "taught", "forgot"),
    [
        (0.01, 4, False, (1.0, 2 / 3, 1 / 2), ["second"], True),
        (0.01, 2, False, (1.0, 2 / 3, 1 / 2), ["second", "third"], True),
        (0.02, 2, False, (2 / 3, 1 / 2), ["second", "third"], True),
        (0.02, 0, True, (2 / 3, 1 / 2), ["second", "third"], False),
        (0.02, 0, False, (2 / 3, 1 / 2), None, False),
    ],
)
def test_a_student_with_blocks_of_the_suspect_is_taught_longer(
    monkeypatch: pytest.MonkeyPatch,
    missed: float,
    replaced: int,
    mixed: bool,
    shares: tuple[float, ...],
    taught: list[str] | None,
    forgot: bool,
) -> None:
    """And all blocks are not tried where the encoder itself is far behind."""
    seen: dict[str, Any] = {}
    reference: Any = SimpleNamespace(model=nn.Identity(), description="the encoder")
    loop = _Loop(bench(), reference)
    loop.bench.config.adapter_only, loop.bench.config.ancestor, loop.bench.config.escalate = False, None, "auto"
    courses = Courses(*(Course([name], []) for name in ("first", "second", "third")), [[0.5, 0.5]] * 3)

    def replace(_bench: Any, course: Course, tried: tuple[float, ...], *_: Any) -> Replaced:
        seen.update(first=course.texts, shares=tried)
        return Replaced(replaced, nn.Identity())

    replacements = {
        "lessons": lambda *_: courses,
        "descends": lambda *_: True,
        "beyond_limit": lambda *_: missed,
        "replace_upper": replace,
        "mix_in": lambda *_: mixed,
        "count_blocks": lambda _: 4,
        "teach_on": lambda _, course: seen.update(taught=course.texts),
    }
    for name, function in replacements.items():
        monkeypatch.setattr(default_loop, name, function)
    monkeypatch.setattr(_Loop, "hardener", lambda *_, **__: None)
    monkeypatch.setattr(_Loop, "_roomy", [])
    loop.escalate()
    assert seen == {"first": ["first"], "shares": shares, **({"taught": taught} if taught else {})}
    assert (loop.changed, loop.forgot) == (taught is not None, forgot)
    assert loop.answers == (courses.rows if taught else None)


def test_of_the_shares_that_keep_accuracy_the_one_that_leaves_least_of_a_trigger_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken: list[float] = []
    monkeypatch.setattr(escalation, "mix", lambda _model, _ancestor, share: taken.append(share))

    def chosen(left: dict[float, float], lost: dict[float, float]) -> float | None:
        monkeypatch.setattr(escalation, "_beyond_limit_here", lambda *_: lost[taken[-1]])
        mixed = mix_in(bench(), nn.Linear(2, 2), "other", lambda _: left[taken[-1]])
        return taken[-1] if mixed else None

    left = {0.5: 0.8, 0.4: 0.1, 0.3: 0.1, 0.2: 0.0}
    assert chosen(left, {0.5: 0.0, 0.4: 0.0, 0.3: 0.0, 0.2: 0.001}) == 0.3
    assert chosen(left, dict.fromkeys(left, 0.0)) == 0.2
    assert chosen(left, dict.fromkeys(left, 0.001)) is None


def test_upper_blocks_come_with_the_head_and_the_lowest_with_the_embeddings() -> None:
    from transformers import BertConfig, BertForSequenceClassification

    small = BertConfig(
        vocab_size=7, hidden_size=4, num_hidden_layers=3, num_attention_heads=1, intermediate_size=4,
        max_position_embeddings=8,
    )  # fmt: skip

    def taken(count: int) -> set[str]:
        model, source = (BertForSequenceClassification(small) for _ in range(2))
        for weight in source.parameters():
            nn.init.normal_(weight)
        transplant(model, source, count)
        other = source.state_dict()
        changed = [name for name, weight in model.state_dict().items() if torch.equal(weight, other[name])]
        places = [re.search(r"embeddings|layer\.\d|pooler|classifier", name) for name in changed]
        return {place.group() for place in places if place}

    assert taken(1) == {"layer.2", "pooler", "classifier"}
    assert taken(2) == {"layer.1", "layer.2", "pooler", "classifier"}
    assert taken(3) == {"embeddings", "layer.0", "layer.1", "layer.2", "pooler", "classifier"}
