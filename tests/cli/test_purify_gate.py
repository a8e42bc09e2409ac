"""What ends ``purify`` with another code than 0, and what is refused before torch is imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.cli.apps import alone


@pytest.mark.parametrize(
    ("verdict", "codes"),
    [("pass", (0, 0, 0)), ("fail", (1, 1, 0)), ("inconclusive", (3, 0, 0)), ("not assessed", (0, 0, 0))],
)
def test_fail_on_decides_which_verdicts_fail(
    verdict: str, codes: tuple[int, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from rora_cli.cli import delivery
    from rora_cli.commands import purify

    monkeypatch.setattr(purify, "run", lambda config, progress: SimpleNamespace(verdict=verdict))
    monkeypatch.setattr(delivery, "deliver", lambda *_: None)
    for asked, code in zip(("inconclusive", "fail", "none"), codes, strict=True):
        done = CliRunner().invoke(alone("purify"), [str(tmp_path), "--clean", "bundled", "--fail-on", asked])
        assert done.exit_code == code, done.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["purify", "{model}", "--clean", "nowhere.csv"], "nowhere.csv does not exist"),
        (["purify", "{model}", "--clean", "bundled", "--adapter", "no/such/adapter"], "no/such/adapter does not exist"),
        (["hunt", "{model}", "--clean", "./nowhere"], "./nowhere does not exist"),
        (["hunt", "no/such/model", "--clean", "bundled"], "no/such/model does not exist"),
        (
            ["eval-asr", "{model}", "--data", "x.parquet", "--trigger", "t", "--target-label", "1"],
            "x.parquet does not exist",
        ),
    ],
)
def test_a_path_that_is_not_there_is_refused_before_torch_is_imported(
    arguments: list[str], said: str, tmp_path: Path
) -> None:
    script = (
        "import sys; from rora_cli.cli.app import run\n"
        "try: run()\n"
        "finally: assert 'torch' not in sys.modules and 'pyarrow' not in sys.modules\n"
    )
    command: list[Any] = [sys.executable, "-c", script, *(a.format(model=tmp_path) for a in arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr, done.stderr
