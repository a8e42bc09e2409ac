"""``rora diagnose`` against adaptersentry, which shares no code with it: scale, sigma and norms of every module."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest

from rora_cli.commands.diagnose import DiagnoseConfig, run
from rora_cli.results.spectra import ModuleSpectrum
from tests.oracle import GOLDEN, MADE, REAL, write

ADAPTERS = os.environ.get("RORA_TEST_ADAPTERS")
ORACLE = json.loads(GOLDEN.read_text(encoding="utf-8"))["adapters"]
#: adaptersentry sums squares in float32, which leaves about 1e-7 of the largest one.
TOLERANCE = 4e-6


def compared(path: Path, name: str) -> float:
    """The largest relative difference from the oracle; fails where modules, ranks or scales differ."""
    (diagnosis,) = run(DiagnoseConfig(paths=(str(path),))).adapters
    assert diagnosis.is_complete
    ours = {f"{m.block}.{m.name.rpartition('.')[2]}": m for m in diagnosis.modules}
    assert ours.keys() == ORACLE[name].keys()
    differences = [0.0]
    for key, theirs in ORACLE[name].items():
        module = ours[key]
        assert module.rank == theirs["rank"]
        assert module.scaling == pytest.approx(theirs["scale"], rel=1e-12)
        differences += [abs(value / theirs[what] - 1) for what, value in numbers(module).items() if what in theirs]
        differences += [abs(math.expm1(numbers(module)[what] - theirs[what])) for what in ("log_rms", "log_sigma1")]
    return max(differences)


def numbers(m: ModuleSpectrum) -> dict[str, float]:
    """adaptersentry's features, made of what rora reports."""
    squares = [s * s for s in m.singular_values]
    energy = sum(squares)
    return {
        "log_rms": math.log(m.size_normalised_norm or 0),
        "log_sigma1": math.log(m.sigma_max),
        "top1_e": squares[0] / energy,
        "srank_r": m.stable_rank / m.rank,
        "pr_r": energy**2 / sum(s * s for s in squares) / m.rank,
    }


@pytest.mark.parametrize("name", MADE)
def test_sigma_and_norms_are_those_of_another_program(name: str, tmp_path: Path) -> None:
    assert compared(write(name, tmp_path / name), name) < TOLERANCE


@pytest.mark.skipif(not ADAPTERS, reason="RORA_TEST_ADAPTERS names no directory with distilbert-imdb, gpt2-classifier")
@pytest.mark.parametrize("name", REAL)
def test_sigma_and_norms_of_the_real_adapters_are_those_of_another_program(name: str) -> None:
    assert compared(Path(ADAPTERS or "") / name, name) < TOLERANCE


def test_the_comparison_can_fail(tmp_path: Path) -> None:
    path = write("lora", tmp_path / "lora")
    config = json.loads((path / "adapter_config.json").read_text())
    (path / "adapter_config.json").write_text(json.dumps({**config, "lora_alpha": 12.001}))
    with pytest.raises(AssertionError):
        compared(path, "lora")
