"""Statistics of an update's own spectrum, without a base and without torch: numpy measures the factors from disk."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rora_cli.checkpoints.adapters import AdapterModule
from rora_cli.checkpoints.adapters.adapter import FactorNames
from rora_cli.checkpoints.reader import ARRAY_TYPES, TensorReader
from rora_cli.commands.diagnose.places import place
from rora_cli.results.spectra import ModuleSpectrum
from rora_cli.spectral import strength
from rora_cli.spectral.factors import product_singular_values

if TYPE_CHECKING:
    from numpy.typing import NDArray

_Factors = tuple["NDArray[Any]", "NDArray[Any]"]


def describe(
    module: AdapterModule,
    values: Sequence[float],
    kurtosis: float | None,
    *,
    frobenius_norm: float | None = None,
    truncated: bool = False,
) -> ModuleSpectrum:
    """The statistics of singular ``values`` [r]; if these are not all of them, pass the exact ``frobenius_norm``."""
    numbers = strength.spectrum_statistics(values)
    norm = numbers.frobenius_norm if frobenius_norm is None else frobenius_norm
    block, kind = place(module.name, module.parameter)
    return ModuleSpectrum(
        name=module.label,
        shape=module.shape,
        rank=module.rank,
        singular_values=tuple(values),
        frobenius_norm=norm,
        stable_rank=(norm / numbers.sigma_max) ** 2 if numbers.sigma_max else 0.0,
        effective_rank=numbers.effective_rank,
        format=module.format,
        block=block,
        kind=kind,
        scaling=module.scaling,
        entropy=numbers.entropy,
        energy_share=numbers.energy_share,
        entry_kurtosis=kurtosis,
        size_normalised_norm=strength.size_normalised_norm(norm, module.shape),
        spectrum_is_truncated=truncated,
    )


class FactorReader:
    """Measures modules whose factors are tensors of the file.

    It takes memory for two buffers, of the sizes of the largest factors, whatever the size of the file.
    """

    def __init__(self, reader: TensorReader, modules: Iterable[AdapterModule]) -> None:
        self.reader = reader
        pairs = [m.factors for m in modules if m.factors is not None and self.reads(m)]
        self._buffers = [
            bytearray(max((self._bytes(name) for name in names), default=0))
            for names in ([f.lora_B for f in pairs], [f.lora_A for f in pairs])
        ]
        self._held: tuple[FactorNames, _Factors] | None = None

    def reads(self, module: AdapterModule) -> bool:
        """Whether this can measure ``module``: its factors are tensors of the file, of types that numpy knows."""
        names = module.factors
        return names is not None and all(
            self.reader.info(name).dtype in ARRAY_TYPES for name in (names.lora_B, names.lora_A)
        )

    def describe(self, module: AdapterModule) -> ModuleSpectrum:
        """One module's spectrum. Raises CheckpointError for NaN or infinity, and for tensors that cannot be read."""
        lora_B, lora_A = self._factors(module)
        values = abs(module.scaling) * product_singular_values(lora_B, lora_A)
        return describe(module, values.tolist(), strength.entry_kurtosis(lora_B, lora_A))

    def _factors(self, module: AdapterModule) -> _Factors:
        """(lora_B [d_out, r], lora_A [r, d_in]); the modules of a stack of experts share one reading."""
        names = module.factors
        assert names is not None
        if self._held is None or self._held[0] != names:
            self._held = None  # its arrays lie in the buffers
            self._held = names, self._stacks(names)
        lora_B, lora_A = self._held[1]
        return lora_B[module.expert or 0], lora_A[module.expert or 0]

    def _stacks(self, names: FactorNames) -> _Factors:
        """lora_B [experts, d_out, r] and lora_A [experts, r, d_in]."""
        B, A = map(self.reader.read_array, (names.lora_B, names.lora_A), self._buffers)
        if names.transposed:
            B, A = B.T, A.T
        B, A = B.reshape(len(B), -1), A.reshape(len(A), -1)
        if names.experts == 1:
            return B[None], A[None]
        return (
            np.ascontiguousarray(B.reshape(len(B), -1, names.experts).transpose(2, 0, 1)),
            A.reshape(names.experts, -1, A.shape[1]),
        )

    def _bytes(self, name: str) -> int:
        info = self.reader.info(name)
        return info.end - info.start
