from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from rora_cli.commands.defences import escalation
from rora_cli.commands.defences.escalation import Taught, lessons, mix_in
from rora_cli.commands.defences.hunted import _Loop
from rora_cli.data.rows import Rows

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
    first, second = lessons(bench(), None, ["lights"], ROWS.texts)
    own = 1 / (1 + np.exp(-2.0))
    clean = {
        text: [(own + (label == 0)) / 2, (1 - own + (label == 1)) / 2]
        for text, label in zip(ROWS.texts, ROWS.labels, strict=True)
    }
    assert first.rows == pytest.approx(np.array(list(clean.values())))
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
    courses = tuple(Taught([f"text {i}"], [[0.0, 1.0]], [[0.5, 0.5]] * 3) for i in range(2))
    for changed in (False, True):
        loop.courses, loop.changed = courses, changed  # type: ignore[assignment]
        for number in (1, 2):
            loop.train(nn.Identity(), [], number)
    plain, again, rest, later = calls
    assert plain["transform"] == again["transform"] == "hardener" and plain["rows"] is again["rows"] is None
    assert rest["rows"] == (["text 1"], [[0.0, 1.0]]) and "transform" not in rest
    assert later["rows"] == (ROWS.texts, [[0.5, 0.5]] * 3) and later["transform"] == "hardener"


@pytest.mark.parametrize(("lost", "lacking", "share"), [(0.0, 0.0, 0.2), (0.008, 0.0, None), (0.008, 0.01, 0.2)])
def test_a_student_may_lack_a_little_that_it_is_taught_later(
    monkeypatch: pytest.MonkeyPatch, lost: float, lacking: float, share: float | None
) -> None:
    monkeypatch.setattr(escalation, "beyond_limit", lambda *_: lost)
    suspect, other = nn.Linear(2, 2), nn.Linear(2, 2)
    mixed = bench(before=object(), balancing_shift=lambda _: (None, None))
    mixed.model = suspect
    monkeypatch.setattr(
        escalation, "mix", lambda model, ancestor, a: model.weight.data.lerp_(ancestor.weight.data, 1 - a)
    )
    start = suspect.weight.detach().clone()
    assert mix_in(mixed, other, "other", lambda _: 0.0, (0.5, 0.2), lacking) is (share is not None)
    wanted = start if share is None else torch.lerp(start, other.weight, 1 - share)
    torch.testing.assert_close(suspect.weight.detach(), wanted.detach())


def test_of_shares_that_leave_hardly_any_effect_the_one_that_keeps_accuracy_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken: list[float] = []
    monkeypatch.setattr(escalation, "mix", lambda _model, _ancestor, share: taken.append(share))

    def chosen(left: dict[float, float], lost: dict[float, float]) -> float:
        monkeypatch.setattr(escalation, "_beyond_limit", lambda _: lost[taken[-1]])
        assert mix_in(bench(), nn.Linear(2, 2), "other", lambda _: left[taken[-1]], tuple(left), 0.02)
        return taken[-1]

    left = {0.5: 0.8, 0.3: 0.04, 0.2: 0.01, 0.0: 0.0}
    assert chosen(left, {0.5: 0.0, 0.3: 0.001, 0.2: 0.005, 0.0: 0.009}) == 0.3
    assert chosen(left, dict.fromkeys(left, 0.0)) == 0.0
    assert chosen({0.5: 0.3, 0.2: 0.2}, {0.5: 0.0, 0.2: 0.01}) == 0.2, "what is left of a trigger counts first"
