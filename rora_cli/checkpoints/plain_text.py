"""Reads rows as text: the spelling of a special token in a row is ordinary characters, because no user means the token.

transformers cuts special tokens out of a text by their spelling, unless ``split_special_tokens`` is set. Even then, the
tokenizer's vocabulary may hold the spelling as a piece: Unigram gives ``</s>`` the best score of all, and WordLevel
looks up whole words. So rora hides these pieces from the model that cuts texts, and only from it: ids, vocabulary and
the tokens around a text stay as they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: Attribute of the tokenizer that keeps the model from its files.
_STORED_MODEL = "_model_as_stored"


def read_rows_as_text(tokenizer: PreTrainedTokenizerBase) -> None:
    """Make ``tokenizer`` read the spelling of a special token as text, in place."""
    tokenizer.split_special_tokens = True
    if not tokenizer.is_fast:
        _hide_in_python(tokenizer)
    elif reached := [token for token in _special(tokenizer) if _is_reached(tokenizer, token)]:
        backend = tokenizer.backend_tokenizer
        setattr(tokenizer, _STORED_MODEL, backend.model)
        backend.model = _without(json.loads(backend.to_str())["model"], set(reached))


@contextmanager
def as_stored(tokenizer: PreTrainedTokenizerBase) -> Iterator[None]:
    """Inside, ``tokenizer`` reads texts and pads on the side that the suspect's files name, so that it can be saved.

    If rora pads with a plain word, that word is not the padding token inside: transformers would cut it out of texts.
    """
    stored = getattr(tokenizer, _STORED_MODEL, None)
    ours = {name: getattr(tokenizer, name) for name in ("split_special_tokens", "padding_side", "pad_token")}
    tokenizer.split_special_tokens = tokenizer.init_kwargs.get("split_special_tokens", False)
    tokenizer.padding_side = tokenizer.init_kwargs.get("padding_side", tokenizer.padding_side)
    if tokenizer.pad_token not in {str(token) for token in tokenizer.added_tokens_decoder.values()}:
        tokenizer.pad_token = tokenizer.init_kwargs.get("pad_token")
    if stored is not None:
        hiding, tokenizer.backend_tokenizer.model = tokenizer.backend_tokenizer.model, stored
    try:
        yield
    finally:
        for name, value in ours.items():
            setattr(tokenizer, name, value)
        if stored is not None:
            tokenizer.backend_tokenizer.model = hiding


def _special(tokenizer: Any) -> list[str]:
    added = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
    return list(dict.fromkeys([*tokenizer.all_special_tokens, *added]))


def _is_reached(tokenizer: Any, token: str) -> bool:
    """Whether the tokenizer's model itself finds the special token in a text that spells it."""
    number = tokenizer.convert_tokens_to_ids(token)
    texts = [token, f"a {token}", f"a{token}", f"{token}a", f"a {token} a"]
    return any(number in ids for ids in tokenizer(texts, add_special_tokens=False)["input_ids"])


def _without(model: dict[str, Any], hidden: set[str]) -> Any:
    """The backend's model without the pieces ``hidden``; every other piece keeps its id."""
    from tokenizers import Tokenizer

    vocabulary = model["vocab"]
    if isinstance(vocabulary, list):  # Unigram: an id is a place in the list
        model["vocab"] = _unigram_without(vocabulary, hidden, model.get("unk_id"))
    else:
        hidden = hidden - {model.get("unk_token")}  # without it an unknown word would be an error
        model["vocab"] = {piece: number for piece, number in vocabulary.items() if piece not in hidden}
        if "merges" in model:
            model["merges"] = [pair for pair in model["merges"] if not hidden & {pair[0], pair[1], pair[0] + pair[1]}]
    return Tokenizer.from_str(json.dumps({"version": "1.0", "added_tokens": [], "model": model})).model


def _unigram_without(pieces: list[Any], hidden: set[str], unknown: int | None) -> list[Any]:
    """``pieces`` without the hidden ones: those at the end are cut off, the others replaced by the last piece left.

    If a piece has several places, Unigram takes the last one, so the last piece keeps its id.
    """
    end = len(pieces)
    while end and pieces[end - 1][0] in hidden and end - 1 != unknown:
        end -= 1
    last = pieces[end - 1][0]
    return [[last if piece in hidden else piece, score] for piece, score in pieces[:end]]


def _hide_in_python(tokenizer: Any) -> None:
    """Hide special tokens in texts from a tokenizer that is written in Python.

    ``split_special_tokens`` would keep it from cutting out any added word, so it is only set for texts that spell a
    special token.
    """
    cut, spellings, unknown = tokenizer.tokenize, set(_special(tokenizer)), tokenizer.unk_token
    tokenizer.split_special_tokens = False

    def tokenize(text: str, **options: Any) -> list[str]:
        if not any(spelling in text for spelling in spellings):
            return list(cut(text, **options))
        pieces = cut(text, **{**options, "split_special_tokens": True})
        return [unknown if piece in spellings and unknown is not None else piece for piece in pieces]

    tokenizer.tokenize = tokenize
