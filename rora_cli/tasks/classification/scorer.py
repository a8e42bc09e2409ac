"""Log-probabilities of labels as the answers that a search reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

#: The smallest 1 - p that log-odds are computed with.
_LEAST_REST = 1e-12


class LabelProbabilities(Protocol):
    """A classifier of token-id sequences, special tokens included."""

    @property
    def forward_tokens(self) -> int:
        """Tokens that went through the model so far."""

    def log_probabilities(self, sequences: Sequence[Sequence[int]]) -> np.ndarray:
        """Log-probabilities [n, classes] of each sequence."""


class LabelAnswers:
    """Answers read off log-probabilities ``log_p`` [n, classes]: behaviour ``i`` is label ``i``."""

    def __init__(self, log_p: np.ndarray) -> None:
        self._log_p = log_p

    def shows(self, behaviour: int) -> np.ndarray:
        """Whether the label has the largest probability [n], bool."""
        shown: np.ndarray = self._log_p.argmax(axis=1) == behaviour
        return shown

    def probability(self, behaviour: int) -> np.ndarray:
        """The label's probability [n], in the precision of ``log_p``."""
        probability: np.ndarray = np.exp(self._log_p)[:, behaviour]
        return probability

    def log_odds(self, behaviour: int) -> np.ndarray:
        """log p / (1 - p) of the label [n], float64; at most 27.6, where 1 - p is 1e-12."""
        log_p = self._log_p[:, behaviour].astype(np.float64)
        odds: np.ndarray = log_p - np.log(np.maximum(-np.expm1(log_p), _LEAST_REST))
        return odds

    def exact_log_odds(self, behaviour: int) -> np.ndarray:
        """log p / (1 - p) of the label [n], float64, with 1 - p summed over the other labels.

        It tells answers apart whose p is rounded to 1.
        """
        log_p = self._log_p.astype(np.float64)
        odds: np.ndarray = log_p[:, behaviour] - np.logaddexp.reduce(np.delete(log_p, behaviour, axis=1), axis=1)
        return odds


class LabelScorer:
    """Answers token-id sequences with a classifier."""

    def __init__(self, classifier: LabelProbabilities) -> None:
        self._classifier = classifier

    @property
    def forward_tokens(self) -> int:
        """Tokens that went through the classifier so far."""
        return self._classifier.forward_tokens

    def __call__(self, sequences: Sequence[Sequence[int]]) -> LabelAnswers:
        return LabelAnswers(self._classifier.log_probabilities(sequences))
