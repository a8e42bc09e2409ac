"""Every row of the corpus against every command that reads a checkpoint: verdict, exit code, and nothing else."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.hostile import corpus
from tests.hostile.commands import COMMANDS, REPORTS, arguments, run_cli
from tests.hostile.sandbox import watch
from tests.hostile.test_corpus import assert_harmless, assert_readable

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the sandbox forks and reads /proc")

ADAPTERS = [name for name, row in corpus.ROWS.items() if row.role == "adapter"]
REFUSED = [name for name, row in corpus.ROWS.items() if row.load is not None]
LOADED = [name for name, row in corpus.ROWS.items() if row.load is None]


def run(commands: tuple[str, ...], name: str, tmp_path: Path, base: Path, rows: Path) -> list[tuple[int, str, str]]:
    """The commands on one row, one after the other in one sandbox: exit code, stdout and stderr of each."""
    directory = corpus.make(name, tmp_path)
    out, scratch = tmp_path / "out", tmp_path / "scratch"
    out.mkdir()
    scratch.mkdir()

    def call() -> list[tuple[int, str, str]]:
        import tempfile

        tempfile.tempdir = str(scratch)
        role = corpus.ROWS[name].role
        return [run_cli(*arguments(command, role, directory, base, rows, out)) for command in commands]

    outcome = watch(call, seconds=240, memory=2 << 30)
    allowed = (directory.parent.parent / "blobs", base, rows, out, scratch, Path("/dev/null"))
    assert_harmless(outcome, directory, *allowed)
    assert outcome.error is None
    for _, text, notes in outcome.value:
        assert "unexpected" not in notes, notes
        assert_readable(text)
        assert_readable(notes)
    return outcome.value


@pytest.mark.skipif("diagnose" not in COMMANDS, reason="there is no diagnose here")
@pytest.mark.parametrize("name", ADAPTERS)
def test_diagnose_judges_an_adapter(name: str, tmp_path: Path, base_model: Path, clean_rows: Path) -> None:
    row = corpus.ROWS[name]
    [(code, _, notes)] = run(("diagnose",), name, tmp_path, base_model, clean_rows)
    out = tmp_path / "out"
    if row.exit_code != 0 or row.load is not None:
        assert code in (1, 2, 3), "never a clean bill for what loading refuses"
    if code == 2:
        assert len(notes.strip().splitlines()[-1]) > 20
    elif row.rule:
        assert row.rule in {f["rule_id"] for f in _findings(json.loads((out / "json").read_text()))}
    for file in REPORTS:
        if (out / file).exists():
            written = (out / file).read_text(encoding="utf-8")
            assert_readable(written.replace("\t", " "))
            assert "<script>alert" not in written


@pytest.mark.parametrize("name", REFUSED)
def test_commands_refuse(name: str, tmp_path: Path, base_model: Path, clean_rows: Path) -> None:
    row = corpus.ROWS[name]
    commands = tuple(c for c in COMMANDS if c not in ("diagnose", "rescale"))
    for command, (code, text, notes) in zip(
        commands, run(commands, name, tmp_path, base_model, clean_rows), strict=True
    ):
        assert code in (2, 3), (command, text, notes)
        assert text == "", command
        assert row.load in notes.replace("\n", " "), command
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.skipif("rescale" not in COMMANDS, reason="there is no rescale here")
@pytest.mark.parametrize("name", ADAPTERS)
def test_rescale_stops_at_blocking_findings(name: str, tmp_path: Path, base_model: Path, clean_rows: Path) -> None:
    row = corpus.ROWS[name]
    [(code, text, notes)] = run(("rescale",), name, tmp_path, base_model, clean_rows)
    if code == 0:
        assert row.exit_code == 0 or row.load is None, text
        assert (tmp_path / "out" / "written" / "rora-manifest.json").is_file()
    else:
        assert code in (2, 3), text + notes
        assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.skipif("eval-asr" not in COMMANDS, reason="there is no eval-asr here")
@pytest.mark.parametrize("name", LOADED)
def test_eval_asr_measures_what_is_loadable(name: str, tmp_path: Path, base_model: Path, clean_rows: Path) -> None:
    [(code, text, notes)] = run(("eval-asr",), name, tmp_path, base_model, clean_rows)
    assert code in (0, 1, 2, 3), notes
    assert text or code == 2


def _findings(document: object) -> list[dict[str, object]]:
    """Every object with a rule id, wherever it stands in the report."""
    found, pending = [], [document]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            found += [item] if "rule_id" in item else []
            pending += item.values()
        elif isinstance(item, list):
            pending += item
    return found
