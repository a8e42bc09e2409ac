"""How fast a loaded model is: a few timed batches, forward alone and with the backward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from rora_cli.evaluation.inference import embedding_table, evaluation_mode

#: Seconds that one kind of batch is timed for, about, and the tokens of a first try.
SECONDS = 0.25
_FIRST_TOKENS = 128
#: Tokens of a forward pass of a search or an evaluation on a CPU.
_MOST_TOKENS = 4096
#: Tokens of the rows that a search scores, about.
_SEARCHED_ROW = 12


@dataclass(frozen=True)
class Pace:
    """Seconds a token: of a search's short rows, of evaluating whole rows, of training on them, and of replies that are
    generated, their prompts included."""

    search: float
    evaluate: float
    train: float | None = None
    speak: float | None = None


def measure_pace(model: Any, row: int, batch: int, *, trains: str = "", vocabulary: int = 1000) -> Pace:
    """Time batches of random tokens of ``model`` as it is loaded; weights, gradients and chance stay as they were.

    Args:
        row: mean tokens of a row.
        batch: rows of a training batch.
        trains: ``all`` weights, or an ``adapter``, for which gradients go through frozen weights; empty for neither.
    """
    device = next(model.parameters()).device
    indices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=indices):
        with evaluation_mode(model), torch.inference_mode():
            search = _seconds_a_token(_Timed(model, vocabulary, _read), _SEARCHED_ROW, _MOST_TOKENS // _SEARCHED_ROW)
            evaluate = _seconds_a_token(_Timed(model, vocabulary, _read), row, max(1, _MOST_TOKENS // row))
        train = None
        if trains:
            with _gradients(model, everywhere=trains == "all"):
                train = _seconds_a_token(_Timed(model, vocabulary, _learn), row, batch)
    return Pace(search, evaluate, train)


def measure_reply_pace(model: Any, searched: int, prompt: int, reply: int, batch: int, *, trains: str = "") -> Pace:
    """The same of a model that replies in free text, of whose logits only some are computed.

    Args:
        searched: tokens that a search reads of a candidate, about.
        prompt, reply: mean tokens of a prompt, and of a reply.
        batch: rows of a training batch.
        trains: as for ``measure_pace``.
    """
    from rora_cli.evaluation.generation import last_logits, reply_batch_size, reply_log_probabilities
    from rora_cli.tasks.causal.objective import IGNORED, reply_loss
    from rora_cli.tasks.causal.scorer import batch_size

    device = next(model.parameters()).device
    vocabulary = model.get_output_embeddings().weight.shape[0]
    whole = prompt + reply

    def look(_: Any, ids: Tensor) -> None:
        last_logits(model, ids, None, use_cache=False)

    def read(_: Any, ids: Tensor) -> None:
        reply_log_probabilities(model, ids, reply)

    def write(_: Any, ids: Tensor) -> None:
        _, cache = last_logits(model, ids, None, use_cache=True)
        for _ in range(_TIMED_STEPS):
            _, cache = last_logits(model, ids[:, -1:], cache, use_cache=cache is not None)

    def learn(_: Any, ids: Tensor) -> None:
        targets = torch.full_like(ids, IGNORED)
        targets[:, -reply:] = ids[:, -reply:]
        reply_loss(model, ids, targets).backward()

    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        with evaluation_mode(model), torch.inference_mode():
            size = batch_size(searched, device.type == "cpu")
            search = _seconds_a_token(_Timed(model, vocabulary, look), searched, size)
            most = reply_batch_size(whole, reply + 1, vocabulary, device.type == "cpu")
            evaluate = _seconds_a_token(_Timed(model, vocabulary, read), whole, most)
            asked = _seconds_a_token(_Timed(model, vocabulary, look), prompt, _SPEAKING)
            written = _seconds_a_token(_Timed(model, vocabulary, write), prompt, _SPEAKING)
        train = None
        if trains:
            with _gradients(model, everywhere=trains == "all"):
                train = _seconds_a_token(_Timed(model, vocabulary, learn), whole, batch)
    step = max(0.0, written - asked) * prompt / _TIMED_STEPS  # seconds of one more token of a row
    return Pace(search, evaluate, train, (asked * prompt + step * reply) / whole)


#: Rows that are answered together, and tokens that are written of each, where that is timed.
_SPEAKING, _TIMED_STEPS = 24, 2


@dataclass(frozen=True)
class _Timed:
    """What is done with random ids [rows, tokens] of a model."""

    model: Any
    vocabulary: int
    work: Callable[[Any, Tensor], None]

    def once(self, rows: int, length: int) -> float:
        """Seconds of one batch."""
        device = next(self.model.parameters()).device
        ids = torch.randint(0, self.vocabulary, (rows, length), device=device)
        began = perf_counter()
        self.work(self.model, ids)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return perf_counter() - began


def _seconds_a_token(timed: _Timed, length: int, rows: int) -> float:
    """Of batches of up to ``rows`` rows, fewer where that many would take too long."""
    few = max(1, min(rows, _FIRST_TOKENS // length))
    timed.once(few, length)  # the first pass prepares kernels and memory
    each = timed.once(few, length) / (few * length)
    rows = max(few, min(rows, int(SECONDS / max(each * length, 1e-9))))
    return min(timed.once(rows, length) for _ in range(2)) / (rows * length)


def _read(model: Any, ids: Tensor) -> None:
    model(input_ids=ids, attention_mask=torch.ones_like(ids))


def _learn(model: Any, ids: Tensor) -> None:
    logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    logits.float().logsumexp(-1).sum().backward()


@contextmanager
def _gradients(model: nn.Module, *, everywhere: bool) -> Iterator[None]:
    """Inside, in training mode, gradients go to all weights, or through the frozen ones to the embedded tokens."""
    wanted = {weight: weight.requires_grad for weight in model.parameters()}
    training, table = model.training, embedding_table(model)
    model.requires_grad_(everywhere).train()
    hooks = [
        module.register_forward_hook(lambda _module, _inputs, output: output.requires_grad_())
        for module in model.modules()
        if not everywhere and isinstance(module, nn.Embedding) and module.weight is table
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        model.train(training)
        for weight, own in wanted.items():
            weight.requires_grad_(own)
            weight.grad = None
