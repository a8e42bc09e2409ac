"""How much of a model is still another's."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn


def share_of(original: Mapping[str, Tensor], model: nn.Module) -> float:
    """The fraction of the numbers in ``model``'s tensors [any shape] that stand in one equal to the ``original``'s."""
    state = model.state_dict()
    equal = sum(tensor.numel() for name, tensor in state.items() if tensor.equal(original[name]))
    return equal / max(sum(tensor.numel() for tensor in state.values()), 1)
