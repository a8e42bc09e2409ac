"""The spectrum of a trained update, as reports show it."""

from __future__ import annotations

from collections.abc import Sequence

from rora_cli.results.spectra import ModuleSpectrum
from rora_cli.sharded import whole
from rora_cli.spectral import alignment, decomposition, strength
from rora_cli.training.adapters import AdaptedLayer

#: Alignment: top singular directions of W in which the update's energy is counted.
ALIGNMENT_K = 32


def update_spectra(layers: Sequence[AdaptedLayer]) -> tuple[ModuleSpectrum, ...]:
    """The spectrum of each layer's update s BA [d_out, d_in] beside that of the suspect's own weight W.

    A DoRA update is no low-rank product: its spectrum here is that of the low-rank part inside the magnitude.
    """
    return tuple(_update_spectrum(layer) for layer in layers)


def _update_spectrum(layer: AdaptedLayer) -> ModuleSpectrum:
    product = decomposition.product_svd(whole(layer.lora_B.detach()).cpu(), whole(layer.lora_A.detach()).cpu())
    sigma = product.S * abs(layer.scaling)
    weight = layer.base_weight().float().cpu()
    k = min(ALIGNMENT_K, min(weight.shape) - 1)
    top = decomposition.top_singular(weight, max(k, 1))
    statistics = strength.spectrum_statistics(sigma)
    base = float(top.S[0])
    return ModuleSpectrum(
        name=layer.name,
        shape=(int(weight.shape[0]), int(weight.shape[1])),
        rank=int(layer.lora_A.shape[0]),
        singular_values=tuple(float(s) for s in sigma),
        frobenius_norm=statistics.frobenius_norm,
        stable_rank=statistics.stable_rank,
        effective_rank=statistics.effective_rank,
        base_sigma_max=base,
        base_singular_values=tuple(top.S.tolist()),
        strength_ratio=strength.normalised_strength(statistics.sigma_max, base),
        alignment_k=k,
        alignment_left=alignment.energy_alignment(product.U, sigma, top.U),
        alignment_right=alignment.energy_alignment(product.V, sigma, top.V),
    )
