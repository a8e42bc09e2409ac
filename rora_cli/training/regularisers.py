"""The two regularisers of RoRA that act during training: Cl and Tr (arXiv:2601.06305, section 4)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from rora_cli.errors import UsageError
from rora_cli.spectral.decomposition import top_singular
from rora_cli.training.adapters import AdaptedLayer
from rora_cli.training.specs import RegulariserSpec, require_penalisable


@contextmanager
def clean_strengthened(layers: Sequence[AdaptedLayer], p: float) -> Iterator[None]:
    """Cl: inside, h = Dropout_p(W x) + s BA x in training mode, where dropout scales what it keeps by 1 / (1 - p).

    The mask [batch, tokens, d_out] falls on the output of the frozen branch, as ``AdaptedLayer.frozen_output`` defines
    it for each variant. Every forward pass draws its own mask. Gradient checkpointing restores the random state, so
    that the recomputed mask is the same.
    """
    handles = [handle for layer in layers for handle in _drop_frozen_branch(layer, p)] if p else []
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _drop_frozen_branch(layer: AdaptedLayer, p: float) -> list[Any]:
    if layer.initial is None and layer.variant != "dora":
        # The frozen branch is the base layer's output: no second pass over the output is needed.
        def drop(module: Any, _inputs: Any, output: Tensor) -> Tensor:
            return drop_out(output, p) if module.training else output

        return [layer.module.get_base_layer().register_forward_hook(drop)]

    captured: list[Tensor] = []

    def capture(module: Any, _inputs: Any, output: Tensor) -> None:
        if module.training:
            captured[:] = [output]

    def replace(module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if not module.training:
            return output
        frozen = layer.frozen_output(captured.pop(), inputs[0])
        return output + drop_out(frozen, p) - frozen

    return [
        layer.module.get_base_layer().register_forward_hook(capture),
        layer.module.register_forward_hook(replace),
    ]


def drop_out(output: Tensor, p: float) -> Tensor:
    """``output`` [any shape], each entry 0 with probability p, else divided by 1 - p.

    The mask comes from torch's default generator of the device. On a CPU torch draws masks number by number, which
    costs a tenth of a training step on twelve layers: here one draw of 64 bits decides four entries, and p is rounded
    to 1/65536.
    """
    if output.device.type != "cpu":
        return functional.dropout(output, p)
    dropped = round(p * 2**16)
    draws = torch.empty(-(-output.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    keep = draws.view(torch.int16)[: output.numel()].view(output.shape) >= dropped - 2**15
    return output * keep.to(output.dtype).mul_(2**16 / (2**16 - dropped))


def check_truncation(layer: str, smallest: int, k: int) -> None:
    """Raise UsageError unless ``k`` is below ``smallest``, the smaller dimension of the layer's weight."""
    if k >= smallest:
        raise UsageError(
            f"--tr-k {k} is not below {smallest}, the smaller dimension of {layer}: untruncated, the penalty is plain "
            "L2 on the factors; choose a smaller k"
        )


class SubspacePenalty:
    """Tr: Omega = ||U_k^T B||_F^2 + ||A V_k||_F^2 over the adapted modules (Eq. 10 and 11), W = U S V^T.

    Calling it gives lambda * Omega, a scalar. U_k [d_out, k] and V_k [d_in, k] come from the suspect's own weight and
    stay fixed. k must be below min(d_out, d_in): untruncated, Omega would be plain L2 on A and B.
    """

    def __init__(self, layers: Sequence[AdaptedLayer], spec: RegulariserSpec, *, seed: int = 0) -> None:
        self._groups: list[tuple[list[AdaptedLayer], Tensor, Tensor]] = []
        by_shape: dict[tuple[int, ...], list[AdaptedLayer]] = {}
        for layer in layers:
            if layer.initial is not None:
                require_penalisable(layer.variant)
            check_truncation(layer.name, min(layer.base_weight().shape), spec.tr_k)
            by_shape.setdefault((*layer.lora_B.shape, *layer.lora_A.shape), []).append(layer)
        for group in by_shape.values():
            tops = [top_singular(layer.base_weight().float(), spec.tr_k, seed=seed) for layer in group]
            device = group[0].lora_A.device
            left = torch.stack([top.U.T for top in tops]).to(device, torch.float32)
            right = torch.stack([top.V for top in tops]).to(device, torch.float32)
            self._groups.append((group, left, right))
        modules = sum(len(group) for group, _, _ in self._groups)
        self._weight = spec.tr / modules if spec.tr_reduction == "mean" else spec.tr

    def __call__(self) -> Tensor:
        total: Tensor | float = 0.0
        for group, left, right in self._groups:
            b = torch.stack([layer.lora_B for layer in group]).float()
            a = torch.stack([layer.lora_A for layer in group]).float()
            total = total + torch.bmm(left, b).square().sum() + torch.bmm(a, right).square().sum()
        assert isinstance(total, Tensor)
        return self._weight * total
