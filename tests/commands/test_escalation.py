from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from rora_cli.commands.defences import escalation
from rora_cli.commands.defences.escalation import Course, Courses, lessons, mix_in, replace_upper, transplant
from rora_cli.commands.defences.hunted import _Loop
from rora_cli.data.rows import Rows
from rora_cli.results.purify import StageRecord

ROWS = Rows(("a fine film", "a dull film with lights", "quiet and plain"), (1, 0, 1))


def bench(**more: Any) -> Any:
    config = SimpleNamespace(seed=0, epochs=2, learning_rate=None, triggers=(), max_accuracy_drop=0.01)
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
    first, second = courses.first, courses.rest
    own = 1 / (1 + np.exp(-2.0))
    clean = {
        text: [(own + (label == 0)) / 2, (1 - own + (label == 1)) / 2]
        for text, label in zip(ROWS.texts, ROWS.labels, strict=True)
    }
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


def test_the_first_round_after_a_student_is_the_rest_of_its_lessons(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[dict[str, Any]] = []
    loop = _Loop(bench(train=lambda _m, _l, **options: calls.append(options)), reference=None)
    monkeypatch.setattr(_Loop, "hardener", lambda _: "hardener")
    courses = Courses(*(Course([f"text {i}"], [[0.0, 1.0]]) for i in range(2)), [[0.5, 0.5]] * 3)
    for loop.courses in (None, courses):
        for number in (1, 2):
            loop.train(nn.Identity(), [], number)
    plain, again, rest, later = calls
    assert plain["transform"] == again["transform"] == "hardener" and plain["rows"] is again["rows"] is None
    assert rest["rows"] == (["text 1"], [[0.0, 1.0]]) and "transform" not in rest
    assert later["rows"] == (ROWS.texts, [[0.5, 0.5]] * 3) and later["transform"] == "hardener"


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
    monkeypatch.setattr(escalation, "_beyond_limit", lambda _: next(costs))
    student = replace_upper(place, Course([], []), (1.0, 0.5))
    assert [stage.details["kept"] for stage in place.stages] == kept
    assert (student is None) == kept[-1] == (not model[0].weight.any()), "else the suspect is as it was"


def test_of_the_shares_that_keep_accuracy_the_one_that_leaves_least_of_a_trigger_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken: list[float] = []
    monkeypatch.setattr(escalation, "mix", lambda _model, _ancestor, share: taken.append(share))

    def chosen(left: dict[float, float], lost: dict[float, float]) -> float | None:
        monkeypatch.setattr(escalation, "_beyond_limit", lambda _: lost[taken[-1]])
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
