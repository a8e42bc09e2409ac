"""An adapter's inspection next to that of its base, whose tensors decide the roles that a name alone leaves open."""

from __future__ import annotations

from dataclasses import replace

from rora_cli.checkpoints import adapter_rules
from rora_cli.checkpoints.adapters.base import BaseWeights
from rora_cli.checkpoints.preflight import Inspection
from rora_cli.checkpoints.reader import TensorReader

#: Roles that depend on the base: whether it has such a weight, and whether the copy equals that weight.
_OPEN = ("base", "embedding-copy", "unknown")


def with_base(adapter: Inspection, base: Inspection) -> Inspection:
    """``adapter`` with the roles that its tensors have next to ``base``, and the findings about them.

    A tensor that names no weight of the base is ``unknown``. A tensor that equals the base's weight is a ``copy``; any
    other is ``base``, and PEFT would overwrite the weight with it. Only tensors of these roles are read.
    """
    if adapter.role != "adapter" or not base.tensors or not any(role in _OPEN for role in adapter.roles.values()):
        return adapter
    with TensorReader(adapter) as ours, TensorReader(base) as theirs:
        weights = BaseWeights(theirs, base.config)
        roles = {
            name: _role(name, role, ours, weights) if role in _OPEN else role for name, role in adapter.roles.items()
        }
    empty = [name for name, info in adapter.tensors.items() if not info.elements]
    file = next(iter(adapter.tensors.values())).file
    told = adapter_rules.check_tensors(roles, adapter.adapter_config, file, roles, empty)
    kept = [found for found in adapter.findings if found.rule_id not in adapter_rules.TENSOR_RULES]
    return replace(adapter, roles=roles, findings=(*kept, *told))


def _role(name: str, role: str, ours: TensorReader, weights: BaseWeights) -> str:
    module, _, parameter = adapter_rules.target_name(name).rpartition(".")
    found = weights.find(module, parameter)
    if found is None:
        return "unknown"
    if weights.shape(found) != tuple(ours.info(name).shape) or weights.unreadable(found):
        return "base"
    copy = ours.read(name)
    return "copy" if bool((copy == weights.reader.read(found).to(copy.dtype)).all()) else "base"
