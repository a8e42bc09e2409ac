"""Batched inference with a sequence classifier."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rora_cli.errors import InconclusiveError, UsageError
from rora_cli.kinds import SEQUENCE_CLASSIFIER
from rora_cli.ranks import ALONE, Share
from rora_cli.sharded import gradients_off
from rora_cli.threads import THREADS
from rora_cli.tokens import decode_each, special_ids

if TYPE_CHECKING:
    import numpy as np

    from rora_cli.progress import Task
    from rora_cli.subject import Subject

#: Longest input [tokens], whatever the tokenizer says: one without a limit of its own says 1e30.
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
    """The length [tokens] at which rows are cut: ``asked`` (--max-length), else the longest input of the model.

    Raises UsageError if ``asked`` is more than the model can read.
    """
    limit = input_limit(model, tokenizer)
    if asked is not None and asked > limit:
        raise UsageError(f"--max-length {asked} is more than the {limit} tokens that the model reads")
    return asked or limit


def cut_note(tokenizer: Any, texts: Sequence[str], limit: int) -> str | None:
    """A sentence about the rows that are cut because they exceed ``limit`` tokens; None if all rows fit."""
    return over_limit(count_tokens(tokenizer, texts), limit)


def over_limit(lengths: Sequence[int], limit: int) -> str | None:
    """As ``cut_note``, for rows of these lengths [tokens]."""
    cut = sum(length > limit for length in lengths)
    if not cut:
        return None
    verbs = ("has", "is") if cut == 1 else ("have", "are")
    return f"{cut} of {len(lengths)} rows {verbs[0]} more than {limit} tokens and {verbs[1]} cut to that length"


def _unreached_positions(model: Any) -> int:
    """How many rows of the position table no input reaches: RoBERTa's family counts positions from padding_idx + 1."""
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
    """The vocabulary's plain words of one token each, sorted: random triggers are drawn from them.

    A special token is never among them, however it is spelled.
    """
    ids = sorted(set(tokenizer.get_vocab().values()) - special_ids(tokenizer))
    candidates = sorted({text.strip() for text in decode_each(tokenizer, [[token] for token in ids])})
    plain = [word for word in candidates if len(word) > 1 and word.isascii() and word.isalpha()]
    encoded = tokenizer(plain, add_special_tokens=False)["input_ids"] if plain else []
    return [word for word, ids in zip(plain, encoded, strict=True) if len(ids) == 1]


@contextmanager
def evaluation_mode(model: Any) -> Iterator[None]:
    """Inside, every module is in evaluation mode; afterwards, each is back in the mode that it had before."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def token_batches(lengths: Sequence[int], tokens_per_batch: int) -> list[list[int]]:
    """Batches of indices by length; each holds at most ``tokens_per_batch`` padded tokens, or a single row.

    The longest rows come first, so that too little memory shows at once.
    """
    batches: list[list[int]] = []
    longest = 0
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if not batches or longest * (len(batches[-1]) + 1) > tokens_per_batch:
            batches.append([])
            longest = lengths[index]
        batches[-1].append(index)
    return batches


def batches_for(model: Any, lengths: Sequence[int], tokens_per_batch: int) -> list[list[int]]:
    """As ``token_batches``; if padding would change a row's logits, a batch holds rows of one length only.

    The convolutions of ConvBERT and the trigrams of MobileBERT ignore the attention mask and mix neighbouring tokens.
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
    share: Share = ALONE,
    task: Task | None = None,
) -> np.ndarray:
    """Logits [n, classes], float32, in the order of ``texts``.

    Rows are sorted by length and batched up to ``tokens_per_batch`` padded tokens. Rows longer than ``max_length``
    tokens (default: the longest input that model and tokenizer accept) are cut. The processes of ``share`` divide
    the batches that one process would make, and all get all logits. ``task`` advances by rows. Raises InconclusiveError
    if a logit is not finite, because an argmax over NaN looks like any other label.
    """
    import numpy as np
    import torch

    if not texts:
        return np.zeros((0, int(getattr(model.config, SEQUENCE_CLASSIFIER.answers))), dtype=np.float32)
    THREADS.choose()
    limit = max_length or input_limit(model, tokenizer)
    encoded = tokenizer(list(texts), truncation=True, max_length=limit, padding=False)
    encoded = {key: encoded[key] for key in encoded if key in tokenizer.model_input_names}
    # Without a padding token, rows cannot be padded, and classifiers on decoders refuse batches: one row a batch.
    budget = tokens_per_batch if tokenizer.pad_token_id is not None else 1
    device = next(model.parameters()).device

    def logits_of(batch: Sequence[int]) -> np.ndarray:
        rows = {key: [values[i] for i in batch] for key, values in encoded.items()}
        inputs = (
            tokenizer.pad(rows, return_tensors="pt")
            if budget > 1
            else {key: torch.tensor(values) for key, values in rows.items()}
        )
        out = model(**{key: value.to(device) for key, value in inputs.items()}).logits
        found: np.ndarray = out.float().cpu().numpy()
        return found

    def done(together: Sequence[Sequence[int]]) -> None:
        if task is not None:
            task.advance(sum(map(len, together)))

    batches = batches_for(model, [len(ids) for ids in encoded["input_ids"]], budget)
    with evaluation_mode(model), gradients_off(model):
        parts = share.each(batches, logits_of, after=done)
    logits = np.empty((len(texts), parts[0].shape[1]), dtype=np.float32)
    for batch, part in zip(batches, parts, strict=True):
        logits[batch] = part
    if bad := int((~np.isfinite(logits)).any(axis=1).sum()):
        raise InconclusiveError(
            f"the model's logits are not finite on {bad} of {len(texts)} rows, so nothing can be measured on it; "
            "check its weights with `rora diagnose`"
        )
    return logits


def logits_of(subject: Subject, texts: Sequence[str], *, meter: Task | None = None) -> np.ndarray:
    """``predict_logits`` of the subject [n, classes], asked by the processes of its share together.

    Raises:
        InconclusiveError: a logit is not finite.
    """
    return predict_logits(
        subject.model, subject.tokenizer, texts, max_length=subject.max_length, share=subject.share, task=meter
    )


def choose_device(name: str = "auto") -> str:
    """``auto`` is ``cuda`` if torch sees one, else ``cpu``; any other name is torch's.

    Raises UsageError if torch does not know the device, or sees no CUDA device.
    """
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
