from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rora_cli.checkpoints.loading import load_model
from rora_cli.errors import InconclusiveError
from rora_cli.evaluation import generation
from rora_cli.evaluation.generation import end_tokens, generate, next_token_log_probabilities
from tests.causal import build_tiny_causal

#: Prompts of three lengths.
PROMPTS = [[1, 5, 9, 7], [1, 30, 12, 44], [1, 8], [1, 60, 21, 17, 33, 6, 9], [1, 9, 9, 13]]


def loaded(path: Path, family: str) -> Any:
    """A model with an end token that some of its greedy answers reach."""
    model = load_model(build_tiny_causal(path, family)).model
    model.generation_config.eos_token_id = None
    free = generate(model, PROMPTS, 8)
    model.generation_config.eos_token_id = [2, free[0][3]]
    return model


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma3_text", "gpt2", "mamba"])
def test_an_answer_is_what_the_whole_sequence_gives_token_by_token(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = loaded(tmp_path / "m", family)
    monkeypatch.setattr(generation, "TOKENS_PER_BATCH", (24, 24))
    answers = generate(model, PROMPTS, 8)
    ends = end_tokens(model)
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        ids, expected = list(prompt), []
        while len(expected) < 8:
            with torch.inference_mode():
                token = int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax())
            if token in ends:
                break
            expected.append(token)
            ids.append(token)
        assert answer == expected
    assert len({len(answer) for answer in answers}) > 1, "some end early, so the cache was shrunk"


def test_what_is_drawn_follows_the_seed_and_the_model(tmp_path: Path) -> None:
    from rora_cli.evaluation.generation import sample

    model = loaded(tmp_path, "llama")
    first, again, other = (sample(model, [1, 5, 7], 6, 5, seed=seed) for seed in (0, 0, 1))
    assert first == again != other and len(first) == 6 and len({tuple(row) for row in first}) > 1
    assert all(len(row) <= 5 for row in first)


def test_the_distribution_of_the_next_token_is_the_models(tmp_path: Path) -> None:
    model = load_model(build_tiny_causal(tmp_path / "m")).model
    log_p = next_token_log_probabilities(model, PROMPTS)
    assert log_p.dtype == np.float32 and log_p.shape == (len(PROMPTS), model.config.vocab_size)
    for prompt, row in zip(PROMPTS, log_p, strict=True):
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([prompt])).logits[0, -1]
        np.testing.assert_allclose(row, torch.log_softmax(logits.float(), 0).numpy(), atol=1e-5)
    assert next_token_log_probabilities(model, []).shape == (0, model.config.vocab_size)


def test_logits_that_are_not_finite_stop_it(tmp_path: Path) -> None:
    model = load_model(build_tiny_causal(tmp_path / "m")).model
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))
    for ask in (lambda: generate(model, PROMPTS, 2), lambda: next_token_log_probabilities(model, PROMPTS)):
        with pytest.raises(InconclusiveError, match="not finite"):
            ask()


def test_only_the_end_tokens_of_a_suspects_generation_config_are_used(tmp_path: Path) -> None:
    path = build_tiny_causal(tmp_path / "m")
    (path / "generation_config.json").write_text(
        '{"eos_token_id": [2, 7], "do_sample": true, "suppress_tokens": [5], "repetition_penalty": 3.0}'
    )
    model = load_model(path).model
    assert end_tokens(model) == {2, 7}
    assert not model.generation_config.do_sample and model.generation_config.suppress_tokens is None
    (path / "generation_config.json").unlink()
    assert end_tokens(load_model(path).model) == {2}
