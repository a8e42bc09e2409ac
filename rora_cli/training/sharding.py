"""Divides a model among the processes by PyTorch's FSDP2, as accelerate's settings say.

accelerate itself would shard every model of a process, a reference too, and none on a CPU. So rora reads its settings
and calls ``fully_shard`` on the suspect alone: block by block, each gathered whole for its turn and let go again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rora_cli.errors import UsageError
from rora_cli.layout import block_numbers
from rora_cli.sharded import whole
from rora_cli.training.state import trainable

#: The variable with which accelerate's launcher, and its Accelerator, say that models are sharded.
ASKED = "ACCELERATE_USE_FSDP"


@dataclass(frozen=True)
class Sharding:
    """How a model is divided.

    Attributes:
        units: classes of the modules that are gathered at a time; none means the transformer blocks.
        reshard: whether a unit is let go after its forward pass, and gathered again for the backward pass.
        checkpointing: whether activations are computed anew in the backward pass.
    """

    units: tuple[str, ...] = ()
    reshard: bool = True
    checkpointing: bool = False


def read_sharding() -> Sharding:
    """What accelerate's settings in the environment (``FSDP_...``) ask for; without any, accelerate's defaults.

    The environment is changed so that nothing else shards: neither accelerate, nor transformers, which would leave the
    weights of all processes but the first unread.

    Raises:
        UsageError: the settings ask for something that rora does not do.
    """
    from accelerate import FullyShardedDataParallelPlugin

    try:
        plugin = FullyShardedDataParallelPlugin(fsdp_version=2)
    except (ValueError, RuntimeError) as error:
        raise UsageError(f"accelerate refuses its own FSDP settings: {str(error).splitlines()[0]}") from error
    if os.environ.get("FSDP_OFFLOAD_PARAMS", "").lower() in ("1", "true"):
        raise UsageError(
            "accelerate's settings ask for fsdp_offload_params, and rora keeps every part of a sharded model on its "
            "device; set it to false, and use more processes"
        )
    os.environ.pop(ASKED, None)
    os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"
    names = plugin.transformer_cls_names_to_wrap or ()
    return Sharding(tuple(names), bool(plugin.reshard_after_forward), bool(plugin.activation_checkpointing))


def shard(model: nn.Module, sharding: Sharding, device: torch.device, precision: str) -> None:
    """Divide the parameters of ``model`` among all processes, in place; each keeps its part on ``device``.

    ``precision`` is accelerate's: ``no`` or ``bf16``. In ``bf16`` everything is computed in bfloat16. Parameters that
    are trained, and the sums of their gradients, stay float32, since bfloat16 would round most steps of the optimizer
    away; frozen parameters are kept in bfloat16, which is what they are computed in anyway.

    Raises:
        UsageError: the settings name a class of modules that the model does not have.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    units = list(_units(model, sharding))
    policy = MixedPrecisionPolicy()
    if precision == "bf16":
        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
        for parameter in model.parameters():
            if not parameter.requires_grad and parameter.is_floating_point():
                parameter.data = parameter.data.to(torch.bfloat16)
    options: dict[str, Any] = {
        "mesh": init_device_mesh(device.type, (torch.distributed.get_world_size(),)),
        "mp_policy": policy,
    }
    for unit in units:
        fully_shard(unit, reshard_after_forward=sharding.reshard, **options)
    # The root, which holds what is in no unit, is let go too: what stays gathered hides the parts that are written to.
    fully_shard(model, reshard_after_forward=True, **options)
    if device.type == "cpu":
        # Asked for the mean of gradients, gloo gives their sum in some versions of torch (pytorch/pytorch#162338).
        # Asked for the sum, every version gives it, and FSDP divides.
        for module in [*units, model]:
            module.set_force_sum_reduction_for_comms(True)
    model.to(device)  # buffers, which are not divided


def _units(model: nn.Module, sharding: Sharding) -> Iterator[nn.Module]:
    """The modules that are gathered one at a time, none within another."""
    names = [name for name, _ in model.named_modules()]
    known = {type(module).__name__ for module in model.modules()}
    if missing := sorted(set(sharding.units) - known):
        raise UsageError(
            f"fsdp_transformer_layer_cls_to_wrap names {missing[0]}, which a {type(model).__name__} does not have; "
            "leave it out, and each transformer block is gathered at a time"
        )
    inside: list[str] = []
    blocks = block_numbers(names)
    for name, module in model.named_modules():
        chosen = type(module).__name__ in sharding.units if sharding.units else name in blocks
        if chosen and not any(name.startswith(f"{outer}.") for outer in inside):
            inside.append(name)
            yield module


def gather_trained(model: nn.Module, *, keep: bool) -> dict[str, Tensor]:
    """The trained parameters [each its whole shape] of a sharded model by name; every process calls this.

    They lie in the machine's memory of who wants to ``keep`` them; the others get none.
    """
    gathered = {}
    for name, parameter in trainable(model).items():
        tensor = whole(parameter.detach())
        if keep:
            gathered[name] = tensor.cpu()
    return gathered
