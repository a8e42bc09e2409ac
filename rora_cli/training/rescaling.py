"""Pt: post-training spectral rescaling (Eq. 12) of a trained adapter, guarded by clean accuracy."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from rora_cli.errors import TrainingError
from rora_cli.results.accuracy import CleanAccuracy
from rora_cli.results.purify import RescalingAttempt, RescalingOutcome
from rora_cli.sharded import part, whole
from rora_cli.spectral.decomposition import product_singular_values, top_singular
from rora_cli.spectral.rescaling import equation_12_factor, fold
from rora_cli.training.adapters import AdaptedLayer, select_layers
from rora_cli.training.specs import RescalingSpec, require_rescalable

#: How often the strength is halved before Pt is given up.
MAX_HALVINGS = 6
#: Smallest largest factor of a halved strength; Pt is given up below it, since it would change next to nothing.
MIN_FACTOR = 1.3


def rescale_trained(
    layers: Sequence[AdaptedLayer],
    spec: RescalingSpec,
    measure: Callable[[], CleanAccuracy],
    baseline: CleanAccuracy | None = None,
) -> RescalingOutcome:
    """Scale the update of each chosen layer by strength * sigma_max(W) / sigma_max(s BA) (Eq. 12), in lora_B.

    With a guard the strength is halved until clean accuracy keeps to the user's limit, and no update is weakened: each
    factor is at least 1. (In models 32 wide, whose updates are as strong as their weights, half of Eq. 12 took a
    hardening back: attack success 97 and 100 %, where 7 and 1 were left without Pt.) The outcome has every strength
    that was tried, with the accuracy that it gave; its ``strength`` is 0 if the adapter is as training left it.

    Args:
        layers: the adapted ones, of which ``spec.pt_layers`` chooses.
        spec: the strength, the cap of a factor, and the guard.
        measure: the clean accuracy of the model as it is now.
        baseline: the suspect's accuracy: without it, training and Pt could each cost as much as the limit allows.

    Raises:
        TrainingError: a scaled weight is not finite.
        UsageError: the variant's update cannot be scaled, or blocks have no adapted layer.
    """
    chosen = chosen_layers(layers, spec)
    for layer in chosen:
        require_rescalable(layer.variant)
    trained = {layer.name: part(layer.lora_B).clone() for layer in chosen}
    sigmas = {layer.name: _sigmas(layer) for layer in chosen}
    before = measure() if spec.pt_guard else None
    attempts: list[RescalingAttempt] = []
    strength = spec.pt
    for _ in range(MAX_HALVINGS + 1 if spec.pt_guard else 1):
        factors = {name: _factor(*pair, strength, spec) for name, pair in sigmas.items()}
        if spec.pt_guard and strength < spec.pt and max(factors.values(), default=1.0) < MIN_FACTOR:
            break
        _apply(chosen, trained, factors)
        accuracy = measure()
        accepted = before is None or all(
            accuracy.loss_beyond(known, spec.allowed_drop) == 0 for known in (before, baseline or before)
        )
        attempts.append(RescalingAttempt(strength, factors, accuracy, accepted))
        if accepted:
            return RescalingOutcome(strength, factors, before, tuple(attempts))
        strength /= 2
    _apply(chosen, trained, dict.fromkeys(trained, 1.0))
    return RescalingOutcome(0.0, dict.fromkeys(trained, 1.0), before, tuple(attempts))


def chosen_layers(layers: Sequence[AdaptedLayer], spec: RescalingSpec) -> list[AdaptedLayer]:
    """The layers that Pt rescales.

    Raises:
        UsageError: a block that the user named has none.
    """
    return select_layers(layers, spec.pt_layers, {layer.name: n for layer in layers if (n := layer.block) is not None})


def _sigmas(layer: AdaptedLayer) -> tuple[float, float]:
    """sigma_max(W) and sigma_max(s BA)."""
    base = float(top_singular(layer.base_weight().float(), 1).S[0])
    factors = whole(layer.lora_B.detach()), whole(layer.lora_A.detach())
    update = abs(layer.scaling) * float(product_singular_values(*factors)[0])
    return base, update


def _factor(base: float, update: float, strength: float, spec: RescalingSpec) -> float:
    if update == 0.0:  # nothing was learned here, and no factor changes that
        return 1.0
    factor = equation_12_factor(base, update, strength=strength, cap=spec.pt_cap)
    return max(factor, 1.0) if spec.pt_guard else factor


def _apply(layers: Sequence[AdaptedLayer], trained: dict[str, Tensor], factors: dict[str, float]) -> None:
    with torch.no_grad():
        for layer in layers:
            held = part(layer.lora_B)
            held.copy_(fold(trained[layer.name], factors[layer.name]))
            if not torch.isfinite(held).all():
                raise TrainingError(f"rescaling {layer.name} by {factors[layer.name]:.3g} overflowed; lower --pt-cap")
