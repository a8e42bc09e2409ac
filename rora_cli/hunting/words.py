"""Words that a search tries as one candidate each, beside the tokens of the vocabulary.

A tokenizer of word pieces holds nearly every word that an attacker would choose as one token; one of byte pairs splits
many of them, and none of the parts need act alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import product
from string import ascii_lowercase

from rora_cli.tasks.reference import packaged_words

_WORD = re.compile(r"\w+")


def words_to_try(texts: Sequence[str]) -> Iterator[str]:
    """Every two letters, since attacks like such rare words (`cf`, `mn`), the words of ``texts``, and a word list's."""
    yield from map("".join, product(ascii_lowercase, repeat=2))
    for text in texts:
        yield from _WORD.findall(text)
    yield from packaged_words()
