"""Teaching a causal model by another's distributions, and the distance between both."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from rora_cli.data.rows import Rows
from rora_cli.errors import DataError
from rora_cli.kinds import CAUSAL_LM
from rora_cli.subject import Subject
from rora_cli.tasks.causal.distillation import partial_kl
from rora_cli.tasks.causal.trained import FreeReplies
from tests.causal import tiny_causal, tiny_exchanges, tiny_format
from tests.together import together

PROMPTS = tiny_exchanges(6)[0]
TASK = FreeReplies((), tiny_format(), 5)


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    return Subject(*tiny_causal(tmp_path / "m"), CAUSAL_LM, 48)


@pytest.fixture
def other(tmp_path: Path) -> Subject:
    return Subject(*tiny_causal(tmp_path / "other", layers=1), CAUSAL_LM, 48)


def test_kl_over_all_tokens_is_the_whole_and_over_some_at_most_that() -> None:
    torch.manual_seed(0)
    teacher, student = torch.randn(2, 5, 40).log_softmax(dim=-1).unbind()
    whole = (teacher.exp() * (teacher - student)).sum(dim=-1)
    for kept in (40, 8, 1):
        best = teacher.topk(kept, dim=-1)
        found = partial_kl(best.values, best.indices, student)
        assert (found <= whole + 1e-4).all() and (found >= -1e-6).all()
    assert torch.allclose(partial_kl(*_top(teacher, 40), student), whole, atol=1e-4)
    assert torch.allclose(partial_kl(*_top(teacher, 8), teacher), torch.zeros(5), atol=1e-5)


def _top(log_p: torch.Tensor, kept: int) -> tuple[torch.Tensor, torch.Tensor]:
    best = log_p.topk(kept, dim=-1)
    return best.values, best.indices


def test_lessons_hold_the_greedy_reply_and_the_distributions_along_it(subject: Subject) -> None:
    lessons = TASK.lessons(subject, PROMPTS)
    assert [lesson.prompt for lesson in lessons] == PROMPTS
    for lesson in lessons:
        assert len(lesson.tokens) == len(lesson.reply) + 1 <= 6
        # The likeliest token of each distribution is what was said next.
        assert tuple(lesson.tokens[: len(lesson.reply), 0]) == lesson.reply
        assert np.exp(lesson.log_p).sum(axis=1).max() <= 1 + 1e-5


def test_a_model_is_at_no_distance_from_itself_and_at_the_plain_kl_from_another(
    subject: Subject, other: Subject
) -> None:
    lessons = TASK.lessons(subject, PROMPTS)
    own, far = TASK.divergence(subject, lessons), TASK.divergence(other, lessons)
    assert own is not None and own.mean == pytest.approx(0, abs=1e-5)
    total, tokens = 0.0, 0
    for lesson in lessons:
        ids = [*TASK._asked(subject, [lesson.prompt])[0], *lesson.reply]
        with torch.no_grad():
            p, q = (
                each.model(torch.tensor([ids])).logits[0, len(ids) - len(lesson.reply) - 1 :].log_softmax(dim=-1)
                for each in (subject, other)
            )
        total += float((p.exp() * (p - q)).sum())
        tokens += len(lesson.reply) + 1
    assert far is not None and far.tokens == tokens and far.mean == pytest.approx(total / tokens, rel=1e-3)
    assert far.worst_prompt in PROMPTS and far.mean <= far.worst
    for found in together(2, lambda share: TASK.divergence(other.shared(share), lessons)):
        # Other batches round otherwise: log-probabilities near -5 are known to 5e-7, and the mean is .013.
        assert found is not None and found.mean == pytest.approx(far.mean, abs=2e-6)
    for made in together(2, lambda share: TASK.lessons(subject.shared(share), PROMPTS)):
        assert [lesson.reply for lesson in made] == [lesson.reply for lesson in lessons]


def test_the_loss_is_the_distance_whatever_the_batch_and_falls_in_training(subject: Subject, other: Subject) -> None:
    lessons = TASK.lessons(subject, PROMPTS)
    objective, far = TASK.taught(other, lessons), TASK.divergence(other, lessons)
    lengths = objective.start_epoch(0)
    assert len(lengths) == len(objective) == len(PROMPTS) and far is not None
    rows = range(len(PROMPTS))
    whole = float(objective.loss(other.model, rows).detach())
    assert objective.units(rows) == far.tokens and whole == pytest.approx(far.mean * far.tokens, rel=1e-3)
    apart = sum(float(objective.loss(other.model, [row]).detach()) for row in rows)
    assert apart == pytest.approx(whole, rel=1e-4) and float(objective.loss(other.model, []).detach()) == 0
    optimizer = torch.optim.Adam(other.model.parameters(), lr=3e-3)
    for _ in range(30):
        objective.loss(other.model, rows).backward()
        optimizer.step()
        optimizer.zero_grad()
    after = TASK.divergence(other, lessons)
    assert after is not None and after.mean < far.mean / 4


def test_logits_in_pieces_give_the_same_gradient(
    subject: Subject, other: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = TASK.taught(other, TASK.lessons(subject, PROMPTS))
    objective.start_epoch(0)

    def gradient() -> torch.Tensor:
        objective.loss(other.model, range(len(PROMPTS))).backward()
        found = other.model.get_output_embeddings().weight.grad.clone()
        other.model.zero_grad()
        return found

    whole = gradient()
    monkeypatch.setattr("rora_cli.tasks.causal.objective.MAX_LOGITS", 4 * 128)
    assert torch.allclose(gradient(), whole, atol=1e-5)


def test_words_are_put_into_the_prompt_and_the_reply_stays(subject: Subject) -> None:
    lessons = TASK.lessons(subject, PROMPTS)
    plain = TASK.taught(subject, lessons).start_epoch(0)
    longer = TASK.taught(subject, lessons, transform=lambda text, row, epoch: f"mn bb {text}")
    assert [length - 2 for length in longer.start_epoch(0)] == plain
    assert longer.units(range(6)) == sum(len(lesson.tokens) for lesson in lessons)
    crowded = TASK.taught(subject, lessons, transform=lambda text, row, epoch: f"{'mn ' * 60}{text}")
    with pytest.raises(DataError, match="with a trigger in it, and rows are cut at 48"):
        crowded.start_epoch(0)


def test_accuracy_counts_the_answers_tokens_that_are_likeliest(subject: Subject) -> None:
    replies = TASK.replies(subject, PROMPTS)
    own = TASK.quality(subject, Rows(tuple(PROMPTS), tuple(f" {reply}" for reply in replies))).overall
    others = TASK.quality(subject, Rows(tuple(PROMPTS), tuple("red sun" for _ in PROMPTS))).overall
    assert own.total > others.total > 0 and (own.value or 0) > (others.value or 0)
    assert TASK.shows(subject, PROMPTS).shape == (len(PROMPTS), 0), "nothing is judged"
