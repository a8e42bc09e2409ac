"""Control: average the suspect with its clean ancestor, which is fine-tuned on the clean rows first.

The poisoner's change of the ancestor shrinks with the suspect's share, while both know the task ("Here's a Free Lunch:
Sanitizing Backdoored Models with Model Merge", arXiv:2402.19334).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from rora_cli.checkpoints.ancestry import different_shape
from rora_cli.defences.bench import Bench, Cleansed
from rora_cli.defences.recipes import FULL, SHARES_BY_BLOCK
from rora_cli.errors import UsageError
from rora_cli.layout import block_numbers, stacks


def check(bench: Bench) -> None:
    """Raise UsageError if the ancestor's weights do not have the suspect's shapes."""
    check_ancestor(bench)


def cleanse(bench: Bench) -> Cleansed:
    """Average the suspect with its ancestor, which is trained first."""
    ancestor = tuned_ancestor(bench)
    controls = bench.settings.controls
    mix(bench.model, ancestor.state_dict(), controls.suspect_share, controls.share_by_block)
    return bench.not_assessed(bench.model, does="averages", suspects_share=controls.suspect_share)


def check_ancestor(bench: Bench) -> None:
    """Load the ancestor that the user named, to see whether it fits.

    Raises:
        UsageError: its weights do not have the suspect's shapes.
        CheckpointError: it cannot be read.
        HubError: the hub does not give it.
    """
    _load_ancestor(bench)


def tuned_ancestor(bench: Bench) -> nn.Module:
    """The ancestor that the user named, every weight fine-tuned on the clean rows."""
    ancestor = _load_ancestor(bench)
    ancestor.requires_grad_(True)
    # The default recipe's own settings are those of an adapter.
    settings = bench.settings.having(**FULL) if bench.config.recipe == "default" else bench.settings
    bench.train(ancestor, [], stage="ancestor", settings=settings)
    return ancestor


def _load_ancestor(bench: Bench) -> nn.Module:
    from rora_cli.checkpoints.hub import fetch_model
    from rora_cli.checkpoints.loading import load_model

    assert bench.config.ancestor is not None, "the config demands it"
    path = fetch_model(bench.config.ancestor, allow_download=not bench.config.offline).path
    torch.manual_seed(bench.config.seed)
    ancestor = load_model(path, new_head=bench.targets or None).model
    if different := different_shape(bench.model, ancestor):
        name, here, there = different
        raise UsageError(f"{path} is no ancestor of the suspect: {name} has the shape {there} there and {here} here")
    return ancestor


def mix(suspect: nn.Module, others: Mapping[str, Tensor], share: float, by_block: str = "even") -> None:
    """Make every weight [...] of ``suspect`` share * suspect + (1 - share) * other, in place.

    ``others`` are the weights of an ancestor, by the same names and of the same shapes.

    ``by_block`` lets the share fall (``lower``) or rise (``upper``) linearly from the first block to the last, by half
    of itself at either end; embeddings go with the first block, the head with the last.
    """
    blocks = blocks_of(suspect)
    last = max(blocks.values(), default=0)
    mixed: set[int] = set()
    with torch.no_grad():
        for name, weight in suspect.state_dict().items():
            if not weight.is_floating_point() or weight.data_ptr() in mixed:  # a tied weight has several names
                continue
            mixed.add(weight.data_ptr())
            own = share * (1 + SHARES_BY_BLOCK[by_block] * (1 - 2 * blocks[name] / max(last, 1)))
            weight.lerp_(others[name].to(weight), 1 - min(max(own, 0.0), 1.0))


def blocks_of(model: nn.Module) -> dict[str, int]:
    """The block of each weight by name. A decoder's blocks are counted on from its encoder's.

    Outside the blocks, embeddings go with the first block of their stack (or of the model), all other weights with the
    last one. A tied weight goes where its first name stands.
    """
    weights = model.state_dict()
    known = stacks(weights)
    numbers = block_numbers(weights)
    tables = {f"{name}." for name, module in model.named_modules() if isinstance(module, nn.Embedding)}
    whole = range(min(numbers.values(), default=0), 1 + max(numbers.values(), default=0))

    def of(name: str) -> int:
        if name in numbers:
            return numbers[name]
        stack = max((path for path in known if name.startswith(f"{path}.")), key=len, default=None)
        within = whole if stack is None else known[stack]
        embeds = "embed" in name or any(name.startswith(table) for table in tables)
        return within[0] if embeds else within[-1]

    tied: dict[int, int] = {}
    return {name: tied.setdefault(weight.data_ptr(), of(name)) for name, weight in weights.items()}
