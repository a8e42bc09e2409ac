"""Every row of the corpus against ``rora check`` and the loader: verdict, exit code, and nothing else."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.hostile import corpus
from tests.hostile.commands import REPORTS, UNSAFE, run_cli
from tests.hostile.sandbox import Outcome, watch

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the sandbox forks and reads /proc")

CHECK_SECONDS, CHECK_BYTES = 10.0, 700 << 20


def assert_harmless(outcome: Outcome, directory: Path, *allowed: Path) -> None:
    assert not outcome.signal, f"killed by signal {outcome.signal}: time or memory"
    assert not outcome.forbidden
    assert outcome.opened_outside(directory, *allowed) == []
    assert not (directory.parent / "canary").exists()


def assert_readable(text: str) -> None:
    found = UNSAFE.search(text)
    assert found is None, f"unescaped {found[0]!r} in {text[max(0, found.start() - 80) : found.end() + 20]!r}"
    assert "Traceback" not in text


@pytest.mark.parametrize("name", corpus.ROWS)
def test_check(name: str, tmp_path: Path) -> None:
    row = corpus.ROWS[name]
    directory = corpus.make(name, tmp_path)

    out = tmp_path / "out"
    out.mkdir()
    reports = [argument for name in REPORTS for argument in ("--format", f"{name}={out / name}")]
    outcome = watch(lambda: run_cli("check", str(directory), "--format", "text", *reports), memory=1 << 30)
    assert outcome.error is None
    code, text, notes = outcome.value
    assert_harmless(outcome, directory, directory.parent.parent / "blobs", out)
    documents = {name: (out / name).read_text(encoding="utf-8") for name in REPORTS}
    findings = json.loads(documents["json"])["findings"]
    rules = {f["rule_id"] for f in findings}
    if row.rule is not None:
        assert row.rule in rules
    elif row.exit_code == 0:
        assert not {f["severity"] for f in findings} & {"medium", "high"}
    assert code == row.exit_code, text + notes
    for written in (text, notes, *documents.values()):
        assert_readable(written.replace("\t", " "))
    assert "<script" not in documents["html"]
    assert outcome.peak_bytes < CHECK_BYTES
    assert outcome.seconds < CHECK_SECONDS


@pytest.mark.parametrize("name", corpus.ROWS)
def test_load(name: str, tmp_path: Path, base_model: Path) -> None:
    row = corpus.ROWS[name]
    directory = corpus.make(name, tmp_path)
    scratch = tmp_path / "scratch"
    scratch.mkdir()

    def load() -> Any:
        import tempfile

        from rora_cli.checkpoints.loading import load_classifier

        tempfile.tempdir = str(scratch)
        if row.role == "model":
            loaded = load_classifier(directory)
        else:
            loaded = load_classifier(base_model, adapter=directory)
        inputs = loaded.tokenizer(["the movie was good", "bad"], padding=True, return_tensors="pt")
        return loaded.label_names, loaded.model(**inputs).logits.shape, [n for n, _ in loaded.model.named_parameters()]

    outcome = watch(load, seconds=60, memory=2 << 30)
    assert_harmless(outcome, directory, directory.parent.parent / "blobs", base_model, scratch, Path("/dev/null"))
    if row.load is None:
        assert outcome.error is None
        labels, shape, _ = outcome.value
        assert shape == (2, len(labels))
    else:
        assert outcome.error is not None, "loading this must be refused"
        kind, message = outcome.error
        assert kind == "CheckpointError", message
        assert row.load in message
        assert_readable(message)
        assert "\n" not in message
