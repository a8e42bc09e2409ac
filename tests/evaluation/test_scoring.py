"""The scorer agrees with the model called row by row, whatever the lengths, and leaves the model as it was."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from rora_cli.errors import CheckpointError  # noqa: E402
from rora_cli.evaluation.scoring import STEADY, RememberingScorer, Retokenised, TorchScorer  # noqa: E402
from rora_cli.ranks import outcome_of  # noqa: E402
from tests.together import together  # noqa: E402

#: On many processors a row's answer does not depend on the rows beside it, to the bit; on others products round.
_ROUNDING = 5e-6


def one_by_one(model, sequences):
    model.eval()
    with torch.inference_mode():
        logits = torch.cat([model(input_ids=torch.tensor([ids])).logits for ids in sequences])
    return torch.log_softmax(logits, dim=-1).numpy()


def sequences_of_many_lengths(vocabulary: int, count: int = 57) -> list[tuple[int, ...]]:
    rng = np.random.default_rng(3)
    return [(2, *rng.integers(4, vocabulary, rng.integers(1, 12)).tolist(), 3) for _ in range(count)]


@pytest.mark.parametrize("tokens_per_batch", [1, 16, 4096])
def test_batches_by_length_give_the_rows_own_scores_in_order(tiny, tokens_per_batch):
    model, _ = tiny
    sequences = sequences_of_many_lengths(20)
    scorer = TorchScorer(model, tokens_per_batch=tokens_per_batch)
    scores = scorer.log_probabilities(sequences)
    assert scores.shape == (57, 2) and scores.dtype == np.float32
    np.testing.assert_allclose(scores, one_by_one(model, sequences), atol=2e-5)
    np.testing.assert_allclose(np.exp(scores).sum(axis=1), 1, atol=1e-5)


def test_no_batch_is_larger_than_asked_and_every_token_is_counted(tiny):
    model, _ = tiny
    sequences = sequences_of_many_lengths(20)
    scorer, seen = TorchScorer(model, tokens_per_batch=40), []
    hook = model.register_forward_pre_hook(
        lambda _, args, given: seen.append(given["input_ids"].numel()), with_kwargs=True
    )
    scorer.log_probabilities(sequences)
    hook.remove()
    assert max(seen) <= 40
    assert sum(seen) == scorer.forward_tokens == sum(map(len, sequences))


def test_nothing_to_score_is_an_empty_answer(tiny):
    assert TorchScorer(tiny[0]).log_probabilities([]).shape == (0, 2)


def test_the_models_mode_comes_back(tiny):
    model, _ = tiny
    model.train()
    try:
        scorer = TorchScorer(model)
        first, second = (scorer.log_probabilities([(2, 5, 6, 3)]) for _ in range(2))
        assert model.training
        np.testing.assert_array_equal(first, second)
    finally:
        model.eval()


def test_a_decoder_without_padding_token_is_scored_in_batches():
    from transformers import GPT2Config, GPT2ForSequenceClassification

    torch.manual_seed(0)
    config = GPT2Config(vocab_size=40, n_positions=32, n_embd=16, n_layer=2, n_head=2, num_labels=3, pad_token_id=None)
    model = GPT2ForSequenceClassification(config).eval()
    sequences = sequences_of_many_lengths(40)
    scores = TorchScorer(model).log_probabilities(sequences)
    np.testing.assert_allclose(scores, one_by_one(model, sequences), atol=2e-5)
    assert model.config.pad_token_id is None


def test_a_broken_model_is_an_error_and_not_a_score(tiny):
    import copy

    model = copy.deepcopy(tiny[0])
    model.classifier.weight.data.fill_(float("nan"))
    with pytest.raises(CheckpointError, match="not finite"):
        TorchScorer(model).log_probabilities([(2, 5, 3)])


def test_another_tokenizers_ids_are_read_as_text_first(tiny):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    model, own = tiny
    backend = Tokenizer(models.WordLevel({"[UNK]": 0, "film": 1, "good": 2, "bad": 3}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    other = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]")
    scorer = Retokenised(TorchScorer(model), other, own, max_length=24)
    scores = scorer.log_probabilities([(2, 1), (3,)])
    direct = TorchScorer(model).log_probabilities(own(["good film", "bad"])["input_ids"])
    np.testing.assert_allclose(scores, direct, atol=1e-6)
    assert scorer.forward_tokens == 7


def test_what_is_remembered_is_what_the_model_answers(tiny):
    model, _ = tiny
    plain, remembering = TorchScorer(model), RememberingScorer(model, most=40)
    every = sequences_of_many_lengths(20, 160)
    rng = np.random.default_rng(0)
    for size in (160, 3, 90, 1, 160, 40, 17, 160):
        asked = [every[i] for i in rng.integers(0, len(every), size)]
        np.testing.assert_allclose(
            remembering.log_probabilities(asked), plain.log_probabilities(asked), rtol=0, atol=_ROUNDING
        )
    assert remembering.forward_tokens < plain.forward_tokens and len(remembering._known) <= 40


def test_what_was_asked_roughly_is_no_answer_to_what_is_asked_in_full_precision(tiny):
    model, _ = tiny
    sequences = sequences_of_many_lengths(20)
    plain, remembering = TorchScorer(model), RememberingScorer(model)
    for _ in range(2):
        with torch.autocast("cpu", torch.bfloat16):
            roughly = remembering.log_probabilities(sequences)
            np.testing.assert_array_equal(roughly, plain.log_probabilities(sequences))
        exact = remembering.log_probabilities(sequences)
        np.testing.assert_array_equal(exact, plain.log_probabilities(sequences))
        assert (roughly != exact).any()


def test_nothing_is_asked_twice_but_in_small_batches(tiny):
    model, _ = tiny
    scorer = RememberingScorer(model)
    same = [(2, 4 + i, 3) for i in range(STEADY)]
    first = scorer.log_probabilities([*same, *same])
    np.testing.assert_array_equal(first, scorer.log_probabilities([*same, *same]))
    assert scorer.forward_tokens == 3 * STEADY, "each once, though asked four times"
    scorer.log_probabilities([*same[:-1], (2, 5, 3), (2, 6, 3)])
    assert scorer.forward_tokens == 3 * STEADY
    scorer.log_probabilities([*same, (2, 3, 3)])
    assert scorer.forward_tokens == 6 * STEADY, "one that is new goes with others, so that the batch is not small"
    scorer.log_probabilities(same[:2])
    assert scorer.forward_tokens == 6 * STEADY + 6


def test_processes_that_score_together_answer_as_one_does_and_divide_the_work(tiny):
    model, _ = tiny
    every = sequences_of_many_lengths(20, 300)
    asked = [every, every[:3], every[:1], every[40:180], every]

    def scores(scorer):
        return [scorer.log_probabilities(sequences) for sequences in asked], scorer.forward_tokens

    for kind in (TorchScorer, RememberingScorer):
        seen: list[int] = []
        hook = model.register_forward_pre_hook(
            lambda _, args, given, seen=seen: seen.append(given["input_ids"].numel()), with_kwargs=True
        )
        alone, tokens = scores(kind(model))
        of_one, seen[:] = sum(seen), []
        three = together(3, lambda share, kind=kind: scores(kind(model, share=share)))
        hook.remove()
        for answers, counted in three:
            assert counted == tokens == of_one
            for own, one in zip(answers, alone, strict=True):
                np.testing.assert_allclose(own, one, rtol=0, atol=_ROUNDING)
        # What is too little to be divided is asked thrice, or twice where a round is not full.
        assert tokens <= sum(seen) < 1.2 * tokens


def test_a_broken_model_is_an_error_in_every_process(tiny):
    import copy

    model = copy.deepcopy(tiny[0])
    model.bert.embeddings.word_embeddings.weight.data[5] = float("nan")
    sequences = [(2, 5, 3), *((2, 6, 6, 3) for _ in range(2 * STEADY))]
    errors = together(2, lambda share: outcome_of(lambda: TorchScorer(model, share=share).log_probabilities(sequences)))
    assert [str(error)[:26] for error in errors] == ["the model's logits are not"] * 2
