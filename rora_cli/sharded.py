"""Tensors that several processes hold in parts: the whole of one, this process's part, and writing to it.

The functions take plain tensors as well, which are whole already. Every process calls those that say so, in one order.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn


def is_sharded(model: nn.Module) -> bool:
    """Whether the processes hold the model's parameters in parts, so that a forward pass needs all of them."""
    return any(hasattr(parameter, "full_tensor") for parameter in model.parameters())


def whole(tensor: Tensor) -> Tensor:
    """The tensor [its whole shape] with the parts of all processes, which must call this together.

    Gradients go back to the parts.
    """
    gather: Any = getattr(tensor, "full_tensor", None)
    return tensor if gather is None else gather()


def part(tensor: Tensor) -> Tensor:
    """The part [some of its rows] of a tensor that this process holds, without gradient.

    Who writes to it changes the tensor.
    """
    held: Any = getattr(tensor, "to_local", None)
    return tensor.detach() if held is None else tensor.detach().to_local()


def assign(tensor: Tensor, value: Tensor) -> None:
    """Write ``value`` [the whole tensor's shape], which every process gives alike; each keeps its part."""
    mesh = getattr(tensor, "device_mesh", None)
    if mesh is not None:
        from torch.distributed.tensor import distribute_tensor

        # Every process has the value: none needs to send it.
        value = distribute_tensor(value.to(tensor), mesh, tensor.placements, src_data_rank=None)
    tensor.detach().copy_(value)


def gradients_off(model: nn.Module) -> AbstractContextManager[Any]:
    """Inference mode; for a sharded model no more than no gradients.

    Parameters that were gathered in inference mode cannot be trained afterwards.
    """
    import torch

    return torch.no_grad() if is_sharded(model) else torch.inference_mode()
