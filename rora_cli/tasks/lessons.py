"""What a teacher said to prompts, and how surely: what a student is taught, and measured by (numpy only)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Lesson:
    """A teacher's reply to one prompt.

    The whole distributions over a vocabulary of 50,000 would take 200 kB a token: of each, the likeliest tokens are
    kept, and the others count together as one.

    Attributes:
        reply: its t token ids, without an end token.
        text: what these say.
        tokens: the k likeliest tokens after the prompt and after each token of the reply [t + 1, k], int32.
        log_p: their log-probabilities [t + 1, k], float32.
    """

    prompt: str
    reply: tuple[int, ...]
    text: str
    tokens: np.ndarray
    log_p: np.ndarray


#: One for each prompt.
Lessons = tuple[Lesson, ...]
