"""Memory that runs out is one sentence, with the options of the command that ran."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rora_cli.commands.demo import DemoConfig
from rora_cli.commands.evaluate import EvaluateConfig
from rora_cli.commands.hunt import HuntConfig
from rora_cli.commands.memory import advice, says_what_fits
from rora_cli.commands.poison import PoisonConfig
from rora_cli.defences.config import PurifyConfig
from rora_cli.errors import CheckpointError, NoMemoryError, ProcessDied, is_out_of_memory

TOO_MUCH = 1 << 55


def _torch_asks() -> Any:
    return torch.empty(TOO_MUCH, dtype=torch.uint8)


def _numpy_asks() -> Any:
    return np.empty(TOO_MUCH, dtype=np.uint8)


@pytest.mark.parametrize("ask", [_torch_asks, _numpy_asks, lambda: bytearray(1 << 62)])
def test_what_the_libraries_raise_is_recognised(ask: Any) -> None:
    config = PurifyConfig(model="m", clean="c", recipe="lora")
    with pytest.raises(NoMemoryError, match=r"memory ran out.*--micro-batch-size 16") as caught:
        says_what_fits(lambda _config: ask())(config)
    assert caught.value.exit_code == 2


def test_what_the_gpus_and_the_system_say_is_recognised() -> None:
    said = "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 8 GiB"
    assert is_out_of_memory(torch.OutOfMemoryError(said))
    assert is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"))
    assert is_out_of_memory(OSError(errno.ENOMEM, "Cannot allocate memory"))
    for other in (
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        CheckpointError("out of range"),
        OSError(),
    ):
        assert not is_out_of_memory(other)

    @says_what_fits
    def run(_config: Any) -> None:
        raise torch.OutOfMemoryError(said)

    with pytest.raises(NoMemoryError, match=r"ran out \(2.50 GiB were asked for\); try .* or --device cpu"):
        run(HuntConfig(model="m", clean="c"))


@pytest.mark.parametrize(
    ("config", "expected", "absent"),
    [
        (
            PurifyConfig(model="m", clean="c"),
            ("--micro-batch-size 16", "--gradient-checkpointing", "--precision bf16", "--max-length"),
            ("--batch-size 16", "--max-rows"),
        ),
        (
            PurifyConfig(
                model="m", clean="c", micro_batch_size=1, precision="bf16", gradient_checkpointing=True, max_length=64
            ),
            ("--max-length 32",),
            ("--micro-batch-size", "--precision", "--gradient-checkpointing"),
        ),
        (HuntConfig(model="m", clean="c"), ("--max-length 64", "--max-rows"), ("--micro-batch-size", "--precision")),
        (
            EvaluateConfig(model="m", data="d", target_label="1", triggers=("x",)),
            ("--max-length", "--max-rows"),
            ("--batch-size",),
        ),
        (
            PoisonConfig(model="m", data="d", output="o", target_label="1"),
            ("--batch-size 16", "--max-length 64"),
            ("--micro-batch-size",),
        ),
        (DemoConfig(), ("end other programs",), ("--",)),
    ],
)
def test_the_advice_has_only_options_that_the_command_has(
    config: Any, expected: tuple[str, ...], absent: tuple[str, ...]
) -> None:
    said = advice(config)
    assert all(option in said for option in expected) and not any(option in said for option in absent), said


def test_a_process_that_the_system_killed_may_have_asked_for_too_much() -> None:
    @dataclass(frozen=True)
    class Config:
        max_length: int = 100

    def died(by_signal: int) -> Any:
        def run(_config: Any) -> None:
            raise ProcessDied("process 1 of 2 was ended", by_signal=by_signal)

        return says_what_fits(run)

    with pytest.raises(NoMemoryError, match=r"process 1 of 2 .* memory runs out; if it did, try --max-length 50"):
        died(9)(Config())
    with pytest.raises(ProcessDied):
        died(11)(Config())


def test_an_outer_command_speaks_of_its_own_options() -> None:
    inner = says_what_fits(lambda config: _torch_asks())
    outer = says_what_fits(lambda config: inner(PurifyConfig(model="m", clean="c")))
    with pytest.raises(NoMemoryError) as caught:
        outer(DemoConfig())
    assert str(caught.value).count("memory ran out") == 1 and "--" not in str(caught.value)


def test_a_checkpoint_is_not_accused_of_it(tiny_classifier: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import PreTrainedModel

    from rora_cli.checkpoints.loading import load_classifier

    monkeypatch.setattr(PreTrainedModel, "from_pretrained", classmethod(lambda *_, **__: _torch_asks()))
    with pytest.raises(RuntimeError) as caught:
        load_classifier(tiny_classifier)
    assert is_out_of_memory(caught.value)
