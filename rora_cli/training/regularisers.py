"""The two regularisers of RoRA that act during training: Cl and Tr (arXiv:2601.06305, section 4)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from rora_cli.errors import UsageError
from rora_cli.sharded import whole
from rora_cli.spectral.decomposition import top_singular
from rora_cli.training.adapters import AdaptedLayer
from rora_cli.training.dropout import drop_out
from rora_cli.training.specs import RegulariserSpec, require_penalisable


@contextmanager
def clean_strengthened(model: nn.Module, layers: Sequence[AdaptedLayer], p: float) -> Iterator[None]:
    """Cl: inside, h = Dropout_p(W x) + s BA x in training mode, where dropout scales what it keeps by 1 / (1 - p).

    The mask [batch, tokens, d_out] falls on the output of the frozen branch, as ``AdaptedLayer.frozen_output`` defines
    it for each variant. Every forward pass draws its own mask. Inside, modules of ``model`` are wrapped in others,
    which gradient checkpointing runs again like any other module; it restores the random state, so that the mask is
    the same.
    """
    paths = {id(module): path for path, module in model.named_modules()}
    wrapped = [_wrapped(layer, p) for layer in layers] if p else []
    places = [(paths[id(wrapper.wraps)], wrapper) for wrapper in wrapped]
    for path, wrapper in places:
        model.set_submodule(path, wrapper)
    try:
        yield
    finally:
        for path, wrapper in places:
            model.set_submodule(path, wrapper.wraps)


def _wrapped(layer: AdaptedLayer, p: float) -> _DroppedBase | _DroppedBranch:
    if layer.initial is None and layer.variant != "dora":
        # The frozen branch is the base layer's output: no second pass over the output is needed.
        return _DroppedBase(layer.module.base_layer, p)
    return _DroppedBranch(layer, p)


class _DroppedBase(nn.Module):
    """A base layer with dropout on its output. PEFT looks through a wrapper that calls what it wraps ``base_layer``."""

    def __init__(self, base_layer: nn.Module, p: float) -> None:
        super().__init__()
        self.base_layer, self._p = base_layer, p
        self.training = base_layer.training

    @property
    def wraps(self) -> nn.Module:
        return self.base_layer

    def forward(self, inputs: Tensor) -> Tensor:
        """The output [..., d_out] for ``inputs`` [..., d_in]."""
        output: Tensor = self.base_layer(inputs)
        return drop_out(output, self._p) if self.training else output


class _DroppedBranch(nn.Module):
    """An adapted layer with dropout on its frozen branch, which is more than the base layer's output."""

    def __init__(self, layer: AdaptedLayer, p: float) -> None:
        super().__init__()
        self.adapted: nn.Module = layer.module
        self._layer, self._p = layer, p
        self.training = self.adapted.training

    @property
    def wraps(self) -> nn.Module:
        return self.adapted

    def forward(self, inputs: Tensor) -> Tensor:
        """The output [..., d_out] for ``inputs`` [..., d_in]."""
        output: Tensor = self.adapted(inputs)
        if not self.training:
            return output
        frozen = self._layer.frozen_output(self._layer.module.get_base_layer()(inputs), inputs)
        return output + drop_out(frozen, self._p) - frozen


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
            b = torch.stack([whole(layer.lora_B) for layer in group]).float()
            a = torch.stack([whole(layer.lora_A) for layer in group]).float()
            total = total + torch.bmm(left, b).square().sum() + torch.bmm(a, right).square().sum()
        assert isinstance(total, Tensor)
        return self._weight * total
