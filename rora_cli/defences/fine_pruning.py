"""Control: fine-pruning (Liu, Dolan-Gavitt and Garg, RAID 2018, arXiv:1805.12185), carried over to transformers.

Neurons of the feed-forward layers that clean rows hardly excite are cut, the least excited first, while clean accuracy
keeps to the limit. Then the rest is fine-tuned.
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

#: Fraction of the neurons by which the cut grows from trial to trial, up to the setting ``prune``.
STEP = 0.1


def check(bench: Bench) -> None:
    """Raise UsageError if there are no neurons to cut, or their weights are fused into one of many experts."""
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
    """Cut neurons while clean accuracy keeps to the limit, then train every weight that is left."""
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
    """The names of the linear layers that read a feed-forward layer's neurons."""
    numbers = block_numbers(name for name, _ in model.named_modules())
    return [n for n, module in model.named_modules() if n in numbers and is_linear(module) and leads_down(n)]


def neuron_activity(bench: Bench) -> dict[str, Tensor]:
    """How much clean rows excite each neuron: its absolute value, summed over all tokens [neurons], by layer name.

    The layers are those that read the neurons (``feed_forward_layers``).
    """
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
    """Inside, ``model`` works without the neurons for which the masks [neurons] have 0."""

    def cutter(mask: Tensor) -> Any:
        return lambda _module, inputs: (inputs[0] * mask.to(inputs[0]), *inputs[1:])

    handles = [model.get_submodule(name).register_forward_pre_hook(cutter(mask)) for name, mask in masks.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _masks(activity: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """Masks [neurons] by layer: 0 for the ``share`` of the neurons that clean rows excite least, else 1."""
    masks = {}
    for name, values in activity.items():
        mask = torch.ones_like(values)
        mask[values.argsort()[: int(share * len(values))]] = 0.0
        masks[name] = mask
    return masks


def _zero(model: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Write the cut into the weights: those that read a cut neuron become 0."""
    with torch.no_grad():
        for name, mask in masks.items():
            weight = model.get_submodule(name).weight
            shaped = mask if isinstance(model.get_submodule(name), nn.Linear) else mask[:, None]
            weight.mul_(shaped.to(weight))
