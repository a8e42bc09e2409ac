"""The tokens of a tokenizer: which of them are control symbols, and the text of each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rora_cli.errors import CheckpointError

if TYPE_CHECKING:
    import numpy as np

#: A plain word that most tokenizers know. Tokens are decoded after it, to see whether they attach to it.
_PROBE_WORD = "a"
#: T5's sentinels; they are control symbols even if the tokenizer's files do not flag them.
_SENTINEL = re.compile(r"<extra_id_\d+>")


def special_ids(tokenizer: Any) -> frozenset[int]:
    """The ids of control symbols. No text holds them, so no search, word list or control trigger may use them.

    They are padding, unknown, mask, separators and the like, every added token that is flagged as special
    (``<|im_start|>``), and T5's sentinels.
    """
    named = set(tokenizer.all_special_ids)
    added = getattr(tokenizer, "added_tokens_decoder", {})
    named |= {token for token, content in added.items() if getattr(content, "special", False)}
    named |= {token for text, token in tokenizer.get_vocab().items() if _SENTINEL.fullmatch(text)}
    return frozenset(named)


def decode_each(tokenizer: Any, sequences: Sequence[Sequence[int]]) -> list[str]:
    """The text of each sequence of token ids, by the tokenizer's ``decode`` without cleaning up spaces.

    A fast tokenizer decodes all in one call, which takes a quarter of the time for a whole vocabulary.
    """
    lists = [list(sequence) for sequence in sequences]
    if getattr(tokenizer, "is_fast", False):
        texts: list[str] = tokenizer.backend_tokenizer.decode_batch(lists, skip_special_tokens=False)
        return texts
    return [str(tokenizer.decode(ids, clean_up_tokenization_spaces=False)) for ids in lists]


class TokenReader:
    """Reads token ids as text behind a plain word, which shows whether they continue that word.

    Attributes:
        word: the plain word, which the tokenizer reads as itself.
        ids: its token ids.

    Raises:
        CheckpointError: the tokenizer reads no word as itself.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.word, self.ids = _known_word(tokenizer, special_ids(tokenizer))
        (self._shown,) = decode_each(tokenizer, [self.ids])

    def read(self, candidates: Sequence[Sequence[int]]) -> list[tuple[str, bool]]:
        """Each candidate as text, and whether it attaches to the word before it."""
        decoded = decode_each(self._tokenizer, [(*self.ids, *candidate) for candidate in candidates])
        rests = [text.removeprefix(self._shown) for text in decoded]
        return [(rest.strip(), not rest[:1].isspace()) for rest in rests]


def _known_word(tokenizer: Any, special: frozenset[int]) -> tuple[str, list[int]]:
    """``_PROBE_WORD``, or the first alphanumeric token that is read as itself, with its token ids.

    A tokenizer that puts a space before every text (Bloom's line) may decode it with the space.
    """
    for word in (_PROBE_WORD, *sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)):
        if not word.isalnum():
            continue
        ids = list(tokenizer(word, add_special_tokens=False)["input_ids"])
        if ids and not special & set(ids) and tokenizer.decode(ids).strip() == word:
            return word, ids
    raise CheckpointError("no token of the tokenizer is read as a word of its own; it does not belong to this model")


def same_word(tokenizer: Any) -> np.ndarray:
    """For each token id [largest id + 1] the smallest id that reads as the same word, whatever its case and wherever it
    stands: most tokenizers have a word once with a space before it and once without.

    A token that is no word of letters or digits, or is special, is its own.
    """
    import numpy as np

    special = special_ids(tokenizer)
    ids = sorted(set(tokenizer.get_vocab().values()) - special)
    first: dict[str, int] = {}
    same = np.arange(max(tokenizer.get_vocab().values()) + 1)
    for token, (text, _) in zip(ids, TokenReader(tokenizer).read([(token,) for token in ids]), strict=True):
        if text.isalnum():
            same[token] = first.setdefault(text.casefold(), token)
    return same


def token_counts(sequences: Sequence[Sequence[int]], vocabulary: int) -> Any:
    """How often each sequence holds each token: a sparse matrix [n, vocabulary], float64."""
    import numpy as np
    from scipy.sparse import csr_matrix

    indices = np.fromiter((token for row in sequences for token in row), dtype=np.int64)
    pointers = np.concatenate([[0], np.cumsum([len(row) for row in sequences], dtype=np.int64)])
    return csr_matrix((np.ones(len(indices)), indices, pointers), shape=(len(sequences), vocabulary))
