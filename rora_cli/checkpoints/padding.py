"""Makes model and tokenizer agree on one padding token, so that a row gets the same logits in a batch and alone."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from rora_cli.errors import CheckpointError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def agree_on_padding(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Set the padding token and side of both, in place.

    Most classifiers recognise padding by the attention mask alone, so the tokenizer's own token serves. A decoder reads
    its answer at the last token that is not ``config.pad_token_id``, so its rows are padded with the config's token. If
    the tokenizer lacks that token, model and tokenizer both get one that ends no row. A sequence-to-sequence classifier
    reads its answer at the end token, so that token must not be the padding.

    Raises:
        CheckpointError: there is no such token, or the tokenizer does not end rows with the config's end token.
    """
    forward = inspect.getsource(type(model).forward)
    config = model.config.get_text_config()
    own, taken = config.pad_token_id, set(tokenizer("")["input_ids"])
    if "eos_mask" in forward:
        _require_end_token(config.eos_token_id, tokenizer)
    if "pad_token_id" in forward and _token(tokenizer, own) is not None:
        tokenizer.pad_token = _token(tokenizer, own)
    elif "pad_token_id" in forward or "eos_mask" in forward:
        tokenizer.pad_token = _free_token(tokenizer, taken)
    elif tokenizer.pad_token is None:
        tokenizer.pad_token = _token(tokenizer, own) or tokenizer.eos_token or _free_token(tokenizer, set())
    if own is None or "pad_token_id" in forward:
        config.pad_token_id = model.config.pad_token_id = tokenizer.pad_token_id
    # Positions count from the left, so padding stands on the right; but XLNet reads its answer at the last place.
    reads_last_place = getattr(config, "summary_type", None) == "last" and hasattr(model, "sequence_summary")
    tokenizer.padding_side = "left" if reads_last_place else "right"


def _token(tokenizer: Any, number: Any) -> str | None:
    """The token with the id ``number``, or None if the tokenizer has none."""
    if type(number) is not int or not 0 <= number <= max(tokenizer.get_vocab().values(), default=-1):
        return None
    token: str | None = tokenizer.convert_ids_to_tokens(number)
    return token


def _free_token(tokenizer: Any, taken: set[int]) -> str:
    """A special token that no row holds: the padding token, else another one, the unknown token last."""
    candidates = [tokenizer.pad_token, tokenizer.eos_token, *tokenizer.all_special_tokens]
    last = tokenizer.unk_token
    for token in sorted(filter(None, candidates), key=lambda token: token == last):
        if tokenizer.convert_tokens_to_ids(token) not in taken:
            return str(token)
    raise CheckpointError(
        "the tokenizer has no token to pad with that no row holds; set pad_token in tokenizer_config.json and "
        "pad_token_id in config.json"
    )


def _require_end_token(end: Any, tokenizer: Any) -> None:
    count = tokenizer("")["input_ids"].count(end)
    if count != 1:
        raise CheckpointError(
            f"config.json names the end token id {end}, where the model reads its answer, but the tokenizer puts it "
            f"{count} times into a row; correct eos_token_id, or use the tokenizer of this model"
        )
