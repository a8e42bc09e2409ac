from __future__ import annotations

import numpy as np
import pytest

from rora_cli.errors import InconclusiveError, UsageError
from rora_cli.evaluation.inference import (
    choose_device,
    count_tokens,
    cut_note,
    input_limit,
    length_limit,
    predict_logits,
    token_batches,
    whole_words,
)
from tests.together import together

TEXTS = ["good film", "the plot was very dull", "bad", "I watched this 3D movie", "a bright plot not bad acting", ""]


def test_logits_are_those_of_each_row_alone_in_the_order_given(tiny) -> None:
    import torch

    model, tokenizer = tiny
    got = predict_logits(model, tokenizer, TEXTS, tokens_per_batch=20)
    with torch.no_grad():
        alone = [model(**tokenizer(text, return_tensors="pt")).logits[0].numpy() for text in TEXTS]
    assert got.dtype == np.float32 and got.shape == (len(TEXTS), 2)
    np.testing.assert_allclose(got, np.stack(alone), atol=1e-5)


def test_without_a_padding_token_rows_go_one_by_one(tiny) -> None:
    model, tokenizer = tiny
    padded = predict_logits(model, tokenizer, TEXTS)
    pad, tokenizer.pad_token = tokenizer.pad_token, None
    try:
        np.testing.assert_allclose(predict_logits(model, tokenizer, TEXTS), padded, atol=1e-5)
    finally:
        tokenizer.pad_token = pad


def test_every_module_goes_back_to_its_own_mode(tiny) -> None:
    model, tokenizer = tiny
    model.train()
    model.bert.encoder.layer[0].eval()
    before = {name: module.training for name, module in model.named_modules()}
    predict_logits(model, tokenizer, TEXTS)
    assert {name: module.training for name, module in model.named_modules()} == before
    model.eval()


def test_dropout_is_off_even_for_a_model_in_training_mode(tiny) -> None:
    model, tokenizer = tiny
    quiet = predict_logits(model, tokenizer, TEXTS)
    model.train()
    np.testing.assert_array_equal(predict_logits(model, tokenizer, TEXTS), quiet)
    model.eval()


def test_a_text_past_the_limit_is_cut_and_not_a_crash(tiny) -> None:
    model, tokenizer = tiny
    assert input_limit(model, tokenizer) == 24
    long = "bad " * 500
    np.testing.assert_allclose(
        predict_logits(model, tokenizer, [long]), predict_logits(model, tokenizer, ["bad " * 22]), atol=1e-6
    )


def test_robertas_positions_start_after_the_padding_and_its_limit_is_shorter(tiny) -> None:
    from transformers import RobertaConfig, RobertaForSequenceClassification

    _, tokenizer = tiny
    config = RobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=12,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = RobertaForSequenceClassification(config).eval()
    assert input_limit(model, tokenizer) == 12 - (tokenizer.pad_token_id + 1)
    assert predict_logits(model, tokenizer, ["bad " * 50, "good"]).shape == (2, 2)


def test_random_words_are_single_plain_pieces(tiny) -> None:
    words = whole_words(tiny[1])
    assert "film" in words and "3D" not in words and "[PAD]" not in words
    assert count_tokens(tiny[1], ["bad film", ""]) == [4, 2]


def test_an_unknown_device_is_a_usage_error() -> None:
    assert choose_device("cpu") == "cpu"
    with pytest.raises(UsageError, match="abacus"):
        choose_device("abacus")


def test_logits_that_are_not_finite_are_never_counted(tiny) -> None:
    import torch

    model, tokenizer = tiny
    kept = model.classifier.bias.detach().clone()
    with torch.no_grad():
        model.classifier.bias[1] = float("nan")
    try:
        with pytest.raises(InconclusiveError, match=r"not finite on 6 of 6 rows"):
            predict_logits(model, tokenizer, TEXTS)
    finally:
        with torch.no_grad():
            model.classifier.bias.copy_(kept)


def test_processes_that_ask_together_get_to_the_bit_the_logits_of_one(tiny) -> None:
    one = predict_logits(*tiny, TEXTS, tokens_per_batch=10)
    for logits in together(2, lambda share: predict_logits(*tiny, TEXTS, tokens_per_batch=10, share=share)):
        np.testing.assert_array_equal(logits, one)


def test_no_texts_give_no_rows(tiny) -> None:
    assert predict_logits(*tiny, []).shape == (0, 2)


def test_progress_counts_rows(tiny) -> None:
    class Count:
        rows = 0

        def advance(self, steps: int = 1, **parts: float | str) -> None:
            self.rows += steps

    task = Count()
    predict_logits(*tiny, TEXTS, task=task)
    assert task.rows == len(TEXTS)
    counts = [Count(), Count()]
    together(2, lambda share: predict_logits(*tiny, TEXTS, tokens_per_batch=10, share=share, task=counts[share.rank]))
    assert [count.rows for count in counts] == [len(TEXTS)] * 2, "of all processes"


def test_batches_hold_every_index_once_within_the_budget() -> None:
    lengths = [5, 1, 9, 9, 30, 2, 2]
    batches = token_batches(lengths, 20)
    assert sorted(i for batch in batches for i in batch) == list(range(7))
    for batch in batches:
        assert len(batch) == 1 or max(lengths[i] for i in batch) * len(batch) <= 20


def test_one_rule_for_lengths_and_a_sentence_where_rows_are_cut(tiny_model) -> None:
    model, tokenizer = tiny_model
    assert length_limit(model, tokenizer) == input_limit(model, tokenizer) == 64
    assert length_limit(model, tokenizer, 12) == 12
    with pytest.raises(UsageError, match="64 tokens"):
        length_limit(model, tokenizer, 65)
    assert cut_note(tokenizer, ["good", "good " * 62], 64) is None
    assert cut_note(tokenizer, ["good", "good " * 63], 64) == (
        "1 of 2 rows has more than 64 tokens and is cut to that length"
    )
