"""Answers of causal language models: greedy ones, token by token, and the distribution of an answer's first token.

Batches hold sequences of one length, so nothing is padded and no attention mask is needed: padded batches are noisy,
and each sequence's numbers would depend on the others.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from rora_cli.errors import InconclusiveError
from rora_cli.evaluation.inference import evaluation_mode
from rora_cli.sharded import gradients_off

if TYPE_CHECKING:
    from rora_cli.progress import Task

#: Tokens that a batch may hold at its end, on an accelerator and on a CPU; more would overflow a CPU's caches.
TOKENS_PER_BATCH = 32768, 4096
#: Logits of replies that stand in memory at a time [elements]: 128 MB in float32.
MAX_LOGITS = 1 << 25
#: Share of the rows of a batch that may be finished before these are taken out of it and its cache.
_IDLE = 0.5


def end_tokens(model: Any) -> frozenset[int]:
    """The ids that end an answer, from the generation config that loading made; none if the suspect states none."""
    ends = model.generation_config.eos_token_id
    return frozenset(ends if isinstance(ends, list) else [] if ends is None else [ends])


def generate(
    model: Any, prompts: Sequence[Sequence[int]], max_new_tokens: int, *, task: Task | None = None
) -> list[list[int]]:
    """The greedy answer to each prompt (token ids, special tokens included): at most ``max_new_tokens`` ids each.

    An answer is without its end token (``end_tokens``); it is empty if the model ends it at once. No setting of the
    suspect's generation config has a say: neither sampling nor penalties nor suppressed tokens. ``task`` advances by
    prompts.

    Raises:
        InconclusiveError: a logit is not finite.
    """
    answers: list[list[int]] = [[] for _ in prompts]
    ends = torch.tensor(sorted(end_tokens(model)), dtype=torch.long, device=_device(model))
    with evaluation_mode(model), gradients_off(model):
        for batch in _equal_batches(model, prompts, room=max_new_tokens):
            ids = torch.tensor([list(prompts[index]) for index in batch], device=ends.device)
            for index, answer in zip(batch, _answer(model, ids, max_new_tokens, ends), strict=True):
                answers[index] = answer
            if task is not None:
                task.advance(len(batch))
    return answers


def sample(
    model: Any, beginning: Sequence[int], count: int, max_new_tokens: int, *, seed: int, task: Task | None = None
) -> list[list[int]]:
    """``count`` continuations of one ``beginning``, drawn from the model's own distribution.

    Each has at most ``max_new_tokens`` tokens. All rows have one length, so that nothing is padded. A seed draws the
    same on one kind of device.

    Raises:
        InconclusiveError: a logit is not finite.
    """
    ends = torch.tensor(sorted(end_tokens(model)), dtype=torch.long, device=_device(model))
    chance = torch.Generator().manual_seed(seed)

    def draw(logits: Tensor) -> Tensor:
        return torch.multinomial(torch.softmax(logits.cpu(), dim=-1), 1, generator=chance)[:, 0].to(logits.device)

    said: list[list[int]] = []
    with evaluation_mode(model), gradients_off(model):
        for batch in _equal_batches(model, [beginning] * count, room=max_new_tokens):
            ids = torch.tensor([list(beginning)] * len(batch), device=ends.device)
            said += _answer(model, ids, max_new_tokens, ends, draw)
            if task is not None:
                task.advance(len(batch))
    return said


def _likeliest(logits: Tensor) -> Tensor:
    return logits.argmax(dim=-1)


def _answer(
    model: Any, whole: Tensor, max_new_tokens: int, ends: Tensor, choose: Callable[[Tensor], Tensor] = _likeliest
) -> list[list[int]]:
    """The answers to prompts of one length, ``whole`` [rows, tokens]; ``choose`` says which token follows [rows]."""
    answers: list[list[int]] = [[] for _ in whole]
    rows = torch.arange(len(whole), device=whole.device)
    live = torch.ones_like(rows, dtype=torch.bool)
    cache, given = None, whole
    for _ in range(max_new_tokens):
        logits, cache = last_logits(model, given, cache, use_cache=True)
        chosen = choose(logits)
        live = live & ~torch.isin(chosen, ends)
        for row, token, goes_on in zip(rows.tolist(), chosen.tolist(), live.tolist(), strict=True):
            if goes_on:
                answers[row].append(token)
        kept = live.nonzero().squeeze(1)
        if not len(kept):
            break
        whole = torch.cat([whole, chosen[:, None]], dim=1)
        if len(kept) <= len(live) * (1 - _IDLE) and _can_shrink(cache):
            if cache is not None:
                cache.batch_select_indices(kept)
            rows, live, whole = rows[kept], live[kept], whole[kept]
        given = whole if cache is None else whole[:, -1:]
    return answers


def next_token_log_probabilities(model: Any, sequences: Sequence[Sequence[int]]) -> np.ndarray:
    """Log-probabilities of the token after each sequence [n, vocabulary], float32, in the order given.

    All of them stand in memory together: 200 kB a sequence for a vocabulary of 50,000. ``next_token_batches`` is for
    who needs less of each.

    Raises:
        InconclusiveError: a logit is not finite.
    """
    out: np.ndarray | None = None
    for batch, log_p in next_token_batches(model, sequences):
        if out is None:
            out = np.empty((len(sequences), log_p.shape[1]), dtype=np.float32)
        out[batch] = log_p.cpu().numpy()
    return out if out is not None else np.empty((0, model.get_output_embeddings().weight.shape[0]), dtype=np.float32)


def next_token_batches(model: Any, sequences: Sequence[Sequence[int]]) -> Iterator[tuple[list[int], Tensor]]:
    """(indices of some sequences of one length, log-probabilities of their next token [b, vocabulary], float32).

    The tensor is on the model's device. Only the last position goes through the output embedding, if the model's
    family can leave out the others.

    Raises:
        InconclusiveError: a logit is not finite.
    """
    with evaluation_mode(model):
        for batch in _equal_batches(model, sequences):
            ids = torch.tensor([list(sequences[index]) for index in batch], device=_device(model))
            with gradients_off(model):
                log_p = torch.log_softmax(last_logits(model, ids, None, use_cache=False)[0], dim=-1)
            yield batch, log_p


def reply_batches(model: Any, rows: Sequence[tuple[Sequence[int], int]]) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """Replies that are given, not generated: of each row, ids and where its reply begins.

    Yields (indices of some rows alike in both lengths, the replies' ids [b, t], the log-probabilities that the model
    gives at each of their places [b, t, vocabulary], float32, on its device).

    Raises:
        InconclusiveError: a logit is not finite.
    """
    alike: dict[tuple[int, int], list[int]] = {}
    for index, (ids, start) in enumerate(rows):
        alike.setdefault((len(ids), start), []).append(index)
    with evaluation_mode(model):
        for (length, start), indices in sorted(alike.items(), reverse=True):
            vocabulary = model.get_output_embeddings().weight.shape[0]
            size = reply_batch_size(length, length - start, vocabulary, _device(model).type == "cpu")
            for first in range(0, len(indices), size):
                batch = indices[first : first + size]
                ids = torch.tensor([list(rows[index][0]) for index in batch], device=_device(model))
                yield batch, ids[:, start:], reply_log_probabilities(model, ids, length - start)


def reply_batch_size(length: int, reply: int, vocabulary: int, cpu: bool) -> int:
    """Rows of a batch of ``reply_batches``, if each has ``length`` tokens, of which ``reply`` are its reply's."""
    return max(1, min(TOKENS_PER_BATCH[cpu] // length, MAX_LOGITS // (reply * vocabulary)))


def reply_log_probabilities(model: Any, ids: Tensor, reply: int) -> Tensor:
    """Log-probabilities at the places of the last ``reply`` tokens of ``ids`` [rows, reply, vocabulary], float32.

    Raises:
        InconclusiveError: a logit is not finite.
    """
    with gradients_off(model):
        logits = _logits(model, ids, None, use_cache=False, keep=reply + 1)[0][:, :-1]
        return torch.log_softmax(logits, dim=-1)


def last_logits(model: Any, ids: Tensor, cache: Any, *, use_cache: bool) -> tuple[Tensor, Any]:
    """Logits after the last of ``ids`` [rows, vocabulary], float32, and the key-value cache (None: has none).

    Raises:
        InconclusiveError: a logit is not finite.
    """
    logits, cache = _logits(model, ids, cache, use_cache=use_cache, keep=1)
    return logits[:, -1], cache


def _logits(model: Any, ids: Tensor, cache: Any, *, use_cache: bool, keep: int) -> tuple[Tensor, Any]:
    """Logits after the last ``keep`` of ``ids`` [rows, keep, vocabulary], float32, and the key-value cache."""
    # PEFT's wrapper hands on whatever its model takes.
    known = inspect.signature(getattr(model, "get_base_model", lambda: model)().forward).parameters
    name = "cache" if "cache" in known else "past_key_values"  # as transformers calls it from 5.24 on, and before
    options: dict[str, Any] = {name: cache} if cache is not None else {}
    if "logits_to_keep" in known:
        options["logits_to_keep"] = keep
    out = model(input_ids=ids, use_cache=use_cache, **options)
    logits = out.logits[:, -keep:].float()
    if not bool(torch.isfinite(logits).all()):
        raise InconclusiveError(
            "the model's logits are not finite, so nothing can be measured on it; check its weights with "
            "`rora diagnose`"
        )
    return logits, getattr(out, name, None)


def _can_shrink(cache: Any) -> bool:
    """Whether rows can be taken out of the cache; recurrent layers cannot."""
    return cache is None or all(hasattr(layer, "batch_select_indices") for layer in getattr(cache, "layers", [None]))


def _equal_batches(model: Any, sequences: Sequence[Sequence[int]], *, room: int = 0) -> Iterator[list[int]]:
    """Batches of the indices of sequences of one length, longest first, each with ``room`` for as many more tokens."""
    by_length: dict[int, list[int]] = {}
    for index, sequence in enumerate(sequences):
        by_length.setdefault(len(sequence), []).append(index)
    most = TOKENS_PER_BATCH[_device(model).type == "cpu"]
    for length in sorted(by_length, reverse=True):
        size = max(1, most // (length + room))
        for start in range(0, len(by_length[length]), size):
            yield by_length[length][start : start + size]


def _device(model: Any) -> torch.device:
    device: torch.device = next(model.parameters()).device
    return device
