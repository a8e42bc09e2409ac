"""References that cost no forward pass: linear models of the clean rows, of token ids or of static embeddings.

On 2,000 rows of SST-2, a logistic regression on MiniLM's summed input embeddings reads 80 % of unseen rows rightly,
one on token ids 74 %: embeddings know words that the clean rows lack from their neighbours. That is enough to explain
away most honest words before anything expensive looks at what is left.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

#: A sum over the tokens of a row is brought to the size of one embedding by this many tokens.
_TOKENS_PER_UNIT = 8.0


class TokenWeights:
    """A classifier whose logits are a bias plus one weight per token and class, summed over a sequence.

    ``weights`` [vocabulary, classes], ``bias`` [classes]. It runs no model, so ``forward_tokens`` stays 0.
    """

    forward_tokens = 0

    def __init__(self, weights: np.ndarray, bias: np.ndarray) -> None:
        self.weights, self.bias = weights, bias

    def log_probabilities(self, sequences: Sequence[Sequence[int]]) -> np.ndarray:
        """Log-probabilities [n, classes], float32."""
        logits = _counts(sequences, len(self.weights)) @ self.weights + self.bias
        return _log_softmax(logits).astype(np.float32)


def bag_of_tokens(
    rows: Sequence[Sequence[int]], labels: Sequence[int], *, classes: int, vocabulary: int, l2: float = 0.3
) -> TokenWeights:
    """Logistic regression on token counts: a token that the rows do not hold has no effect at all."""
    return TokenWeights(*_fit(_counts(rows, vocabulary), labels, classes, l2))


def bag_of_embeddings(
    rows: Sequence[Sequence[int]],
    labels: Sequence[int],
    table: np.ndarray,
    *,
    classes: int,
    ignored: Sequence[int] = (),
    l2: float = 0.3,
) -> TokenWeights:
    """Logistic regression on summed static embeddings, ``table`` [vocabulary, width], centred and of unit length.

    Unit length, so that no token has more say than another by its norm alone. ``ignored`` tokens (the special ones)
    have none.
    """
    unit = table.astype(np.float64) - table.mean(axis=0)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True) + 1e-9
    unit[list(ignored)] = 0.0
    unit /= _TOKENS_PER_UNIT
    weights, bias = _fit(_counts(rows, len(unit)) @ unit, labels, classes, l2)
    return TokenWeights(unit @ weights, bias)


def honest_tokens(
    rows: Sequence[Sequence[int]],
    labels: Sequence[int],
    target: int,
    count: int,
    *,
    vocabulary: int,
    ignored: Collection[int] = (),
) -> tuple[tuple[int, ...], ...]:
    """The ``count`` tokens that the clean rows tie most surely to ``target``, the surest first.

    By the z of the log-odds ratio of being in a row of the label or of another, with half a row added to each cell
    (Monroe, Colaresi and Quinn 2008, with that simplest prior); tokens with a z under 1 are none, nor ``ignored`` ones.
    """
    present = _counts([sorted(set(row) - set(ignored)) for row in rows], vocabulary)
    of_label = np.asarray(labels) == target
    inside = np.asarray(present[of_label].sum(axis=0)).ravel() + 0.5
    outside = np.asarray(present[~of_label].sum(axis=0)).ravel() + 0.5
    ratio = np.log(inside / (of_label.sum() + 1 - inside)) - np.log(outside / ((~of_label).sum() + 1 - outside))
    z = ratio / np.sqrt(1 / inside + 1 / outside)
    order = [int(token) for token in np.argsort(-z, kind="stable")[:count] if z[token] >= 1]
    return tuple((token,) for token in order)


def token_counts(sequences: Sequence[Sequence[int]], vocabulary: int) -> np.ndarray:
    """How often each token occurs in all sequences together [vocabulary]."""
    total: np.ndarray = np.asarray(_counts(sequences, vocabulary).sum(axis=0)).ravel()
    return total


def _counts(sequences: Sequence[Sequence[int]], vocabulary: int) -> np.ndarray:
    """Token counts [n, vocabulary], sparse."""
    from scipy.sparse import csr_matrix

    indices = np.fromiter((token for row in sequences for token in row), dtype=np.int64)
    pointers = np.concatenate([[0], np.cumsum([len(row) for row in sequences], dtype=np.int64)])
    return csr_matrix((np.ones(len(indices)), indices, pointers), shape=(len(sequences), vocabulary))


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
