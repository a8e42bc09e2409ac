"""Copies that somebody goes back to: in memory, or in a file without a name, with the same values."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rora_cli import free_memory
from rora_cli.training import kept
from rora_cli.training.kept import Kept


@pytest.mark.parametrize("room", [1 << 40, 0])
def test_what_is_kept_comes_back_bit_by_bit(room: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(kept, "free_memory", lambda device: room)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    weight = torch.randn(3, 5)
    tensors = {
        "a": weight, "tied": weight, "turned": weight.T, "half": torch.randn(7).bfloat16(), "flag": torch.tensor(True),
        "none": torch.zeros(0, 4), "count": torch.tensor(3),
    }  # fmt: skip
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    copies = Kept(tensors)
    for name in ("a", "half", "flag", "count"):
        tensors[name].zero_()
    assert list(copies) == list(before)
    for name, value in before.items():
        assert copies[name].dtype == value.dtype and torch.equal(copies[name], value), name
    copies.put_back(tensors)
    assert all(torch.equal(tensors[name], value) for name, value in before.items())
    assert list(tmp_path.iterdir()) == [], "the file has no name any more"


def test_a_container_s_limit_counts_and_read_files_do_not(tmp_path: Path) -> None:
    assert free_memory._left_in_container(tmp_path) is None
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 100\ninactive_file 200\n")
    (tmp_path / "memory.max").write_text("1000\n")
    assert free_memory._left_in_container(tmp_path) == 500
    (tmp_path / "memory.max").write_text("max\n")
    assert free_memory._left_in_container(tmp_path) is None
    assert free_memory.free_memory() > 0
