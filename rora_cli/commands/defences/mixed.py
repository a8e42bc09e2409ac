"""Control: average the suspect with a clean ancestor of it that was fine-tuned on the same clean rows.

What a poisoner added to the ancestor shrinks with the suspect's share, while both know the task ("Here's a Free Lunch:
Sanitizing Backdoored Models with Model Merge", arXiv:2402.19334).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from rora_cli.commands.ancestry import different_shape
from rora_cli.commands.recipes import FULL, SHARES_BY_BLOCK
from rora_cli.commands.workbench import Cleansed, Workbench
from rora_cli.errors import UsageError
from rora_cli.training.adapters import block_index


def cleanse(bench: Workbench) -> Cleansed:
    ancestor = tuned_ancestor(bench)
    mix(bench.model, ancestor, float(bench.settings["suspect_share"]), str(bench.settings["share_by_block"]))
    return bench.not_assessed(bench.model, does="averages")


def tuned_ancestor(bench: Workbench) -> nn.Module:
    """The ancestor that the user named, every weight fine-tuned on the clean rows.

    Raises UsageError where its weights are not of the suspect's shapes.
    """
    from rora_cli.checkpoints.hub import fetch_model
    from rora_cli.checkpoints.loading import load_classifier

    assert bench.config.ancestor is not None, "the config demands it"
    path = fetch_model(bench.config.ancestor, allow_download=bench.config.allow_download).path
    torch.manual_seed(bench.config.seed)
    ancestor = load_classifier(path, new_head=bench.label_names).model
    if different := different_shape(bench.model, ancestor):
        name, here, there = different
        raise UsageError(f"{path} is no ancestor of the suspect: {name} has the shape {there} there and {here} here")
    ancestor.requires_grad_(True)
    # The default recipe's own settings are those of an adapter.
    bench.train(ancestor, [], stage="ancestor", overrides=FULL if bench.config.recipe == "default" else None)
    return ancestor


def mix(suspect: nn.Module, ancestor: nn.Module, share: float, by_block: str = "even") -> None:
    """Make every weight of ``suspect`` share * suspect + (1 - share) * ancestor, in place.

    ``by_block`` lets the share fall (``lower``) or rise (``upper``) linearly from the first block to the last, by half
    of itself at either end; embeddings go with the first block, the head with the last.
    """
    others: Mapping[str, Tensor] = ancestor.state_dict()
    blocks = blocks_of(suspect)
    last = max(blocks.values(), default=0)
    with torch.no_grad():
        for name, weight in suspect.state_dict().items():
            if not weight.is_floating_point():
                continue
            own = share * (1 + SHARES_BY_BLOCK[by_block] * (1 - 2 * blocks[name] / max(last, 1)))
            weight.lerp_(others[name].to(weight), 1 - min(max(own, 0.0), 1.0))


def blocks_of(model: nn.Module) -> dict[str, int]:
    """The block of each weight by name; embeddings go with the first, what else is outside the blocks with the last."""
    weights = model.state_dict()
    numbers = [block for name in weights if (block := block_index(name)) is not None]
    first, last = min(numbers, default=0), max(numbers, default=0)
    rows = model.get_input_embeddings().weight.shape[:1]

    def of(name: str) -> int:
        block = block_index(name)
        if block is not None:
            return block
        return first if "embed" in name or weights[name].shape[:1] == rows else last

    return {name: of(name) for name in weights}
