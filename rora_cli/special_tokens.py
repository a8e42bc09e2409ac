"""Which tokens of a tokenizer are control symbols: no text holds them, so no search, word list or control may."""

from __future__ import annotations

import re
from typing import Any

#: T5's sentinels are control symbols whether or not the tokenizer's files flag them.
_SENTINEL = re.compile(r"<extra_id_\d+>")


def special_ids(tokenizer: Any) -> frozenset[int]:
    """The ids of padding, unknown, mask, separators and the like, of every added token that is flagged special
    (``<|im_start|>``), and of T5's sentinels."""
    named = set(tokenizer.all_special_ids)
    added = getattr(tokenizer, "added_tokens_decoder", {})
    named |= {token for token, content in added.items() if getattr(content, "special", False)}
    named |= {token for text, token in tokenizer.get_vocab().items() if _SENTINEL.fullmatch(text)}
    return frozenset(named)
