"""Merges a suspect adapter into its base in float32, by rora's arithmetic: PEFT's result without its side effects."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from rora_cli.checkpoints.adapter_rules import target_name
from rora_cli.checkpoints.adapters import merge_into, read_adapter
from rora_cli.checkpoints.header import quoted
from rora_cli.checkpoints.preflight import Inspection
from rora_cli.checkpoints.reader import TensorReader
from rora_cli.errors import CheckpointError
from rora_cli.layout import LABEL_LAYERS

#: Roles (``adapter_rules.tensor_role``) of tensors that take the place of a parameter of the model.
_REPLACING = ("head", "embedding", "module", "bias", "undeclared-head")
#: Roles of tensors that change nothing: a part of a replaced head, and a copy of the base's weight.
_WITHOUT_EFFECT = ("original", "copy")


def head_labels(adapter: Inspection) -> int | None:
    """The number of labels of the adapter's own head, or None if it has no head."""
    shapes = {target_name(n): t.shape for n, t in adapter.tensors.items() if adapter.roles[n] in _REPLACING}
    return next((shapes[name][0] for name in LABEL_LAYERS if len(shapes.get(name, ())) == 2), None)


@torch.no_grad()
def merge_adapter(model: nn.Module, adapter: Inspection, base: Inspection) -> tuple[set[str], set[str]]:
    """Add every update to its weight and put heads and biases in place.

    Returns the names of the parameters that were replaced, and of all that were changed.

    ``model`` must be in float32, because half precision loses most of a small update.

    Raises:
        CheckpointError: a module or parameter that the model does not have, or ties to another; a shape that does not
            fit (the adapter is for another base); NaN or infinite values; a format whose effect is not an added matrix.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    read = read_adapter(adapter, _ModelWeights(parameters, base))
    if not read.modules:
        reason = next(iter(read.unmeasured.values()), "it has no modules")
        raise CheckpointError(f"{adapter.path} cannot be merged: {reason}")
    targets = [read.base.find(module.name, module.parameter) for module in read.modules] if read.base else []
    whole = [target_name(name) for name in adapter.tensors if adapter.roles[name] in _REPLACING]
    _require_untied(parameters, filter(None, [*targets, *whole]), adapter)
    merge_into(read, parameters)
    replaced, biases = set(), {module.bias_tensor for module in read.modules}
    with TensorReader(adapter) as reader:
        for name in reader.names():
            if adapter.roles[name] in _REPLACING:
                tensor = reader.read(name, require_finite=True)
                replaced.add(_replace(parameters, target_name(name), tensor, adapter))
            elif name in read.unmeasured and name not in biases and adapter.roles[name] not in _WITHOUT_EFFECT:
                raise CheckpointError(f"{quoted(name)} in {adapter.path} cannot be merged: {read.unmeasured[name]}")
    biased = {target.removesuffix("weight") + "bias" for target in targets if target}
    return replaced, replaced | {target for target in targets if target} | (biased & parameters.keys())


def _require_untied(parameters: dict[str, nn.Parameter], changed: Iterable[str], adapter: Inspection) -> None:
    """Refuse a change of a tied weight: PEFT changes one of the places that use it, but merging would change all."""
    places: dict[int, list[str]] = {}
    for name, parameter in parameters.items():
        places.setdefault(id(parameter), []).append(name)
    for name in changed:
        if name in parameters and len(names := places[id(parameters[name])]) > 1:
            other = next(place for place in names if place != name)
            raise CheckpointError(
                f"{adapter.path} changes {quoted(name)}, which the model ties to {quoted(other)}: merged, both would "
                "change, where PEFT changes the one; use an adapter that leaves tied weights alone"
            )


def _replace(parameters: dict[str, nn.Parameter], name: str, tensor: Tensor, adapter: Inspection) -> str:
    parameter = parameters.get(name)
    if parameter is None:
        raise CheckpointError(
            f"{adapter.path} replaces {quoted(name)}, which the model does not have; name its own base"
        )
    if parameter.shape != tensor.shape:
        raise CheckpointError(
            f"{quoted(name)} in {adapter.path} has the shape {list(tensor.shape)}, where the model has "
            f"{list(parameter.shape)}; the adapter is for another base or another number of labels"
        )
    parameter.data.copy_(tensor)
    return name


class _ModelWeights:
    """The base for ``read_adapter``, from the model in memory: its parameters have the names that PEFT used."""

    def __init__(self, parameters: dict[str, nn.Parameter], inspection: Inspection) -> None:
        self._parameters, self.inspection = parameters, inspection

    def names(self) -> Iterable[str]:
        return list(self._parameters)

    def info(self, name: str) -> Tensor:
        return self._parameters[name]

    def read(self, name: str) -> Tensor:
        return self._parameters[name].detach()
