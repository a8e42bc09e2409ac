"""``--accelerate-config``, and what accelerate's own launcher asks for: used, refused, or said to be left out."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rora_cli.errors import UsageError

_OPTION = "--accelerate-config"
#: accelerate's ways to distribute that rora trains by -> the device each stands for.
_SUPPORTED = {"NO": None, "MULTI_CPU": "cpu", "MULTI_GPU": "cuda", "FSDP": None}
#: Settings of FSDP that rora heeds -> the variable by which accelerate's launcher hands each on.
_FSDP = {
    "fsdp_version": "FSDP_VERSION",
    "fsdp_reshard_after_forward": "FSDP_RESHARD_AFTER_FORWARD",
    "fsdp_offload_params": "FSDP_OFFLOAD_PARAMS",
    "fsdp_auto_wrap_policy": "FSDP_AUTO_WRAP_POLICY",
    "fsdp_transformer_layer_cls_to_wrap": "FSDP_TRANSFORMER_CLS_TO_WRAP",
    "fsdp_activation_checkpointing": "FSDP_ACTIVATION_CHECKPOINTING",
}
_PRECISIONS = {"no": "fp32", "bf16": "bf16", "fp16": "fp16"}
_USED = (
    *("compute_environment", "distributed_type", "fsdp_config", "num_processes", "mixed_precision", "fp16", "use_cpu"),
    "gpu_ids",
)
#: Settings that say nothing to a run on one machine, whatever their value.
_MEANINGLESS = (
    *("num_machines", "machine_rank", "main_process_ip", "main_process_port", "rdzv_backend", "same_network"),
    "main_training_function",
)


@dataclass(frozen=True)
class Launch:
    """What a config of accelerate asks for; None where it leaves the choice.

    ``environment`` has the settings of a model that is sharded, under accelerate's variables, and ``unused`` the names
    of settings that say nothing to rora.
    """

    processes: int | None = None
    precision: str | None = None
    device: str | None = None
    gpu_ids: str | None = None
    shard: bool | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    unused: tuple[str, ...] = ()


def read_launch(path: Path) -> Launch:
    """Read a config that `accelerate config` wrote. Raises UsageError for what rora cannot do, before any work."""
    settings = _mapping(path)
    who = f"{_OPTION} {path}"
    _require_one_machine(settings, who)
    kind = str(settings.get("distributed_type", "NO")).upper()
    if kind not in _SUPPORTED or settings.get("parallelism_config"):
        from rora_cli.training.peers import unsupported

        raise UsageError(unsupported(who, kind if kind not in _SUPPORTED else "parallelism_config"))
    environment, unused = _fsdp(settings, who) if kind == "FSDP" else ({}, [])
    unused += [name for name, value in settings.items() if name not in (*_USED, *_MEANINGLESS) and _is_set(value)]
    processes = settings.get("num_processes", 1)
    if isinstance(processes, bool) or not isinstance(processes, int) or processes < 1:
        raise UsageError(f"{who} has num_processes: {processes!r}; it is a number of processes, at least 1")
    if kind == "NO" and processes > 1:
        unused.append("num_processes (distributed_type NO is one process)")
        processes = 1
    gpu_ids = settings.get("gpu_ids")
    return Launch(
        processes=processes,
        precision=_precision(settings, who),
        device="cpu" if settings.get("use_cpu") is True else _SUPPORTED[kind],
        gpu_ids=None if gpu_ids in (None, "all") else str(gpu_ids),
        shard=True if kind == "FSDP" else None,
        environment=environment,
        unused=tuple(unused),
    )


def _fsdp(settings: Mapping[str, Any], who: str) -> tuple[dict[str, str], list[str]]:
    """FSDP's settings as accelerate's launcher would hand them on, and the names of those that rora does not use.

    What accelerate always writes, and what only its own savers and loaders read, is not named.
    """
    from rora_cli.training.peers import unsupported

    given = settings.get("fsdp_config") or {}
    if not isinstance(given, dict) or str(given.get("fsdp_version", 1)) != "2":
        raise UsageError(unsupported(who, "FSDP in version 1"))
    environment = {variable: str(given[name]) for name, variable in _FSDP.items() if given.get(name) is not None}
    silent = {*_FSDP, "fsdp_state_dict_type", "fsdp_cpu_ram_efficient_loading"}
    return environment, [name for name, value in given.items() if name not in silent and _is_set(value)]


def launcher_precision() -> str | None:
    """The precision that `accelerate launch` was asked for; None where it did not start this process."""
    asked = os.environ.get("ACCELERATE_MIXED_PRECISION")
    return _precision({"mixed_precision": asked}, "accelerate's launcher") if asked else None


def starts_one_for_several() -> bool:
    """Whether `accelerate launch` was told of several processes and started one, as it does on a CPU without MPI."""
    from rora_cli.ranks import world_size

    return "ACCELERATE_MIXED_PRECISION" in os.environ and "MASTER_PORT" in os.environ and world_size() == 1


def _mapping(path: Path) -> Mapping[str, Any]:
    import yaml

    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))  # JSON, the other format, is YAML as well
    except FileNotFoundError:
        raise UsageError(f"{_OPTION} {path} does not exist; `accelerate config` writes one") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{_OPTION} {path} cannot be read: {str(error).splitlines()[0]}") from error
    if not isinstance(settings, dict) or not all(isinstance(name, str) for name in settings):
        raise UsageError(f"{_OPTION} {path} is no config of accelerate's; `accelerate config` writes one")
    return settings


def _require_one_machine(settings: Mapping[str, Any], who: str) -> None:
    machines = settings.get("num_machines") or 1
    if machines != 1 or settings.get("compute_environment", "LOCAL_MACHINE") != "LOCAL_MACHINE":
        raise UsageError(
            f"{who} is for more than this machine; use `accelerate launch --config_file FILE -m rora_cli purify ...` "
            "on each of them"
        )


def _precision(settings: Mapping[str, Any], who: str) -> str | None:
    asked = settings.get("mixed_precision")
    if asked is None:
        return "fp16" if settings.get("fp16") is True else None
    # YAML reads a bare `no` as false.
    name = "no" if asked is False else str(asked).lower()
    if name not in _PRECISIONS:
        raise UsageError(f"{who} has mixed_precision {name}; use bf16, fp16 or no")
    return _PRECISIONS[name]


def _is_set(value: Any) -> bool:
    return bool(value) and str(value).lower() not in ("no", "none")
