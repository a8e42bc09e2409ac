"""What a config of accelerate's, or its launcher, asks for: used, refused or said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rora_cli.cli import launching
from rora_cli.cli.launching import Launch, read_launch
from rora_cli.errors import UsageError
from rora_cli.ranks import is_main, leave_group, rank, world_size

#: As `accelerate config` writes it for two processes on a CPU.
MULTI_CPU = """
compute_environment: LOCAL_MACHINE
debug: false
distributed_type: MULTI_CPU
downcast_bf16: 'no'
enable_cpu_affinity: false
machine_rank: 0
main_training_function: main
mixed_precision: 'no'
num_machines: 1
num_processes: 2
rdzv_backend: static
same_network: true
tpu_env: []
tpu_use_cluster: false
tpu_use_sudo: false
use_cpu: true
"""


def _read(place: Path, text: str, name: str = "accelerate.yaml") -> Launch:
    (place / name).write_text(text)
    return read_launch(place / name)


def test_what_a_config_asks_for_is_used(tmp_path: Path) -> None:
    assert _read(tmp_path, MULTI_CPU) == Launch(2, "fp32", "cpu")
    gpus = {"distributed_type": "MULTI_GPU", "num_processes": 4, "gpu_ids": "0,2", "mixed_precision": "bf16"}
    assert _read(tmp_path, json.dumps(gpus), "a.json") == Launch(4, "bf16", "cuda", "0,2")
    assert _read(tmp_path, "distributed_type: 'NO'\nmixed_precision: no") == Launch(1, "fp32")
    assert _read(tmp_path, "distributed_type: 'NO'\nfp16: true\ngpu_ids: all").precision == "fp16"
    assert _read(tmp_path, "mixed_precision: null") == Launch(1)


def test_what_is_not_used_is_named(tmp_path: Path) -> None:
    launch = _read(tmp_path, MULTI_CPU + "dynamo_config: {dynamo_backend: INDUCTOR}\nenable_cpu_affinity: true\n")
    assert set(launch.unused) == {"dynamo_config", "enable_cpu_affinity"}
    assert "num_processes" in _read(tmp_path, "distributed_type: 'NO'\nnum_processes: 3").unused[0]


def test_a_config_of_fsdp_divides_the_model(tmp_path: Path) -> None:
    fsdp = {
        "fsdp_version": 2, "fsdp_reshard_after_forward": True, "fsdp_auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
        "fsdp_transformer_layer_cls_to_wrap": "BertLayer", "fsdp_state_dict_type": "SHARDED_STATE_DICT",
        "fsdp_cpu_ram_efficient_loading": True, "fsdp_sync_module_states": True,
    }  # fmt: skip
    settings = {"distributed_type": "FSDP", "num_processes": 2, "use_cpu": True, "fsdp_config": fsdp}
    launch = _read(tmp_path, json.dumps(settings))
    assert (launch.shard, launch.processes, launch.device) == (True, 2, "cpu")
    assert launch.environment == {
        "FSDP_VERSION": "2", "FSDP_RESHARD_AFTER_FORWARD": "True", "FSDP_TRANSFORMER_CLS_TO_WRAP": "BertLayer",
        "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    }  # fmt: skip
    assert launch.unused == ("fsdp_sync_module_states",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("distributed_type: FSDP\nfsdp_config: {fsdp_version: 1}", "FSDP in version 1, and rora works by data"),
        ("distributed_type: FSDP", "distributed_type FSDP with fsdp_version 2, or --shard"),
        ("distributed_type: DEEPSPEED\nnum_processes: 2", "DEEPSPEED, and rora works by data"),
        ("distributed_type: MEGATRON_LM", "MULTI_GPU or MULTI_CPU, or --num-processes"),
        ("distributed_type: TP\ntp_config: {tp_size: 2}", "TP, and rora"),
        ("distributed_type: XLA", "XLA, and rora"),
        ("distributed_type: MULTI_GPU\nparallelism_config: {parallelism_config_tp_size: 2}", "parallelism_config"),
        ("distributed_type: MULTI_GPU\nnum_machines: 2\nnum_processes: 4", "accelerate launch --config_file"),
        ("compute_environment: AMAZON_SAGEMAKER", "more than this machine"),
        ("distributed_type: MULTI_CPU\nnum_processes: -1", "num_processes: -1"),
        ("distributed_type: MULTI_CPU\nnum_processes: two", "num_processes: 'two'"),
        ("distributed_type: 'NO'\nmixed_precision: fp8", "mixed_precision fp8; use bf16, fp16 or no"),
        ("- 1\n- 2", "is no config of accelerate's"),
        ("", "is no config of accelerate's"),
        ("a: [", "cannot be read"),
        ("!!python/object/apply:os.system ['true']", "cannot be read"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        _read(tmp_path, text)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_a_config_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere.yaml does not exist; `accelerate config` writes one"):
        read_launch(tmp_path / "nowhere.yaml")


# ---- in purify's options ----


class Heard:
    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, message: str) -> None:
        self.said.append(message)

    warn = note


def _settings(arguments: list[str], file: Path | None) -> tuple[dict[str, Any], list[str]]:
    from rora_cli.cli import purify
    from rora_cli.defences.config import PurifyConfig

    heard, names = Heard(), [name.lstrip("-").replace("-", "_") for name in arguments[::2]]
    given: dict[str, Any] = {n: int(v) if v.isdigit() else v for n, v in zip(names, arguments[1::2], strict=True)}
    config = PurifyConfig(model="model", clean="data", **given)
    return purify._launch_settings(config, file, frozenset(given), heard), heard.said  # type: ignore[arg-type]


def test_options_of_the_command_line_win_and_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)
    file = tmp_path / "a.yaml"
    file.write_text(MULTI_CPU.replace("mixed_precision: 'no'", "mixed_precision: bf16"))
    assert _settings([], file) == ({"num_processes": 2, "precision": "bf16", "device": "cpu"}, [])
    settings, said = _settings(["--precision", "fp32", "--num-processes", "3"], file)
    assert settings == {"device": "cpu"}
    assert said == [
        "--num-processes 3 is used, where accelerate's settings ask for 2",
        "--precision fp32 is used, where accelerate's settings ask for bf16",
    ]
    assert _settings([], None) == ({}, [])


def test_what_accelerates_launcher_asks_for_is_used_or_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    assert _settings([], None) == ({"precision": "bf16"}, [])
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp8")
    with pytest.raises(UsageError, match="fp8"):
        _settings([], None)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    monkeypatch.setenv("MASTER_PORT", "29500")
    _, said = _settings([], None)
    assert len(said) == 1 and "one process" in said[0] and "--num-processes" in said[0]
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert launching.starts_one_for_several() is False


# ---- ranks ----


def test_ranks_are_read_from_whoever_started_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert (rank(), world_size(), is_main()) == (0, 1, True)
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "1")
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "4")
    assert (rank(), world_size(), is_main()) == (1, 4, False)
    monkeypatch.setenv("RANK", "nonsense")
    assert rank() == 1
    leave_group()
    assert (rank(), world_size()) == (0, 1)
