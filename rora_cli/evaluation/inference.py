"""Batched inference with a sequence classifier."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rora_cli.errors import InconclusiveError, UsageError
from rora_cli.kinds import SEQUENCE_CLASSIFIER
from rora_cli.tokens import decode_each, special_ids

if TYPE_CHECKING:
    import numpy as np

    from rora_cli.progress import Task

#: Tokenizers without a limit of their own say 1e30; longer inputs than this are cut whatever they say.
MAX_LENGTH_CAP = 4096


def input_limit(model: Any, tokenizer: Any) -> int:
    """The longest input, in tokens, that model and tokenizer both accept."""
    limits = [MAX_LENGTH_CAP]
    if isinstance(own := getattr(tokenizer, "model_max_length", None), int) and own > 0:
        limits.append(own)
    positions = getattr(model.config, "max_position_embeddings", None)
    if isinstance(positions, int) and positions > 0:
        limits.append(positions - _unreached_positions(model))
    return min(limits)


def length_limit(model: Any, tokenizer: Any, asked: int | None = None) -> int:
    """The length, in tokens, to which rows are read: ``asked`` (--max-length), else all that the model reads.

    Raises UsageError where more is asked than the model reads.
    """
    limit = input_limit(model, tokenizer)
    if asked is not None and asked > limit:
        raise UsageError(f"--max-length {asked} is more than the {limit} tokens that the model reads")
    return asked or limit


def cut_note(tokenizer: Any, texts: Sequence[str], limit: int) -> str | None:
    """A sentence on the rows that are longer than ``limit`` tokens, which are cut there; None where all fit."""
    cut = sum(length > limit for length in count_tokens(tokenizer, texts))
    if not cut:
        return None
    verbs = ("has", "is") if cut == 1 else ("have", "are")
    return f"{cut} of {len(texts)} rows {verbs[0]} more than {limit} tokens and {verbs[1]} cut to that length"


def _unreached_positions(model: Any) -> int:
    """RoBERTa's line counts positions from padding_idx + 1, so that many rows of the table are never reached."""
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            return int(module.padding_idx) + 1
    return 0


def embedding_table(model: Any) -> Any:
    """The weight of the word embeddings [tokens, width]; None for a model without such a table (CANINE hashes)."""
    try:
        embeddings = model.get_input_embeddings()
    except NotImplementedError:
        return None
    return None if embeddings is None else embeddings.weight


def count_tokens(tokenizer: Any, texts: Sequence[str]) -> list[int]:
    """The length of each text in tokens, special tokens included, however long."""
    return [len(ids) for ids in tokenizer(list(texts), truncation=False, verbose=False)["input_ids"]]


def whole_words(tokenizer: Any) -> list[str]:
    """The vocabulary's plain words that are one token on their own, sorted: what random triggers are drawn from.

    Special tokens are none, whatever they are called.
    """
    ids = sorted(set(tokenizer.get_vocab().values()) - special_ids(tokenizer))
    candidates = sorted({text.strip() for text in decode_each(tokenizer, [[token] for token in ids])})
    plain = [word for word in candidates if len(word) > 1 and word.isascii() and word.isalpha()]
    encoded = tokenizer(plain, add_special_tokens=False)["input_ids"] if plain else []
    return [word for word, ids in zip(plain, encoded, strict=True) if len(ids) == 1]


@contextmanager
def evaluation_mode(model: Any) -> Iterator[None]:
    """Put every module in evaluation mode, and each back in the mode it was in (they need not all be the same)."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def token_batches(lengths: Sequence[int], tokens_per_batch: int) -> list[list[int]]:
    """Indices grouped by length, longest first (so that too little memory shows at once), padded size within budget."""
    batches: list[list[int]] = []
    longest = 0
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if not batches or longest * (len(batches[-1]) + 1) > tokens_per_batch:
            batches.append([])
            longest = lengths[index]
        batches[-1].append(index)
    return batches


def batches_for(model: Any, lengths: Sequence[int], tokens_per_batch: int) -> list[list[int]]:
    """As ``token_batches``; rows of one length only where padding would change what a model reads in a row.

    ConvBERT's convolutions and MobileBERT's trigrams mix neighbours without regard to the attention mask.
    """
    if not _mixes_neighbours(model):
        return token_batches(lengths, tokens_per_batch)
    batches = []
    for length in sorted(set(lengths), reverse=True):
        rows = [index for index, own in enumerate(lengths) if own == length]
        batches += [[rows[i] for i in part] for part in token_batches([length] * len(rows), tokens_per_batch)]
    return batches


def _mixes_neighbours(model: Any) -> bool:
    import torch

    convolutions = (m for m in model.modules() if isinstance(m, torch.nn.Conv1d))
    return bool(getattr(model.config, "trigram_input", False)) or any(m.kernel_size[0] > 1 for m in convolutions)


def predict_logits(
    model: Any,
    tokenizer: Any,
    texts: Sequence[str],
    *,
    max_length: int | None = None,
    tokens_per_batch: int = 4096,
    task: Task | None = None,
) -> np.ndarray:
    """Logits [n, classes], float32, in the order of ``texts``.

    Rows are sorted by length and batched up to ``tokens_per_batch`` padded tokens; ``max_length`` (default: what model
    and tokenizer accept) truncates. ``task`` is advanced by rows. Raises InconclusiveError where a logit is not finite:
    an argmax over NaN is a label like any other, and no accuracy may be made of it.
    """
    import numpy as np
    import torch

    if not texts:
        return np.zeros((0, int(getattr(model.config, SEQUENCE_CLASSIFIER.answers))), dtype=np.float32)
    limit = max_length or input_limit(model, tokenizer)
    encoded = tokenizer(list(texts), truncation=True, max_length=limit, padding=False)
    encoded = {key: encoded[key] for key in encoded if key in tokenizer.model_input_names}
    # Without a padding token there is nothing to pad with, and classifiers on decoders refuse batches: one row each.
    budget = tokens_per_batch if tokenizer.pad_token_id is not None else 1
    device = next(model.parameters()).device
    logits: np.ndarray | None = None
    with evaluation_mode(model), torch.inference_mode():
        for batch in batches_for(model, [len(ids) for ids in encoded["input_ids"]], budget):
            rows = {key: [values[i] for i in batch] for key, values in encoded.items()}
            inputs = (
                tokenizer.pad(rows, return_tensors="pt")
                if budget > 1
                else {key: torch.tensor(values) for key, values in rows.items()}
            )
            out = model(**{key: value.to(device) for key, value in inputs.items()}).logits.float().cpu().numpy()
            if logits is None:
                logits = np.empty((len(texts), out.shape[1]), dtype=np.float32)
            logits[batch] = out
            if task is not None:
                task.advance(len(batch))
    assert logits is not None
    if bad := int((~np.isfinite(logits)).any(axis=1).sum()):
        raise InconclusiveError(
            f"the model's logits are not finite on {bad} of {len(texts)} rows, so nothing can be measured on it; "
            "check its weights with `rora diagnose`"
        )
    return logits


def choose_device(name: str = "auto") -> str:
    """``auto`` to ``cuda`` where there is one, else ``cpu``; anything else as torch reads it. Raises UsageError."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"--device {name!r} is no device that torch knows; use auto, cpu or cuda") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda was asked for, but torch sees no CUDA device; use --device cpu")
    return str(device)
