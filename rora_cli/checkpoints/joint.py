"""Joins a suspect adapter and the update that purifies it into one LoRA on their common base."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor

from rora_cli.checkpoints.adapters import Adapter, AdapterModule
from rora_cli.errors import CheckpointError

_PREFIX = "base_model.model."


def require_joinable(suspect: Adapter) -> None:
    """Raise CheckpointError unless every update of ``suspect`` is a low-rank product on a plain weight."""
    for module in suspect.modules:
        low_rank = module.format.lower() in ("lora", "rslora") and not module.needs_base and not module.bias_tensor
        if not low_rank or module.expert is not None or module.parameter != "weight":
            raise CheckpointError(
                f"{module.label} of the suspect adapter is no plain LoRA: an adapter for the original base cannot hold "
                "it and the purifying update"
            )


def join_into(directory: Path, suspect: Adapter) -> None:
    """Add the suspect's updates to the plain LoRA that PEFT saved in ``directory``, so that it loads on the bare base.

    s BA + s' B'A' = [s B, s' B'] [A; A'], padded with zeros to the same rank in all modules. lora_B takes the scalings,
    in float64: the new lora_alpha equals r, so every scaling is 1. Raises CheckpointError as ``require_joinable``.
    """
    from safetensors.torch import load_file, save_file

    require_joinable(suspect)
    weights, settings = directory / "adapter_model.safetensors", directory / "adapter_config.json"
    tensors, config = load_file(weights), json.loads(settings.read_text(encoding="utf-8"))
    root = config["r"] ** 0.5 if config.get("use_rslora") else config["r"]
    own = config["lora_alpha"] / root
    stacks: dict[str, list[tuple[Tensor, Tensor]]] = {}
    for name in [n for n in tensors if n.endswith(".lora_A.weight")]:
        module = name.removeprefix(_PREFIX).removesuffix(".lora_A.weight")
        pair = (own * tensors.pop(_key(module, "B")).double(), tensors.pop(name).double())
        stacks.setdefault(module, []).append(pair)
    for theirs in suspect.modules:
        stacks.setdefault(theirs.name, []).append(_factors(theirs))
    r = max(sum(a.shape[0] for _, a in pairs) for pairs in stacks.values())
    for module, pairs in stacks.items():
        b, a = torch.cat([p[0] for p in pairs], dim=1), torch.cat([p[1] for p in pairs])
        missing = r - a.shape[0]
        tensors[_key(module, "A")] = torch.nn.functional.pad(a, (0, 0, 0, missing)).float().contiguous()
        tensors[_key(module, "B")] = torch.nn.functional.pad(b, (0, missing)).float().contiguous()
    config |= {"r": r, "lora_alpha": r, "use_rslora": False, "rank_pattern": {}, "alpha_pattern": {}}
    config["target_modules"] = sorted(stacks)
    save_file(tensors, weights, metadata={"format": "pt"})
    settings.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _factors(module: AdapterModule) -> tuple[Tensor, Tensor]:
    update = module.update()
    b, a = update.factors()
    return update.scaling * b.double(), a.double()


def _key(module: str, factor: str) -> str:
    return f"{_PREFIX}{module}.lora_{factor}.weight"
