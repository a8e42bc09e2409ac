"""Control: forget the top blocks and the head, and train the whole model again on the clean rows."""

from __future__ import annotations

import torch
from torch import nn

from rora_cli.commands.workbench import Cleansed, Workbench
from rora_cli.errors import UsageError
from rora_cli.training.adapters import block_index


def cleanse(bench: Workbench) -> Cleansed:
    torch.manual_seed(bench.config.seed)
    reinitialise(bench.model, int(bench.settings["reinit_blocks"]))
    bench.model.requires_grad_(True)
    bench.train(bench.model, [], stage="train")
    return bench.not_assessed(bench.model)


def reinitialise(model: nn.Module, count: int) -> None:
    """Draw the weights of the last ``count`` blocks, and of all linear layers outside the blocks, anew.

    Matrices from N(0, initializer_range), biases 0, normalisation weights 1, as the encoders were pretrained from.
    Raises UsageError where the model has fewer blocks.
    """
    blocks = sorted({block for name, _ in model.named_parameters() if (block := block_index(name)) is not None})
    if count > len(blocks):
        raise UsageError(f"--reinit-blocks {count} is more than the {len(blocks)} blocks of the model")
    chosen = set(blocks[len(blocks) - count :])
    spread = float(getattr(model.config.get_text_config(), "initializer_range", 0.02))
    with torch.no_grad():
        for name, module in model.named_modules():
            block = block_index(name)
            if block in chosen or (block is None and isinstance(module, nn.Linear)):
                _draw(module, spread)


def _draw(module: nn.Module, spread: float) -> None:
    for name, weight in module.named_parameters(recurse=False):
        if weight.ndim > 1:
            weight.normal_(0.0, spread)
        else:
            weight.fill_(0.0 if "bias" in name else 1.0)
