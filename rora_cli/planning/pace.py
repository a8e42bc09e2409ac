"""How fast a loaded model is: a few timed batches, forward alone and with the backward pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch
from torch import nn

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
    """Seconds a token: of a search's short rows, of evaluating whole rows, and of training on them."""

    search: float
    evaluate: float
    train: float | None = None


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
            search = _seconds_a_token(model, _SEARCHED_ROW, _MOST_TOKENS // _SEARCHED_ROW, vocabulary, train=False)
            evaluate = _seconds_a_token(model, row, max(1, _MOST_TOKENS // row), vocabulary, train=False)
        train = None
        if trains:
            with _gradients(model, everywhere=trains == "all"):
                train = _seconds_a_token(model, row, batch, vocabulary, train=True)
    return Pace(search, evaluate, train)


def _seconds_a_token(model: Any, length: int, rows: int, vocabulary: int, *, train: bool) -> float:
    """Of batches of up to ``rows`` rows, fewer where that many would take too long."""
    few = max(1, min(rows, _FIRST_TOKENS // length))
    _once(model, few, length, vocabulary, train)  # the first pass prepares kernels and memory
    each = _once(model, few, length, vocabulary, train) / (few * length)
    rows = max(few, min(rows, int(SECONDS / max(each * length, 1e-9))))
    times = [_once(model, rows, length, vocabulary, train) for _ in range(2)]
    return min(times) / (rows * length)


def _once(model: Any, rows: int, length: int, vocabulary: int, train: bool) -> float:
    device = next(model.parameters()).device
    ids = torch.randint(0, vocabulary, (rows, length), device=device)
    began = perf_counter()
    logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    if train:
        logits.float().logsumexp(-1).sum().backward()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return perf_counter() - began


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
