"""Every row of the corpus against ``rora check`` and the loader: verdict, exit code, and nothing else."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.hostile import corpus
from tests.hostile.sandbox import Outcome, watch

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the sandbox forks and reads /proc")

CHECK_SECONDS, CHECK_BYTES = 10.0, 700 << 20
#: What a terminal or a CI log would obey: control characters but the newline, bidirectional overrides, log commands.
UNSAFE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069]|::(?:error|warning)|##\\[")


@pytest.fixture(scope="session")
def base_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("base") / "model"
    corpus.valid_model(directory)
    return directory


@pytest.fixture(scope="session", autouse=True)
def _imported() -> None:
    """Import once, before the forks: what is watched is the reading, not the start of the libraries."""
    import peft  # noqa: F401
    import torch
    import transformers  # noqa: F401

    import rora_cli.checkpoints.loading
    import rora_cli.cli.app
    import rora_cli.commands.check
    import rora_cli.reports.terminal.check  # noqa: F401

    torch.set_num_threads(1)


def run_cli(*arguments: str) -> tuple[int, str, str]:
    """``rora ARGUMENTS`` in this process: exit code, stdout, stderr. Call it in the sandbox only."""
    from rora_cli.cli.app import run

    sys.argv = ["rora", *arguments]
    sys.stdout, sys.stderr = io.StringIO(), io.StringIO()
    try:
        run()
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    return code, sys.stdout.getvalue(), sys.stderr.getvalue()


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

    def both() -> Any:
        return run_cli("check", str(directory)), run_cli("check", "-q", "--format", "json", str(directory))

    outcome = watch(both, seconds=60, memory=1 << 30)
    assert outcome.error is None
    (code, text, notes), (json_code, document, _) = outcome.value
    assert_harmless(outcome, directory, directory.parent.parent / "blobs")
    findings = json.loads(document)["findings"]
    rules = {f["rule_id"] for f in findings}
    if row.rule is not None:
        assert row.rule in rules
    elif row.exit_code == 0:
        assert not {f["severity"] for f in findings} & {"medium", "high"}
    assert (code, json_code) == (row.exit_code, row.exit_code), text + notes
    for written in (text, notes, document):
        assert_readable(written)
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
