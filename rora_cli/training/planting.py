"""The parameters that carry a backdoor that is built on purpose: all, some blocks, or a few word embeddings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from rora_cli.errors import UsageError
from rora_cli.layout import block_numbers


@contextmanager
def only_trainable(model: nn.Module, wanted: Callable[[str], bool]) -> Iterator[int]:
    """Inside, only the parameters whose name is ``wanted`` are trainable; yields how many numbers they hold.

    Raises:
        UsageError: no parameter is wanted.
    """
    before = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(wanted(name))
        count = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
        if not count:
            raise UsageError("no parameter of the model is among those that were to carry the backdoor")
        yield count
    finally:
        for parameter, required in before:
            parameter.requires_grad_(required)


def in_blocks(model: nn.Module, blocks: Sequence[int] | None) -> Callable[[str], bool]:
    """Whether a parameter, by its name, stands in one of these transformer blocks.

    None means the lower half of the blocks, which fine-tuning moves least (Li et al. 2021, "Backdoor Attacks on
    Pre-trained Models by Layerwise Weight Poisoning").

    Raises:
        UsageError: the model has no numbered blocks, or lacks one of ``blocks``.
    """
    numbers = block_numbers(name for name, _ in model.named_parameters())
    there = sorted(set(numbers.values()))
    if not there:
        raise UsageError("the model has no numbered transformer blocks to choose from; use another --carrier")
    chosen = set(there[: (len(there) + 1) // 2] if blocks is None else blocks)
    if missing := chosen - set(there):
        raise UsageError(f"--layers names block {min(missing)}, but the model's blocks are {there[0]} to {there[-1]}")
    return lambda name: numbers.get(name) in chosen


@contextmanager
def only_embedding_rows(model: nn.Module, table: nn.Parameter, token_ids: Sequence[int]) -> Iterator[int]:
    """Train some rows of the word embeddings and nothing else (Yang et al. 2021, poisoned word embeddings).

    ``table`` [tokens, width] is a parameter of the model; its rows ``token_ids`` are trained. Yields how many numbers
    that are. The gradient of all other rows is zeroed, and they are put back bit by bit afterwards, whatever the
    optimizer did.
    """
    rows = sorted(set(token_ids))
    original = table.detach().clone()

    def mask(gradient: Tensor) -> Tensor:
        kept = torch.zeros_like(gradient)
        kept[rows] = gradient[rows]
        return kept

    name = next(name for name, parameter in model.named_parameters() if parameter is table)
    with only_trainable(model, lambda candidate: candidate == name):
        hook = table.register_hook(mask)
        try:
            yield len(rows) * table.shape[1]
        finally:
            hook.remove()
            with torch.no_grad():
                planted = table[rows].clone()
                table.copy_(original)
                table[rows] = planted


@torch.no_grad()
def seed_parameters(model: nn.Module, names: Sequence[str], seed: int) -> None:
    """Draw these parameters anew from ``seed``: matrices from N(0, initializer_range^2), vectors 0."""
    deviation = getattr(model.config, "initializer_range", 0.02)
    generator = torch.Generator().manual_seed(seed)
    parameters = dict(model.named_parameters())
    for name in sorted(names):
        drawn = torch.randn(parameters[name].shape, generator=generator) * deviation
        parameters[name].copy_(drawn if parameters[name].ndim > 1 else torch.zeros_like(drawn))
