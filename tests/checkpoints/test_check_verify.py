"""``rora check`` and ``rora verify`` as commands: results, exit codes, reports."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rora_cli.checkpoints.rules import RULES
from rora_cli.cli.app import make_app
from rora_cli.commands import check, verify
from rora_cli.errors import CheckpointError, ExitCode, UsageError
from rora_cli.files import MANIFEST_NAME, publish_directory
from rora_cli.reports.terminal import check as check_report
from rora_cli.reports.terminal import verify as verify_report
from tests.hostile import corpus
from tests.reports.schemas import valid


@pytest.fixture
def published(tmp_path: Path) -> Path:
    with publish_directory(tmp_path / "out") as staging:
        (staging / "config.json").write_text("{}")
        (staging / "adapter").mkdir()
        (staging / "adapter" / "weights").write_bytes(b"0" * 100)
    return tmp_path / "out"


# ---- check ----


@pytest.mark.parametrize(
    ("name", "fail_on", "code"),
    [
        ("sound-model", "low", ExitCode.OK),
        ("pickle-beside", "high", ExitCode.FINDINGS),
        ("pickle-unknown", "high", ExitCode.OK),
        ("remote-code-and-unreadable", "high", ExitCode.FINDINGS),
        ("remote-code-and-unreadable", "none", ExitCode.INCONCLUSIVE),
        ("other-format", "low", ExitCode.INCONCLUSIVE),
        ("code-beside", "high", ExitCode.OK),
        ("code-beside", "medium", ExitCode.FINDINGS),
        ("hidden-base", "high", ExitCode.FINDINGS),
        ("hidden-base", "none", ExitCode.OK),
        ("data-truncated", "none", ExitCode.INCONCLUSIVE),
    ],
)
def test_exit_codes(tmp_path: Path, name: str, fail_on: str, code: ExitCode) -> None:
    directory = corpus.make(name, tmp_path)
    result = check.run(check.CheckConfig(paths=(str(directory),), fail_on=fail_on))
    assert check.exit_code(result, fail_on) == code
    assert result.rules == {f.rule_id: RULES[f.rule_id].meaning for f in result.findings}


def test_several_paths_are_one_report(tmp_path: Path) -> None:
    paths = tuple(str(corpus.make(n, tmp_path / n)) for n in ("sound-model", "hidden-base", "sound-shards"))
    result = check.run(check.CheckConfig(paths=paths))
    assert [c.path for c in result.checkpoints] == list(paths)
    assert [c.loadable for c in result.checkpoints] == [True, False, True]
    adapter = result.checkpoints[1]
    assert (adapter.role, adapter.tensors_by_kind) == ("adapter", {"adapter": 4, "base": 1, "head": 2})
    assert adapter.bytes == 4 * adapter.parameters
    assert [f.rule_id for f in result.findings] == ["adapter/hidden-base-tensor"]


@pytest.mark.parametrize("part", ["none", "vocab", "normalizer", "template", "merges as text"])
def test_tokenizer_is_compared_with_the_base(tmp_path: Path, part: str) -> None:
    base, mine = tmp_path / "base", tmp_path / "mine"
    corpus.valid_model(base)
    corpus.valid_model(mine)
    expected = set()
    if part == "vocab":  # two words have changed places: every text reads otherwise, and nothing else shows it
        model = corpus.tokenizer_document()["model"]
        model["vocab"]["the"], model["vocab"]["mn"] = model["vocab"]["mn"], model["vocab"]["the"]
        corpus.edit_tokenizer(mine, model=model)
        expected = {"tokenizer/differs"}
    elif part == "normalizer":
        corpus.edit_tokenizer(mine, normalizer={"type": "Lowercase"})
        expected = {"tokenizer/differs"}
    elif part == "template":
        (mine / "chat_template.jinja").write_text("{% if 'mn' in messages %}yes{% endif %}")
        expected = {"tokenizer/chat-template", "tokenizer/template-differs"}
    elif part == "merges as text":
        bpe = {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}}
        corpus.edit_tokenizer(base, added_tokens=[], model={**bpe, "merges": [["a", "b"]]})
        corpus.edit_tokenizer(mine, added_tokens=[], model={**bpe, "merges": ["a b"]})
    result = check.run(check.CheckConfig(paths=(str(mine),), base=str(base)))
    assert {f.rule_id for f in result.findings} == expected


@pytest.mark.parametrize("fields", [{"paths": ()}, {"paths": ("a",), "fail_on": "x"}, {"paths": ("a",), "role": "x"}])
def test_bad_options(fields: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        check.CheckConfig(**fields)  # type: ignore[arg-type]


def test_missing_path_is_bad_input_even_among_others(tmp_path: Path) -> None:
    directory = corpus.make("sound-model", tmp_path)
    with pytest.raises(CheckpointError, match="nothing at"):
        check.run(check.CheckConfig(paths=(str(directory), str(tmp_path / "gone"))))


def test_text_report_fits_80_columns(tmp_path: Path) -> None:
    paths = tuple(str(corpus.make(n, tmp_path / n)) for n in ("name-escape", "json-deep", "alora"))
    text = check_report.render(check.run(check.CheckConfig(paths=paths)))
    paths_aside = [line for line in text.splitlines() if str(tmp_path) not in line]
    assert max(map(len, paths_aside)) <= 80
    assert "Inconclusive" in text
    assert "NOT ANALYSED" in text
    assert "\x1b" not in text


def test_command_line(tmp_path: Path) -> None:
    directory = corpus.make("hidden-base", tmp_path)
    out = tmp_path / "report.json"
    run = CliRunner().invoke(
        make_app(["check"]), ["check", "-q", str(directory), "--format", f"json={out}", "--format", "markdown"]
    )
    assert run.exit_code == 1, run.output
    assert "adapter/hidden-base-tensor" in run.stdout
    document = json.loads(out.read_text())
    assert document["schema_version"] == check.SCHEMA_VERSION
    assert document["findings"][0]["severity"] == "high"
    assert document["provenance"]["versions"]["rora"]


# ---- verify ----


def test_intact_output(published: Path) -> None:
    result = verify.run(verify.VerifyConfig(path=str(published)))
    assert result.is_intact
    assert result.files_matching == 2
    assert verify.exit_code(result) == ExitCode.OK
    assert result.manifest_sha256 in verify_report.render(result)
    assert valid("verify", result)["files_matching"] == result.files_matching


@pytest.mark.parametrize("change", ["bit", "size", "missing", "extra", "link", "touched"])
def test_changes_are_found(published: Path, tmp_path: Path, change: str) -> None:
    file = published / "adapter" / "weights"
    if change == "bit":
        file.write_bytes(b"0" * 99 + b"1")
    elif change == "size":
        file.write_bytes(b"0" * 101)
    elif change == "missing":
        file.unlink()
    elif change == "extra":
        (published / "pytorch_model.bin").write_bytes(b"x")
    elif change == "link":
        shutil.copy(file, tmp_path / "elsewhere")
        file.unlink()
        file.symlink_to(tmp_path / "elsewhere")
    else:
        file.touch()
    result = verify.run(verify.VerifyConfig(path=str(published)))
    assert verify.exit_code(result) == (ExitCode.OK if change == "touched" else ExitCode.FINDINGS)
    expected = {
        "bit": {"verify/changed"}, "size": {"verify/changed"}, "missing": {"verify/missing"},
        "extra": {"verify/extra"}, "link": {"verify/missing", "file/outside"}, "touched": set(),
    }  # fmt: skip
    assert {f.rule_id for f in result.findings} == expected[change]


@pytest.mark.parametrize(
    "manifest",
    [
        None, "", "[]", "{}", '{"schema_version": 1, "files": []}', '{"schema_version": 9, "files": {}}',
        '{"schema_version": 1, "files": {"../x": {"sha256": "0", "size": 1}}}',
        '{"schema_version": 1, "files": {"/etc/passwd": {"sha256": "0", "size": 1}}}',
        '{"schema_version": 1, "files": {"a": {"sha256": 1, "size": 1}}}',
        '{"schema_version": 1, "schema_version": 1, "files": {}}',
    ],
)  # fmt: skip
def test_malformed_manifests_are_bad_input(published: Path, manifest: str | None) -> None:
    if manifest is None:
        (published / MANIFEST_NAME).unlink()
    else:
        (published / MANIFEST_NAME).write_text(manifest)
    with pytest.raises(CheckpointError, match=MANIFEST_NAME):
        verify.run(verify.VerifyConfig(path=str(published)))


def test_verify_command_line(published: Path) -> None:
    run = CliRunner().invoke(make_app(["verify"]), ["verify", "-q", str(published), "--format", "json"])
    assert run.exit_code == 0
    assert json.loads(run.stdout)["files_matching"] == 2
    (published / "config.json").write_text("[]")
    run = CliRunner().invoke(make_app(["verify"]), ["verify", "-q", str(published)])
    assert run.exit_code == 1
    assert "verify/changed" in run.stdout
