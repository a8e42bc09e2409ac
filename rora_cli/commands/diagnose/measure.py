"""Measures one module's update: alone, and against the base's weight."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from rora_cli.checkpoints.adapters import AdapterModule, BaseWeights, Update
from rora_cli.commands.diagnose.base_spectra import BaseSpectra
from rora_cli.commands.diagnose.describe import describe
from rora_cli.errors import CheckpointError
from rora_cli.results.spectra import Band, ModuleSpectrum
from rora_cli.spectral import alignment, strength
from rora_cli.spectral.decomposition import TopSingular, as_array, thin_svd, top_singular
from rora_cli.spectral.intruders import intruder_dimensions
from rora_cli.spectral.rescaling import equation_12_factor

#: Width of a dense update [entries] above which only the top of its spectrum is computed; its Frobenius norm is exact.
_DENSE_WIDTH = 1024
_DENSE_TOP = 64


def measure_module(
    module: AdapterModule, base: BaseWeights | None, spectra: BaseSpectra, *, intruders: bool = False
) -> ModuleSpectrum:
    """The spectrum of one module's update, and its relation to the base's weight if the base has it.

    Raises CheckpointError if the update cannot be computed without a base.
    """
    W = base_weight(module, base) if base is not None else None
    if W is None and module.needs_base:
        raise CheckpointError(f"{module.needs_base}; give the base model")
    update = module.update(None if W is None else W.float())
    described = describe_update(update, module)
    return described if W is None else against(described, update, W, spectra.top(W), intruders=intruders)


def base_weight(module: AdapterModule, base: BaseWeights) -> Tensor | None:
    """The weight W [d_out, d_in] that ``module`` updates; None if the base has no such weight."""
    name = base.find(module.name, module.parameter)
    if name is None:
        return None
    return base.weight(name, module.shape, fan_in_fan_out=module.fan_in_fan_out, expert=module.expert)


def describe_update(update: Update, module: AdapterModule) -> ModuleSpectrum:
    """The statistics of the spectrum of ``module``'s update."""
    if update.dense is None:
        lora_B, lora_A = update.factors()
        kurtosis = strength.entry_kurtosis(as_array(lora_B), as_array(lora_A))
        return describe(module, update.singular_values().tolist(), kurtosis)
    truncated = min(update.dense.shape) > _DENSE_WIDTH
    values = top_singular(update.dense, _DENSE_TOP).S.double() if truncated else update.singular_values()
    return describe(
        module,
        values.tolist(),
        strength.entry_kurtosis(as_array(update.dense)),
        frobenius_norm=float(torch.linalg.vector_norm(update.dense.double())),
        truncated=truncated,
    )


def against(
    described: ModuleSpectrum, update: Update, W: Tensor, top: TopSingular, *, intruders: bool = False
) -> ModuleSpectrum:
    """``described``, with its strength, alignment, band of random updates and angles against W [d_out, d_in]."""
    U, S, V = _directions(update)
    k = top.S.numel()
    sigma_base, sigma_update = top.sigma_max, described.sigma_max
    present = torch.gt(S, S[0] * 1e-9)
    left, right = (alignment.null_band(d, k, S) for d in described.shape)
    angles = [_smallest_angle(frame[:, present], basis) for frame, basis in ((U, top.U), (V, top.V))]
    return replace(
        described,
        base_sigma_max=sigma_base,
        base_sigma_error=top.sigma_max_relative_error,
        base_singular_values=tuple(top.S.tolist()),
        strength_ratio=strength.normalised_strength(sigma_update, sigma_base),
        rescaling_factor=equation_12_factor(sigma_base, sigma_update) if sigma_base > 0 and sigma_update > 0 else None,
        alignment_k=k,
        alignment_left=alignment.energy_alignment(U, S, top.U),
        alignment_right=alignment.energy_alignment(V, S, top.V),
        null_left=Band(left.low, left.high),
        null_right=Band(right.low, right.high),
        smallest_angle_left=angles[0],
        smallest_angle_right=angles[1],
        intruder_dimensions=intruder_dimensions(W, update.delta_weight()) if intruders else None,
    )


def _directions(update: Update) -> tuple[Tensor, Tensor, Tensor]:
    if update.dense is None:
        return update.svd()
    if min(update.dense.shape) > _DENSE_WIDTH:
        top = top_singular(update.dense, _DENSE_TOP)
        return top.U.double(), top.S.double(), top.V.double()
    return thin_svd(update.dense)


def _smallest_angle(frame: Tensor, basis: Tensor) -> float | None:
    return float(alignment.principal_angles(frame, basis)[0]) if frame.shape[1] else None
