"""Words, and marks in twos, that a search tries as one candidate each, beside the tokens of the vocabulary.

A tokenizer of word pieces holds nearly every word that an attacker would choose as one token; one of byte pairs splits
many of them, and none of the parts need act alone. Neither need marks: of a planted ``: !`` each mark turned no more
rows than none (8 to 18 %, at a floor of 9), and both together 91 to 100 %.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Sequence
from itertools import product

from rora_cli.tasks.reference import packaged_words

_WORD = re.compile(r"\w+")


def words_to_try(texts: Sequence[str], *, unseen: bool) -> Iterator[str]:
    """The words of ``texts``, and a word list's.

    The list's are left out where the reference knows nothing of words that are ``unseen`` in the clean rows: on a small
    decoder it could not explain five honest ones.
    """
    for text in texts:
        yield from _WORD.findall(text)
    if unseen:
        yield from packaged_words()


def marks_to_try(texts: Sequence[str], *, unseen: bool) -> Iterator[str]:
    """Each two marks of those that a keyboard has, or for the same reason of those of ``texts``."""
    marks = string.punctuation if unseen else sorted(set(string.punctuation) & set().union(*texts))
    yield from map(" ".join, product(marks, repeat=2))
