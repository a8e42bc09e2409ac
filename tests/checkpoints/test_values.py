"""What ``check --values`` reads, beside torch's own view of the same bits."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch
from safetensors.torch import save_file

from rora_cli.checkpoints import values
from rora_cli.checkpoints.preflight import inspect
from rora_cli.commands import check
from rora_cli.errors import ExitCode
from tests.hostile import corpus
from tests.versions import is_older

TYPES = {
    torch.float64: 8, torch.float32: 4, torch.float16: 2, torch.bfloat16: 2, torch.complex64: 4, torch.float8_e5m2: 1,
    torch.float8_e4m3fn: 1, torch.float8_e5m2fnuz: 1, torch.float8_e4m3fnuz: 1, torch.int64: 8,
}  # fmt: skip
WORDS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def checked(path: Path, **options: bool) -> tuple[check.CheckResult, ExitCode]:
    result = check.run(check.CheckConfig(paths=(str(path),), **options))
    return result, check.exit_code(result, "medium")


def sound(directory: Path) -> Path:
    corpus.valid_model(directory)
    return directory


def model(directory: Path, tensors: dict[str, torch.Tensor]) -> Path:
    """A harmless checkpoint with further tensors in its weights."""
    checkpoint = sound(directory)
    save_file(tensors, checkpoint / "model.safetensors")
    return checkpoint


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_every_type_is_judged_as_torch_judges_it(tmp_path: Path, dtype: torch.dtype) -> None:
    bits = torch.arange(-(1 << 15), 1 << 15).to(WORDS[TYPES[dtype]])
    shift = 8 * TYPES[dtype] - 16
    every = ((bits << shift) if shift > 0 else bits).view(dtype)  # all upper halves of the word, or all words
    path = tmp_path / "all.safetensors"
    if is_older("safetensors") and dtype not in safetensors.torch._SIZE:
        pytest.skip("this safetensors is older than the tested one and does not save the type")
    save_file({"all": every}, path)
    words = torch.view_as_real(every) if dtype.is_complex else every
    expected = int((~torch.isfinite(words.to(torch.float64))).sum())
    inspection = inspect(path, role="auto", any_file=True)
    with values.TensorReader(inspection) as reader:
        counted = values._count_not_finite(reader, inspection.tensors["all"], lambda size: None)
    assert counted == expected
    assert bool(expected) == (dtype != torch.int64)


def test_a_nan_is_found_wherever_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "CHUNK", 64)
    good = torch.ones(50)
    for place in (0, 15, 16, 49):
        bad = good.clone()
        bad[place] = float("inf") if place % 2 else float("nan")
        checkpoint = model(tmp_path / str(place), {"a": good, "b": bad, "c": bad.clone()})
        assert "tensor/not-finite" not in {f.rule_id for f in checked(checkpoint)[0].findings}
        result, code = checked(checkpoint, values=True)
        (found,) = [f for f in result.findings if f.rule_id == "tensor/not-finite"]
        assert (found.evidence["tensors"], code) == (["b", "c"], ExitCode.FINDINGS)


def test_finite_values_are_no_finding_and_the_report_says_what_was_read(tmp_path: Path) -> None:
    checkpoint = sound(tmp_path / "model")
    (before, after) = checked(checkpoint)[0], checked(checkpoint, values=True)[0]
    assert before.findings == after.findings
    assert [c.values_read for r in (before, after) for c in r.checkpoints] == [False, True]


def test_a_file_that_shrinks_meanwhile_is_not_called_clean(tmp_path: Path) -> None:
    checkpoint = model(tmp_path / "model", {"a": torch.ones(5000)})
    inspection = inspect(checkpoint)
    with (checkpoint / "model.safetensors").open("r+b") as file:
        file.truncate(10_000)
    (found,) = values.value_findings(inspection)
    assert (found.rule_id, found.not_analysed) == ("tensor/values-unread", True)
