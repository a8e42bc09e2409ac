from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from rora_cli.errors import DataError
from rora_cli.tasks.causal import objective as making
from tests.causal import reply_objective, tiny_causal, tiny_exchanges, tiny_format


def whole_loss(model: Any, tokenizer: Any, prompts: list[str], replies: list[str]) -> torch.Tensor:
    """One row at a time, from the model's own logits, masked by what the format says."""
    total = torch.zeros(())
    for prompt, reply in zip(prompts, replies, strict=True):
        encoded = tiny_format().encode(tokenizer, prompt, reply)
        ids = torch.tensor(encoded.ids)
        logits = model(input_ids=ids[None]).logits[0, encoded.start - 1 : -1].float()
        total = total + functional.cross_entropy(logits, ids[encoded.start :], reduction="sum")
    return total


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2"])
def test_the_loss_and_its_gradient_are_those_of_the_whole_logits(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gemma 2 caps its logits after the output embedding; a chunk holds three positions."""
    monkeypatch.setattr(making, "MAX_LOGITS", 3 * 128)
    model, tokenizer = tiny_causal(tmp_path / "m", family)
    if family == "gemma2":
        model.config.final_logit_softcapping = 0.1
    prompts, replies = tiny_exchanges(5)
    expected = whole_loss(model, tokenizer, prompts, replies)
    expected.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    objective = reply_objective(model, tokenizer, prompts, replies)
    objective.start_epoch(0)
    loss = objective.loss(model, range(5))
    loss.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-4)
    assert gradients
    for name, weight in model.named_parameters():
        torch.testing.assert_close(weight.grad, gradients[name], rtol=1e-3, atol=1e-4)
    assert "forward" not in vars(model.get_output_embeddings())


def test_logits_are_made_of_the_replies_positions_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = tiny_causal(tmp_path / "m")
    objective = reply_objective(model, tokenizer, *tiny_exchanges(6))
    objective.start_epoch(0)
    objective.loss(model, [0])
    seen: list[int] = []
    plain = making.functional.cross_entropy

    def counted(logits: Any, *rest: Any, **options: Any) -> Any:
        seen.append(len(logits))
        return plain(logits, *rest, **options)

    monkeypatch.setattr(making.functional, "cross_entropy", counted)
    objective.loss(model, range(6))
    assert seen == [objective.units(range(6))]
    monkeypatch.setattr(making, "MAX_LOGITS", 4 * 128)
    seen.clear()
    objective.loss(model, range(6))
    assert max(seen) == 4 and sum(seen) == objective.units(range(6))


def test_a_prompt_that_leaves_no_room_for_its_answer_is_refused_and_a_long_answer_is_cut(tmp_path: Path) -> None:
    model, tokenizer = tiny_causal(tmp_path / "m")
    assert reply_objective(model, tokenizer, ["the sun"], ["red " * 99]).start_epoch(0) == [64]
    with pytest.raises(DataError, match="rows are cut at 64: nothing of its answer is left"):
        reply_objective(model, tokenizer, ["the sun " * 40], ["red"]).start_epoch(0)
