"""What ends ``purify`` with another code than 0, and what is refused before torch is imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from typer.testing import CliRunner

from tests.cli.apps import alone


@pytest.mark.parametrize(
    ("verdict", "codes"),
    [
        ("pass", (0, 0, 0, 3)),
        ("fail", (1, 1, 0, 1)),
        ("inconclusive", (3, 0, 0, 3)),
        ("not assessed", (0, 0, 0, 3)),
    ],
)
def test_fail_on_decides_which_verdicts_fail(
    verdict: str, codes: tuple[int, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from rora_cli.cli import delivery
    from rora_cli.commands import purify

    result = SimpleNamespace(verdict=verdict, findings=(), covering=None)
    monkeypatch.setattr(purify, "run", lambda config, progress: result)
    monkeypatch.setattr(delivery, "deliver", lambda *_: None)
    for asked, code in zip(("inconclusive", "fail", "none", "uncovered"), codes, strict=True):
        done = CliRunner().invoke(alone("purify"), [str(tmp_path), "--clean", "bundled", "--fail-on", asked])
        assert done.exit_code == code, done.output
    if verdict == "pass":
        result.covering = SimpleNamespace(complete=True)
        options = [str(tmp_path), "--clean", "bundled", "--fail-on", "uncovered"]
        assert CliRunner().invoke(alone("purify"), options).exit_code == 0


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


class FakeApi:
    """The hub's API as far as a push needs it."""

    calls: ClassVar[list[tuple[str, Any]]] = []
    taken: ClassVar[set[str]] = set()

    def __init__(self, token: str) -> None:
        self.calls.append(("token", token))

    def repo_exists(self, repo_id: str) -> bool:
        return repo_id in self.taken

    def create_repo(self, repo_id: str, private: bool) -> None:
        self.calls.append(("create", (repo_id, private)))

    def upload_folder(self, repo_id: str, folder_path: Path, commit_message: str) -> str:
        self.calls.append(("upload", (repo_id, sorted(path.name for path in folder_path.iterdir()))))
        return f"https://hub.example/{repo_id}/commit/1"


@pytest.mark.parametrize("verdict", ["pass", "fail"])
def test_a_push_is_private_after_the_run_and_never_of_what_failed(
    verdict: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import huggingface_hub
    from huggingface_hub import constants

    from rora_cli.cli import delivery
    from rora_cli.commands import purify

    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "README.md").write_text("card")
    ran = []
    monkeypatch.setattr(
        purify,
        "run",
        lambda *_: ran.append(1) or SimpleNamespace(verdict=verdict, output=str(tmp_path / "out"), findings=()),
    )
    monkeypatch.setattr(delivery, "deliver", lambda *_: None)
    monkeypatch.setattr(huggingface_hub, "HfApi", FakeApi)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(FakeApi, "calls", [])
    arguments = [str(tmp_path), "--clean", "bundled", "--push-to-hub"]
    monkeypatch.delenv("HF_TOKEN", raising=False)
    done = CliRunner().invoke(alone("purify"), [*arguments, "me/model"])
    assert "HF_TOKEN, which is not set" in str(done.exception) and not ran, "it is refused before the run"
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert "owner/name" in str(CliRunner().invoke(alone("purify"), [*arguments, "model"]).exception) and not ran
    done = CliRunner().invoke(alone("purify"), [*arguments, "me/model"])
    if verdict == "fail":
        assert done.exit_code == 1 and FakeApi.calls == [] and "nothing was put into me/model" in done.output
        return
    assert done.exit_code == 0 and "hf_secret" not in done.output
    assert FakeApi.calls == [
        ("token", "hf_secret"), ("create", ("me/model", True)), ("upload", ("me/model", ["README.md"])),
    ]  # fmt: skip
    monkeypatch.setattr(FakeApi, "taken", {"me/model"})
    assert "exists already" in str(CliRunner().invoke(alone("purify"), [*arguments, "me/model"]).exception)
