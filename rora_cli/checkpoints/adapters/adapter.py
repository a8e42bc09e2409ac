"""What an adapter is, whatever its format: modules with an update each, and a reason for every other tensor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rora_cli.errors import CheckpointError

if TYPE_CHECKING:  # torch is imported where an update is built: reports without a base need none
    import torch
    from torch import Tensor

    from rora_cli.checkpoints.adapters.base import BaseWeights


@dataclass(frozen=True)
class Update:
    """DeltaW [d_out, d_in]: scaling * lora_B [d_out, r] @ lora_A [r, d_in] or, where no rank bounds it, ``dense``."""

    lora_A: Tensor | None = None
    lora_B: Tensor | None = None
    scaling: float = 1.0
    dense: Tensor | None = None

    def factors(self) -> tuple[Tensor, Tensor]:
        """(lora_B, lora_A); CheckpointError for an update that has none."""
        if self.lora_A is None or self.lora_B is None:
            raise CheckpointError("this update is not of low rank: it has no lora_A and lora_B.")
        return self.lora_B, self.lora_A

    def singular_values(self) -> Tensor:
        """Singular values of DeltaW, descending, float64; exact, from the factors where there are some."""
        from rora_cli.spectral import decomposition

        if self.dense is not None:
            return decomposition.singular_values(self.dense)
        return abs(self.scaling) * decomposition.product_singular_values(*self.factors())

    def svd(self) -> tuple[Tensor, Tensor, Tensor]:
        """U [d_out, r], S [r], V [d_in, r] of DeltaW in float64; a negative scaling is in U."""
        from rora_cli.spectral import decomposition

        if self.dense is not None:
            return decomposition.thin_svd(self.dense)
        product = decomposition.product_svd(*self.factors())
        return (product.U if self.scaling >= 0 else -product.U), abs(self.scaling) * product.S, product.V

    def delta_weight(self, dtype: torch.dtype | None = None) -> Tensor:
        """DeltaW [d_out, d_in] in ``dtype``: float32 (None) or wider, since half precision loses small updates."""
        import torch

        dtype = dtype or torch.float32
        if self.dense is not None:
            return self.dense.to(dtype)
        lora_B, lora_A = self.factors()
        return self.scaling * (lora_B.to(dtype) @ lora_A.to(dtype))


@dataclass(frozen=True)
class FactorNames:
    """The tensors of the file that are lora_B and lora_A: DeltaW = scaling * lora_B @ lora_A, and no more to it.

    Kernels are flattened from the second dimension on. ``transposed``: the file has lora_B^T and lora_A^T. ``experts``:
    lora_A [experts * r, d_in] runs by expert, lora_B [d_out, r * experts] by rank.
    """

    lora_B: str
    lora_A: str
    experts: int = 1
    transposed: bool = False


@dataclass(frozen=True)
class AdapterModule:
    """One adapted weight of the base.

    ``name`` is the module's path in the base; ``shape`` (d_out, d_in) of DeltaW; ``fan_in_fan_out`` says that the base
    stores the weight as [d_in, d_out] (Conv1D, embeddings); ``expert`` is the index in a fused [experts, ...] weight,
    and ``parameter`` that weight's own name where the adapter names it. ``build`` reads the tensors and gives the
    update; it is handed W [d_out, d_in] in float32 where ``needs_base``, the reason for it, is set (DoRA, PiSSA).
    ``factors`` is set where tensors of the file are the update's factors, so that it can be measured as it is read.
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
        return self.name if self.expert is None else f"{self.name}[{self.expert}]"

    def update(self, base_weight: Tensor | None = None) -> Update:
        """The update; ``base_weight`` W [d_out, d_in], as a linear layer has it, where ``needs_base`` is set."""
        if self.needs_base and base_weight is None:
            raise CheckpointError(f"{self.label}: {self.needs_base}; give the base model.")
        return self.build(base_weight)

    @property
    def lora_A(self) -> Tensor:
        """lora_A [r, d_in], read anew."""
        return self.update().factors()[1]

    @property
    def lora_B(self) -> Tensor:
        """lora_B [d_out, r], read anew."""
        return self.update().factors()[0]


@dataclass(frozen=True)
class Adapter:
    """``modules`` are measurable. Every other tensor is in ``aside`` or ``unmeasured``, with the reason.

    ``aside`` carry no update of their own: weights saved whole, which are named in ``whole`` as well (they are measured
    against the base's, where there is one), biases, scales. ``unmeasured`` may well carry one.
    """

    format: str
    modules: tuple[AdapterModule, ...]
    unmeasured: Mapping[str, str]
    aside: Mapping[str, str]
    config: Mapping[str, Any]
    read: Callable[[str], Tensor] = field(repr=False)
    base: BaseWeights | None = field(default=None, repr=False)
    whole: frozenset[str] = frozenset()
