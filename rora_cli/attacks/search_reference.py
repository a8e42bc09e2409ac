"""A reference that needs no encoder: logistic regression on the bag of token ids of the clean rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class BagOfTokens:
    """Multinomial logistic regression on binary token features, an L2-regularised maximum-likelihood fit.

    It knows the honest words of the task as far as the clean rows hold them, and gives a token that they do not hold no
    effect at all: weaker than an encoder, but trusted by construction. ``forward_tokens`` stays 0: it costs no model.
    """

    def __init__(
        self, rows: Sequence[Sequence[int]], labels: Sequence[int], *, classes: int, vocabulary: int, l2: float = 0.3
    ) -> None:
        from scipy.optimize import minimize

        self.forward_tokens = 0
        self._vocabulary, self._classes = vocabulary, classes
        features = self._features(rows)
        wanted = np.eye(classes)[np.asarray(labels)]

        def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
            weights, bias = flat[:-classes].reshape(-1, classes), flat[-classes:]
            log_p = _log_softmax(features @ weights + bias)
            error = np.exp(log_p) - wanted
            value = -float((wanted * log_p).sum()) + 0.5 * l2 * float((weights**2).sum())
            return value, np.concatenate([(features.T @ error + l2 * weights).ravel(), error.sum(axis=0)])

        start = np.zeros(vocabulary * classes + classes)
        found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 200}).x
        self._weights, self._bias = found[:-classes].reshape(-1, classes), found[-classes:]

    def _features(self, rows: Sequence[Sequence[int]]) -> np.ndarray:
        from scipy.sparse import csr_matrix

        unique = [sorted(set(row)) for row in rows]
        indices = np.fromiter((t for row in unique for t in row), dtype=np.int64)
        pointers = np.concatenate([[0], np.cumsum([len(row) for row in unique])])
        return csr_matrix((np.ones(len(indices)), indices, pointers), shape=(len(rows), self._vocabulary))

    def log_probabilities(self, sequences: Sequence[Sequence[int]]) -> np.ndarray:
        """Log-probabilities [n, classes]."""
        return _log_softmax(self._features(sequences) @ self._weights + self._bias).astype(np.float32)


def _log_softmax(scores: np.ndarray) -> np.ndarray:
    shifted = scores - scores.max(axis=1, keepdims=True)
    result: np.ndarray = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result
