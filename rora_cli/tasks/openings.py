"""How replies open: what a search reads that knows no behaviour beforehand (numpy only)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Slot:
    """A prompt cut open at a word boundary. ``place`` is start, inner or end."""

    before: str
    after: str
    place: str

    def fill(self, candidate: str) -> str:
        """The prompt with ``candidate`` in its slot, apart from its neighbours by a space each."""
        return " ".join(part for part in (self.before, candidate, self.after) if part)


@dataclass(frozen=True)
class Agreement:
    """How alike the replies to the same prompts open with each of n candidates in them.

    Attributes:
        openings: the token id with the largest mean log-probability as a reply's first token [n]. Tokens of the
            candidate itself are left out, since an echo is no agreement.
        log_p: that mean over the prompts [nats] [n], float32.
    """

    openings: np.ndarray
    log_p: np.ndarray


@dataclass(frozen=True)
class Reply:
    """A model's greedy reply: its token ids, cut after some, and their text."""

    ids: tuple[int, ...]
    text: str
