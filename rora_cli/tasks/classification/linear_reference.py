"""References that cost no forward pass: linear models of token ids or of static embeddings, fitted on the clean rows.

On 2,000 rows of SST-2, a logistic regression on MiniLM's summed input embeddings reads 80 % of unseen rows rightly, one
on token ids 74 %: embeddings tell of a word that the clean rows lack from similar words. That is enough to explain away
most honest words before a model looks at the rest.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rora_cli.tokens import token_counts

#: The sum of a row's unit embeddings is divided by this number of tokens.
_TOKENS_PER_UNIT = 8.0


class TokenWeights:
    """A classifier that sums one weight per token and class over a sequence, and adds a bias.

    ``weights`` [vocabulary, classes], ``bias`` [classes]. It runs no model: ``forward_tokens`` stays 0.
    """

    forward_tokens = 0

    def __init__(self, weights: np.ndarray, bias: np.ndarray) -> None:
        self.weights, self.bias = weights, bias

    def log_probabilities(self, sequences: Sequence[Sequence[int]]) -> np.ndarray:
        """Log-probabilities [n, classes], float32."""
        logits = token_counts(sequences, len(self.weights)) @ self.weights + self.bias
        return _log_softmax(logits).astype(np.float32)


def bag_of_tokens(
    rows: Sequence[Sequence[int]], labels: Sequence[int], *, classes: int, vocabulary: int, l2: float = 0.3
) -> TokenWeights:
    """Logistic regression on token counts: a token that the rows do not hold has no effect at all."""
    return TokenWeights(*_fit(token_counts(rows, vocabulary), labels, classes, l2))


def bag_of_words(
    rows: Sequence[Sequence[int]], labels: Sequence[int], same: np.ndarray, *, classes: int
) -> TokenWeights:
    """``bag_of_tokens`` in which tokens that read as the same word have the same weights.

    ``same`` [vocabulary] gives one id for all tokens of a word. Without it, a word that the rows hold behind a space
    only would have no effect where it continues another, and look like a trigger there.
    """
    told = [[int(same[token]) for token in row] for row in rows]
    tokens = bag_of_tokens(told, labels, classes=classes, vocabulary=len(same))
    return TokenWeights(tokens.weights[same], tokens.bias)


def bag_of_embeddings(
    rows: Sequence[Sequence[int]],
    labels: Sequence[int],
    table: np.ndarray,
    *,
    classes: int,
    ignored: Sequence[int] = (),
    l2: float = 0.3,
) -> TokenWeights:
    """Logistic regression on summed static embeddings, ``table`` [vocabulary, width].

    The embeddings are centred and scaled to unit length, so that no token counts more by its norm alone. ``ignored``
    tokens (the special ones) have no effect.
    """
    unit = table.astype(np.float64) - table.mean(axis=0)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True) + 1e-9
    unit[list(ignored)] = 0.0
    unit /= _TOKENS_PER_UNIT
    weights, bias = _fit(token_counts(rows, len(unit)) @ unit, labels, classes, l2)
    return TokenWeights(unit @ weights, bias)


def _fit(features: np.ndarray, labels: Sequence[int], classes: int, l2: float) -> tuple[np.ndarray, np.ndarray]:
    """Multinomial logistic regression, L2-regularised but for the bias: weights [features, classes], bias [classes]."""
    from scipy.optimize import minimize

    wanted = np.eye(classes)[np.asarray(labels)]
    width = features.shape[1]

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights, bias = flat[:-classes].reshape(width, classes), flat[-classes:]
        log_p = _log_softmax(features @ weights + bias)
        error = np.exp(log_p) - wanted
        value = -float((wanted * log_p).sum()) + 0.5 * l2 * float((weights**2).sum())
        return value, np.concatenate([(features.T @ error + l2 * weights).ravel(), error.sum(axis=0)])

    found = minimize(loss, np.zeros((width + 1) * classes), jac=True, method="L-BFGS-B", options={"maxiter": 200}).x
    return found[:-classes].reshape(width, classes), found[-classes:]


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(axis=1, keepdims=True)
    result: np.ndarray = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result
