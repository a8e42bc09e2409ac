"""The ancestor that a checkpoint names for itself: a hint for the user; rora never fetches anything because of it."""

from __future__ import annotations

import re
import statistics

from torch import Tensor, nn

from rora_cli.checkpoints.own_card import HUB_ID, card_values
from rora_cli.checkpoints.preflight import Inspection
from rora_cli.results.findings import Finding, Severity
from rora_cli.sharded import whole

Shape = tuple[int, ...] | None

#: Median relative distance of the weight matrices of two models; below this, one was trained from the other.
RELATED = 0.3


def named_ancestor(inspection: Inspection) -> str | None:
    """The hub id in the front matter of the model card, else the one in the config; None if there is none."""
    if found := card_values(inspection, "base_model"):
        return found[0]
    name = (inspection.config or {}).get("_name_or_path")
    return name if isinstance(name, str) and re.fullmatch(HUB_ID, name, re.ASCII) else None


def descends(model: nn.Module, ancestor: nn.Module) -> bool:
    """Whether the weights of ``model`` show that it was trained from ``ancestor``.

    Fine-tuning moves a weight matrix by a few per cent of its norm. The distance of two matrices that were trained
    apart is about the norm of the larger one. The median over all matrices counts, so a new head makes no difference.
    """
    if different_shape(model, ancestor):
        return False
    own, other = _weights(model), _weights(ancestor)
    distances = [
        float((whole(own[name]).to(weight).float() - weight.float()).norm() / weight.float().norm().clamp_min(1e-12))
        for name, weight in other.items()
        if weight.ndim == 2
    ]
    return bool(distances) and statistics.median(distances) < RELATED


def different_shape(model: nn.Module, other: nn.Module) -> tuple[str, Shape, Shape] | None:
    """(name, shape in ``model``, shape in ``other``) of the first weight that differs; None if no shape differs.

    The shape is None in a model that lacks the weight.
    """
    shapes = [{name: tuple(weight.shape) for name, weight in _weights(m).items()} for m in (model, other)]
    for name in sorted(shapes[0].keys() | shapes[1].keys()):
        if shapes[0].get(name) != shapes[1].get(name):
            return name, shapes[0].get(name), shapes[1].get(name)
    return None


def _weights(model: nn.Module) -> dict[str, Tensor]:
    """The model's own weights by name, without those of an adapter that may lie on it."""
    return {
        name.replace(".base_layer.", ".").replace(".original_module.", "."): weight
        for name, weight in model.state_dict().items()
        if ".lora_" not in name and ".modules_to_save." not in name
    }


def suggestion(ancestor: str) -> Finding:
    """The finding that tells the user what to do with the hub id ``ancestor``."""
    return Finding(
        "purify/ancestor-named",
        Severity.INFO,
        f"the checkpoint names {ancestor} as the model that it was trained from",
        evidence={"ancestor": ancestor},
        advice=f"if you trust that model, --ancestor {ancestor} mixes it in: that weakens what no search finds as well",
    )
