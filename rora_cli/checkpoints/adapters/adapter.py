"""An adapter of any format: modules with one update each, and for every other tensor a reason why it is none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rora_cli.errors import CheckpointError

if TYPE_CHECKING:  # functions that build an update import torch: reports without a base need none
    import torch
    from torch import Tensor

    from rora_cli.checkpoints.adapters.base import BaseWeights


@dataclass(frozen=True)
class Update:
    """DeltaW [d_out, d_in]: scaling * lora_B [d_out, r] @ lora_A [r, d_in], or ``dense`` if its rank is not bounded."""

    lora_A: Tensor | None = None
    lora_B: Tensor | None = None
    scaling: float = 1.0
    dense: Tensor | None = None

    def factors(self) -> tuple[Tensor, Tensor]:
        """(lora_B [d_out, r], lora_A [r, d_in]). Raises CheckpointError for a dense update."""
        if self.lora_A is None or self.lora_B is None:
            raise CheckpointError("this update is not of low rank: it has no lora_A and lora_B.")
        return self.lora_B, self.lora_A

    def singular_values(self) -> Tensor:
        """Singular values [min(r, d_out, d_in)] of DeltaW, descending, float64, exact; from the factors if possible."""
        from rora_cli.spectral import decomposition

        if self.dense is not None:
            return decomposition.singular_values(self.dense)
        return abs(self.scaling) * decomposition.product_singular_values(*self.factors())

    def svd(self) -> tuple[Tensor, Tensor, Tensor]:
        """U [d_out, r], S [r], V [d_in, r] of DeltaW in float64; U takes the sign of a negative scaling."""
        from rora_cli.spectral import decomposition

        if self.dense is not None:
            return decomposition.thin_svd(self.dense)
        product = decomposition.product_svd(*self.factors())
        return (product.U if self.scaling >= 0 else -product.U), abs(self.scaling) * product.S, product.V

    def delta_weight(self, dtype: torch.dtype | None = None) -> Tensor:
        """DeltaW [d_out, d_in] in ``dtype`` (default: float32); half precision would lose small updates."""
        import torch

        dtype = dtype or torch.float32
        if self.dense is not None:
            return self.dense.to(dtype)
        lora_B, lora_A = self.factors()
        return self.scaling * (lora_B.to(dtype) @ lora_A.to(dtype))


@dataclass(frozen=True)
class FactorNames:
    """The names of the tensors lora_B and lora_A, for an update that is just scaling * lora_B @ lora_A.

    Kernels are flattened from the second dimension on. If ``transposed``, the file holds lora_B^T and lora_A^T. With
    several ``experts``, lora_A [experts * r, d_in] is ordered by expert, lora_B [d_out, r * experts] by rank.
    """

    lora_B: str
    lora_A: str
    experts: int = 1
    transposed: bool = False


@dataclass(frozen=True)
class AdapterModule:
    """One adapted weight of the base.

    ``name`` is the module's path in the base, and ``shape`` is (d_out, d_in) of DeltaW. If ``fan_in_fan_out``, the base
    stores the weight as [d_in, d_out] (Conv1D, embeddings). ``expert`` is the index in a fused [experts, ...] weight,
    and ``parameter`` the name of that weight if the adapter tells it. ``build`` reads the tensors and returns the
    update. If ``needs_base`` is set, which says why, ``build`` needs W [d_out, d_in] in float32 (DoRA, PiSSA).
    ``factors`` is set if tensors of the file are the update's factors: then numpy can measure it straight from disk.
    """

    name: str
    format: str
    shape: tuple[int, int]
    rank: int
    scaling: float
    tensors: tuple[str, ...]
    build: Callable[[Tensor | None], Update] = field(repr=False)
    fan_in_fan_out: bool = False
    needs_base: str | None = None
    expert: int | None = None
    parameter: str = "weight"
    bias_tensor: str | None = None
    factors: FactorNames | None = None

    @property
    def label(self) -> str:
        """The module's name for reports, with the number of the expert."""
        return self.name if self.expert is None else f"{self.name}[{self.expert}]"

    def update(self, base_weight: Tensor | None = None) -> Update:
        """The update; ``base_weight`` is W [d_out, d_in], oriented as in a linear layer.

        Raises CheckpointError if ``needs_base`` is set and W is not given.
        """
        if self.needs_base and base_weight is None:
            raise CheckpointError(f"{self.label}: {self.needs_base}; give the base model.")
        return self.build(base_weight)

    @property
    def lora_A(self) -> Tensor:
        """lora_A [r, d_in], read from disk at every access."""
        return self.update().factors()[1]

    @property
    def lora_B(self) -> Tensor:
        """lora_B [d_out, r], read from disk at every access."""
        return self.update().factors()[0]


@dataclass(frozen=True)
class Adapter:
    """The ``modules`` that can be measured; every other tensor is in ``aside`` or ``unmeasured``, with the reason.

    Tensors in ``aside`` hold no update of their own: biases, scales, and weights saved whole. The latter are also in
    ``whole``, and can be measured against the base's weights. Tensors in ``unmeasured`` may hold an update.
    """

    format: str
    modules: tuple[AdapterModule, ...]
    unmeasured: Mapping[str, str]
    aside: Mapping[str, str]
    config: Mapping[str, Any]
    read: Callable[[str], Tensor] = field(repr=False)
    base: BaseWeights | None = field(default=None, repr=False)
    whole: frozenset[str] = frozenset()
