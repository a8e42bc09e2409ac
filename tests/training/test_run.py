"""What the processes of a run share: a work of all, equal weights, and the journal of a run that goes on."""

from __future__ import annotations

import os
from copy import deepcopy
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from rora_cli.errors import OutputError, TrainingError, UsageError
from rora_cli.ranks import Share
from rora_cli.training.run import Run, make_accelerator, mixed_precision
from rora_cli.training.state import RunState
from tests.together import together

ALONE: Any = SimpleNamespace(num_processes=1, is_main_process=True, process_index=0)


def test_a_work_of_all_is_done_once_and_then_known(tmp_path: Path) -> None:
    run = Run(ALONE, RunState(tmp_path / "state", {"run": 1}, resume=False))
    asked: list[int] = []
    for _ in range(2):
        assert run.recall_together("search 1", lambda: asked.append(1) or {"found": []}) == {"found": []}
    assert len(asked) == 1
    resumed = Run(ALONE, RunState(tmp_path / "state", {"run": 1}, resume=True))
    assert resumed.recall_together("search 1", lambda: {"found": ["other"]}) == {"found": []}
    assert Run(ALONE).recall_together("search 1", lambda: {"found": [1]}) == {"found": [1]}, "without a state"


class OneOf(Run):
    """A run in one of several processes, which are threads."""

    def __init__(self, share: Share, state: RunState | None = None) -> None:
        accelerator: Any = SimpleNamespace(
            num_processes=share.processes, process_index=share.rank, is_main_process=not share.rank
        )
        super().__init__(accelerator, state)
        self._gather = share.gather  # type: ignore[method-assign]


def test_all_take_what_the_main_process_has_in_its_journal(tmp_path: Path) -> None:
    for resume in (False, True):

        def search(share: Share, resume: bool = resume) -> dict[str, list[str]]:
            state = RunState(tmp_path / str(share.rank), {"run": 1}, resume=resume)
            return OneOf(share, state).recall_together("search 1", lambda: {"found": ["later" if resume else "mn"]})

        assert together(2, search) == [{"found": ["mn"]}] * 2
    assert not (tmp_path / "1").exists()


def test_a_journal_that_cannot_be_kept_is_an_error_in_every_process(tmp_path: Path) -> None:
    class Full(RunState):
        def recall(self, key: str, compute: Any) -> Any:
            raise OutputError("the disk is full")

    def search(share: Share) -> None:
        state = Full(tmp_path / str(share.rank), {"run": 1}, resume=False)
        with pytest.raises(OutputError, match="full"):
            OneOf(share, state).recall_together("search 1", dict)

    together(2, search)


def test_weights_that_differ_in_one_bit_are_told_from_equal_ones() -> None:
    origin = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)).to(torch.bfloat16)

    def check(share: Share, changed: bool) -> str:
        model = deepcopy(origin)
        if changed and share.rank == 1:
            bits = model[1].bias.data.view(torch.int16)
            bits[2] ^= 1
        try:
            OneOf(share).require_equal(model)
        except TrainingError as error:
            return str(error)
        return ""

    assert together(3, partial(check, changed=False)) == [""] * 3
    said = together(3, partial(check, changed=True))
    assert all("1.bias" in sentence for sentence in said) and "process 1 of this run" in said[0]


def has(monkeypatch: pytest.MonkeyPatch, instruction: str | None) -> None:
    """From now on the processor has this bfloat16 instruction, or none, and no launcher has decided."""
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda name=name: name == instruction, raising=False)


@pytest.mark.parametrize(
    ("instruction", "mixed"), [("_is_avx512_bf16_supported", "bf16"), ("_is_amx_tile_supported", "bf16"), (None, "no")]
)
def test_auto_is_bf16_on_processors_that_compute_in_it(
    monkeypatch: pytest.MonkeyPatch, instruction: str | None, mixed: str
) -> None:
    has(monkeypatch, instruction)
    accelerator = make_accelerator("auto", "cpu")
    assert accelerator.mixed_precision == mixed
    assert Run(accelerator).versions.get("computed in", "no") == mixed
    layer, row = torch.nn.Linear(2, 2), torch.ones(1, 2)
    with torch.inference_mode(), Run(accelerator).rough():
        assert layer(row).dtype == (torch.bfloat16 if mixed == "bf16" else torch.float32)
    assert layer(row).dtype == torch.float32


def test_a_launcher_decides_what_auto_is(monkeypatch: pytest.MonkeyPatch) -> None:
    has(monkeypatch, "_is_amx_tile_supported")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    assert mixed_precision("auto", on_cpu=True) == "no"
    assert mixed_precision("bf16", on_cpu=True) == "bf16"
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    with pytest.raises(UsageError, match="needs a GPU"):
        make_accelerator("auto", "cpu")


def test_few_bfloat16_kernels_are_kept_unless_the_user_says_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", raising=False)
    monkeypatch.setenv("LRU_CACHE_CAPACITY", "500")
    make_accelerator("fp32", "cpu")
    assert "ONEDNN_PRIMITIVE_CACHE_CAPACITY" not in os.environ
    make_accelerator("bf16", "cpu")
    assert os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == "64" and os.environ["LRU_CACHE_CAPACITY"] == "500"
