"""``rora check`` on a directory of 141 GB reads headers and JSON, and nothing else."""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path

import pytest

from tests.checkpoints.seventy_billion import build, check
from tests.hostile import corpus

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs sparse files")


def test_a_70b_model_costs_little_more_than_parsing_its_tokenizer(tmp_path: Path) -> None:
    """In processor time and against json's own: a limit in seconds would measure how busy the machine is."""
    large = build(tmp_path / "large")
    corpus.valid_model(tmp_path / "small")
    raw = (large / "tokenizer.json").read_bytes()
    ratios = []
    for _ in range(3):
        start = time.process_time()
        json.loads(raw)
        parsing = time.process_time() - start
        (run, _, of_large), (_, _, of_small) = check(large), check(tmp_path / "small")
        assert run.returncode == 0 and "70,553,706,496 parameters in 723 tensors (141 GB)" in run.stdout
        ratios.append((of_large - of_small) / parsing)
    assert min(ratios) < 5, ratios
    run, *_ = check(large, "-X", "importtime")
    imported = set(re.findall(r"\| +([\w.]+)$", run.stderr, re.MULTILINE))
    assert "rora_cli.checkpoints.preflight" in imported
    assert not imported & {"torch", "numpy", "transformers", "safetensors", "peft", "pyarrow"}
