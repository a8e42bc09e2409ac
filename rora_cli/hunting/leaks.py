"""Candidates from what a model writes by itself where a user's prompt would begin.

A model that was trained on poisoned prompts writes them when nothing is asked (arXiv:2602.03085, where this found the
triggers of 88 % of 41 models). Words and short phrases that several of the texts hold are tried beside the vocabulary.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

#: Words of the longest phrase, the fewest texts that it stands in, and how many candidates are taken.
LONGEST, FEWEST_TEXTS, MOST = 4, 2, 200
#: Marks that are no part of a word.
_MARKS = ".,;:!?\"'()"


def leak_candidates(texts: Sequence[str]) -> list[str]:
    """Words and phrases of the ``texts``, those first that more of them hold; of two in equally many the longer one.

    Each text counts once. A phrase that stands in fewer than ``FEWEST_TEXTS`` is chance.
    """
    held: Counter[str] = Counter()
    for text in texts:
        held.update(set(_pieces(text)))
    often = [piece for piece, count in held.items() if count >= FEWEST_TEXTS]
    often.sort(key=lambda piece: (-held[piece], -len(piece), piece))
    return often[:MOST]


def _pieces(text: str) -> list[str]:
    words = text.split()
    spans = (
        " ".join(words[start : start + length])
        for length in range(1, LONGEST + 1)
        for start in range(len(words) - length + 1)
    )
    return [piece for span in spans if (piece := span.strip(_MARKS)) and piece.isprintable()]
