"""Control: fine-pruning (Liu, Dolan-Gavitt and Garg, RAID 2018, arXiv:1805.12185), carried over to transformers.

Neurons of the feed-forward layers that clean rows hardly excite are cut, the least excited first, for as long as clean
accuracy holds; then everything that is left is fine-tuned.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from rora_cli.defences.bench import Bench, Cleansed
from rora_cli.errors import UsageError
from rora_cli.evaluation.scoring import TorchScorer
from rora_cli.layout import block_numbers, leads_down
from rora_cli.training.adapters import fused_experts, is_linear

#: Shares of the neurons that are tried, in this order, up to the setting ``prune``.
STEP = 0.1


def check(bench: Bench) -> None:
    """Raise UsageError where there are no neurons to cut, or they stand in a weight that holds many experts."""
    family = type(bench.model).__name__
    if fused_experts(bench.model):
        raise UsageError(
            f"the recipe fine-pruning cuts neurons of linear layers, and the experts of a {family} are fused into one "
            "weight; use the recipe full, reinit or mix"
        )
    if not feed_forward_layers(bench.model):
        raise UsageError(
            f"the recipe fine-pruning finds no feed-forward layers in a {family}; use the recipe full, reinit or mix"
        )


def cleanse(bench: Bench) -> Cleansed:
    model, measure = bench.model.to(bench.run.device), bench.gauge.measure
    activity = neuron_activity(bench)
    start = measure(model).overall.value or 0.0
    kept, share = _masks(activity, 0.0), 0.0
    while share + STEP <= bench.settings.controls.prune + 1e-9:
        tried = _masks(activity, share + STEP)
        with cut(model, tried):
            now = measure(model).overall.value or 0.0
        if now < start - bench.gauge.limit:
            break
        kept, share = tried, share + STEP
    bench.run.record("prune", details={"share of neurons": round(share, 2)})
    model.requires_grad_(True)
    with cut(model, kept):
        bench.train(model, [], stage="train")
    _zero(model, kept)
    return bench.not_assessed(model)


def feed_forward_layers(model: nn.Module) -> list[str]:
    """The names of the linear layers in the blocks that lead a feed-forward layer's neurons back down."""
    numbers = block_numbers(name for name, _ in model.named_modules())
    return [n for n, module in model.named_modules() if n in numbers and is_linear(module) and leads_down(n)]


def neuron_activity(bench: Bench) -> dict[str, Tensor]:
    """Mean absolute input [neurons] on the clean rows of each module that leads a feed-forward layer back down."""
    sums: dict[str, Tensor] = {}
    handles = []
    for name in feed_forward_layers(bench.model):

        def add(_module: nn.Module, inputs: tuple[Tensor, ...], name: str = name) -> None:
            flat = inputs[0].detach().abs().flatten(0, -2).sum(0)
            sums[name] = sums[name] + flat if name in sums else flat

        handles.append(bench.model.get_submodule(name).register_forward_pre_hook(add))
    texts, limit = list(bench.clean.texts), bench.subject.max_length
    encoded = bench.subject.tokenizer(texts, truncation=True, max_length=limit)["input_ids"]
    try:
        TorchScorer(bench.model).log_probabilities(encoded)  # unpadded: padding must not excite anything
    finally:
        for handle in handles:
            handle.remove()
    return sums


@contextmanager
def cut(model: nn.Module, masks: Mapping[str, Tensor]) -> Iterator[None]:
    """``model`` without the neurons that the masks [neurons] have 0 for."""

    def cutter(mask: Tensor) -> Any:
        return lambda _module, inputs: (inputs[0] * mask.to(inputs[0]), *inputs[1:])

    handles = [model.get_submodule(name).register_forward_pre_hook(cutter(mask)) for name, mask in masks.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _masks(activity: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """0 for the ``share`` of each layer's neurons that is excited least, else 1."""
    masks = {}
    for name, values in activity.items():
        mask = torch.ones_like(values)
        mask[values.argsort()[: int(share * len(values))]] = 0.0
        masks[name] = mask
    return masks


def _zero(model: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Write the cut into the weights: what a cut neuron would have fed is 0."""
    with torch.no_grad():
        for name, mask in masks.items():
            weight = model.get_submodule(name).weight
            shaped = mask if isinstance(model.get_submodule(name), nn.Linear) else mask[:, None]
            weight.mul_(shaped.to(weight))
