"""Control: forget the top blocks and the head, and train the whole model again on the clean rows."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from rora_cli.defences.bench import Bench, Cleansed
from rora_cli.errors import UsageError
from rora_cli.layout import block_numbers
from rora_cli.training.adapters import head_modules


def check(bench: Bench) -> None:
    """Raise UsageError if the model has fewer blocks than the user wants to forget."""
    _count(bench)


def cleanse(bench: Bench) -> Cleansed:
    """Draw the top blocks and the head anew, then train every weight."""
    torch.manual_seed(bench.config.seed)
    drawn = reinitialise(bench.model, _count(bench))
    share = 1 - drawn / sum(weight.numel() for weight in bench.model.parameters())
    bench.model.requires_grad_(True)
    bench.train(bench.model, [], stage="train")
    return bench.not_assessed(bench.model, suspects_share=share)


def _count(bench: Bench) -> int:
    """How many blocks are forgotten: the user's number, else the recipe's, or all blocks if there are fewer."""
    blocks, wanted = len(_blocks(bench.model)), bench.settings.controls.reinit_blocks
    if bench.config.reinit_blocks is None:
        return min(wanted, blocks)
    if wanted > blocks:
        raise UsageError(f"--reinit-blocks {wanted} is more than the {blocks} blocks of the model")
    return wanted


def reinitialise(model: nn.Module, count: int) -> int:
    """Draw the weights of the last ``count`` blocks, and of the layers above the blocks, anew, in place.

    They are drawn as transformers draws a new model of the family: for an encoder matrices from
    N(0, initializer_range^2), biases 0, normalisation weights 1. The last blocks of an encoder-decoder are the
    decoder's. Returns how many numbers were drawn.

    Raises:
        UsageError: the model has fewer blocks.
    """
    blocks = _blocks(model)
    if count > len(blocks):
        raise UsageError(f"--reinit-blocks {count} is more than the {len(blocks)} blocks of the model")
    chosen = set(blocks[len(blocks) - count :])
    numbers = block_numbers(name for name, _ in model.named_modules())
    above = set(_above(model))
    drawn = 0
    with torch.no_grad():
        for name, module in model.named_modules():
            if numbers.get(name) in chosen or name in above:
                _draw(model, module)
                drawn += sum(weight.numel() for weight in module.parameters(recurse=False))
    return drawn


def draw_all(model: nn.Module) -> None:
    """Draw every weight anew, in place: embeddings and normalisations too."""
    with torch.no_grad():
        for module in model.modules():
            _draw(model, module)


def _blocks(model: nn.Module) -> list[int]:
    return sorted(set(block_numbers(name for name, _ in model.named_parameters()).values()))


def _above(model: nn.Module) -> Iterator[str]:
    """The linear layers of the head, and of a pooler inside the encoder."""
    heads = head_modules(model)
    for name, module in model.named_modules():
        parts = set(name.split("."))
        if isinstance(module, nn.Linear) and (name.split(".")[0] in heads or "pooler" in parts):
            yield name


def _draw(model: nn.Module, module: nn.Module) -> None:
    """Draw a module's own weights as the family does; a matrix that it leaves alone, from N(0, .02^2)."""
    before = {name: weight.clone() for name, weight in module.named_parameters(recurse=False)}
    for weight in module.parameters():
        weight._is_hf_initialized = False  # transformers draws no weight twice
    model._init_weights(module)
    for name, weight in module.named_parameters(recurse=False):
        if weight.ndim > 1 and torch.equal(weight, before[name]):
            weight.normal_(0.0, float(getattr(model.config.get_text_config(), "initializer_range", 0.02)))
