"""Merges an adapter into the weights of its base by rora's own arithmetic, so that PEFT never runs on a suspect."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import TYPE_CHECKING

from rora_cli.checkpoints.adapters.adapter import Adapter, AdapterModule
from rora_cli.checkpoints.adapters.base import BaseWeights
from rora_cli.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor


def stored_delta(module: AdapterModule, stored: Tensor) -> Tensor:
    """DeltaW in float32, in the shape [...] and orientation of ``stored`` [...], a weight or one expert of a fused one.

    Raises CheckpointError if the shapes do not fit, or if the update is not finite.
    """
    import torch

    matrix = stored.flatten(1) if stored.ndim > 2 else stored
    W = matrix.T if module.fan_in_fan_out else matrix
    if tuple(W.shape) != module.shape:
        raise CheckpointError(
            f"{module.label}: the base's weight is {list(W.shape)}, the adapter's update {list(module.shape)}: "
            "the adapter belongs to another base model."
        )
    delta = module.update(W.float() if module.needs_base else None).delta_weight(torch.float32)
    if not torch.isfinite(delta).all():
        raise CheckpointError(f"{module.label}: the update has NaN or infinite values.")
    return (delta.T if module.fan_in_fan_out else delta).reshape(stored.shape)


def merge_into(adapter: Adapter, state: MutableMapping[str, Tensor]) -> None:
    """Add every update [d_out, d_in] to its weight in ``state``, a model's state dict, in place, in float32.

    This also adds the biases of lora_B to those of the modules. The caller has to place the tensors that the adapter
    carries whole (heads). Raises CheckpointError if ``state`` lacks a module's weight, or has it in another shape.
    """
    import torch

    names = BaseWeights(_StateSource(state))
    for module in adapter.modules:
        name = names.find(module.name, module.parameter)
        if name is None:
            raise CheckpointError(
                f"{module.label}: the base has no such module; the adapter belongs to another base model."
            )
        weight = state[name]
        part = weight if module.expert is None else weight[module.expert]
        stored = part.detach().cpu()
        delta = stored_delta(module, stored)
        with torch.no_grad():
            part.copy_((stored.float() + delta).to(part.dtype))
            if module.bias_tensor is not None:
                bias = state.get(name.removesuffix("weight") + "bias")
                if bias is None:
                    raise CheckpointError(f"{module.label}: lora_B has a bias, but the base's module has none.")
                bias.copy_(
                    (bias.cpu().float() + module.scaling * adapter.read(module.bias_tensor).float()).to(bias.dtype)
                )


class _StateSource:
    def __init__(self, state: MutableMapping[str, Tensor]) -> None:
        self._state = state

    def names(self) -> list[str]:
        return list(self._state)

    def info(self, name: str) -> Tensor:
        return self._state[name]

    def read(self, name: str) -> Tensor:
        return self._state[name]
