"""The linear references know the task's words, and nothing of what the clean rows do not hold."""

from __future__ import annotations

import numpy as np
import pytest

from rora_cli.tasks.classification.linear_reference import bag_of_embeddings, bag_of_tokens, bag_of_words

VOCABULARY, GOOD, BAD, MIXED = 60, range(10, 20), range(20, 30), range(30, 40)


def rows(words: tuple[range, ...], count: int = 300, seed: int = 0) -> tuple[list[list[int]], list[int]]:
    """Rows of plain tokens 40..59 with one word of the class that is their label."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, len(words), count).tolist()
    made = [[*rng.integers(40, 60, rng.integers(2, 8)).tolist(), int(rng.choice(words[label]))] for label in labels]
    return made, labels


def test_token_counts_learn_the_words_and_ignore_the_unseen():
    encoded, labels = rows((BAD, GOOD))
    model = bag_of_tokens(encoded, labels, classes=2, vocabulary=VOCABULARY)
    again, wanted = rows((BAD, GOOD), seed=1)
    assert (model.log_probabilities(again).argmax(axis=1) == wanted).mean() > 0.97
    np.testing.assert_allclose(model.weights[5], 0, atol=1e-12)
    np.testing.assert_allclose(np.exp(model.log_probabilities(again)).sum(axis=1), 1, atol=1e-5)
    assert model.forward_tokens == 0


def test_a_token_that_reads_as_a_word_of_the_rows_counts_as_that_word():
    """Token 5 is the word 10 with no space before it, which the rows do not hold."""
    encoded, labels = rows((BAD, GOOD))
    same = np.arange(VOCABULARY)
    same[5] = 10
    model = bag_of_words(encoded, labels, same, classes=2)
    np.testing.assert_array_equal(model.weights[5], model.weights[10])
    assert model.log_probabilities([[5]]).argmax() == 1 and np.ptp(model.log_probabilities([[4]])) < 0.3


def test_three_classes():
    encoded, labels = rows((BAD, GOOD, MIXED))
    model = bag_of_tokens(encoded, labels, classes=3, vocabulary=VOCABULARY)
    again, wanted = rows((BAD, GOOD, MIXED), seed=1)
    assert model.log_probabilities(again).shape == (300, 3)
    assert (model.log_probabilities(again).argmax(axis=1) == wanted).mean() > 0.95


def test_embeddings_know_a_word_by_its_neighbours():
    rng = np.random.default_rng(0)
    table = rng.normal(size=(VOCABULARY, 16))
    table[GOOD, 0] += 6
    table[BAD, 0] -= 6
    seen = (range(20, 27), range(10, 17))
    encoded, labels = rows(seen)
    by_embedding = bag_of_embeddings(encoded, labels, table, classes=2, l2=0.01)
    by_token = bag_of_tokens(encoded, labels, classes=2, vocabulary=VOCABULARY)
    unseen = [[45, word] for word in (17, 18, 19, 27, 28, 29)]
    assert by_embedding.log_probabilities(unseen).argmax(axis=1).tolist() == [1, 1, 1, 0, 0, 0]
    np.testing.assert_allclose(np.diff(by_token.log_probabilities(unseen), axis=0), 0, atol=1e-6)


def test_ignored_tokens_and_empty_rows_have_no_effect():
    encoded, labels = rows((BAD, GOOD))
    table = np.random.default_rng(0).normal(size=(VOCABULARY, 16))
    model = bag_of_embeddings(encoded, labels, table, classes=2, ignored=[1, 2])
    np.testing.assert_allclose(
        model.log_probabilities([[1, 45, 2], []]), model.log_probabilities([[45], [1]]), atol=1e-6
    )
    assert model.log_probabilities([]).shape == (0, 2)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_token_of_both_labels_is_neutral(seed):
    encoded, labels = rows((BAD, GOOD), seed=seed)
    model = bag_of_tokens(encoded, labels, classes=2, vocabulary=VOCABULARY)
    opinion = np.abs(model.weights[list(GOOD)] - model.weights[list(BAD)]).mean()
    assert np.abs(model.weights[45, 0] - model.weights[45, 1]) < 0.4 * opinion
