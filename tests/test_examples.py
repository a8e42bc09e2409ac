"""The examples of the documents and of the ready-made parts: each is read by the command line as it is today, and
what a tiny model allows is run."""

from __future__ import annotations

import ast
import inspect
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from typer import Typer
from typer.testing import CliRunner, Result

import rora_cli
from rora_cli.cli.command import add, classes_of
from rora_cli.cli.commands_table import COMMANDS, command
from tests.test_docs import CALL, DOCUMENTS, ROOT, calls

BLOCK = re.compile(r"```\w*\n.*?```", re.S)
PAGE = ROOT / "docs" / "in-ci.md"


def written() -> Iterator[tuple[str, str]]:
    """(where, command line) of every example that is one: with all that it needs, and nothing left out."""
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        whole = [block.replace("\\\n", " ") for block in BLOCK.findall(text)]
        in_blocks = {call.strip() for block in whole for call in CALL.findall(block)}
        for call in dict.fromkeys(calls(path)):
            if (
                f"{call.strip()} ..." not in text
                and "..." not in call
                and (call in in_blocks or len(shlex.split(call)) > 3)
            ):
                yield path.name, call
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    yield ".pre-commit-hooks.yaml", f"{hook['entry']} adapters"


def as_read(call: str) -> Result:
    """A command line as the command's options read it; the command itself is not run."""
    _, name, *words = shlex.split(re.sub(r"\bN\b", "12", call))
    config, shell = classes_of(command(name))

    def seen(config, shell) -> int:  # type: ignore[no-untyped-def]
        return 0

    seen.__annotations__ = {"config": config, "shell": shell, "return": int}
    app = Typer()
    add(app, name, seen, [])
    return CliRunner().invoke(app, words)


def test_every_example_is_read() -> None:
    examples, wrong = list(written()), []
    for where, call in examples:
        done = as_read(call)
        if done.exit_code:
            said = str(done.exception) if not isinstance(done.exception, SystemExit) else done.output
            wrong.append(f"{where}: {call}: {said}")
    # In a sentence, an option may be named without all that the command needs.
    wrong = [one for one in wrong if not re.search("Missing (argument|option)", one)]
    assert not wrong, "\n".join(wrong)
    assert len(examples) > 35


def test_the_python_examples_use_what_exists() -> None:
    blocks = [b for path in DOCUMENTS for b in re.findall(r"```python\n(.*?)```", path.read_text(), re.S)]
    called = []
    for tree in (ast.parse(block) for block in blocks if "import" in block and "rora_cli" in block):
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module == "rora_cli":
                assert all(hasattr(rora_cli, name.name) for name in node.names)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and hasattr(rora_cli, node.func.id):
                parameters = inspect.signature(getattr(rora_cli, node.func.id)).parameters
                assert all(keyword.arg in parameters for keyword in node.keywords)
                called.append(node.func.id)
    assert called


@pytest.fixture
def place(tiny_classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory as the page on CI has it: a suspect, and the policy that stands on the page."""
    shutil.copytree(tiny_classifier, tmp_path / "models" / "suspect")
    (policy,) = re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.S)
    (tmp_path / "rora.toml").write_text(policy)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_page_on_ci_does_what_it_says(place: Path) -> None:
    """Its steps that load no model, in their order, on a clean suspect: all pass, and leave the reports they name."""
    run = 0
    for call in dict.fromkeys(calls(PAGE)):
        _, name, *words = shlex.split(call)
        if name not in ("check", "rules") or not words or "owner/name" in words or "cyclonedx" in call:
            continue
        app = Typer()
        add(app, name, command(name), [])
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, f"{call}: {done.output} {done.exception}"
        for file in re.findall(r"--format \w+=(\S+)", call):
            assert (place / file).stat().st_size > 0, call
        run += 1
    assert run >= 6


@pytest.mark.skipif(os.name != "posix", reason="GitHub runs the step with bash")
@pytest.mark.parametrize(("file", "code"), [("", 0), ("modeling_x.py", 1)])
def test_the_steps_of_the_action_check_and_leave_their_reports(place: Path, file: str, code: int) -> None:
    """The script of action.yml itself, where its first step would have put rora."""
    if file:
        (place / "models" / "suspect" / file).write_text("import os\n")
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    step = action["runs"]["steps"][-1]
    inputs = {name: given.get("default", "models/suspect") for name, given in action["inputs"].items()}
    script = place / "temp" / "rora" / "bin" / "rora"
    script.parent.mkdir(parents=True)
    script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m rora_cli "$@"\n')
    script.chmod(0o755)
    given = {name: inputs[re.findall(r"inputs\.([\w-]+)", value)[0]] for name, value in step["env"].items()}
    environment = {"RUNNER_TEMP": str(place / "temp"), "GITHUB_STEP_SUMMARY": str(place / "summary.md")}
    done = subprocess.run(
        ["bash", "-e", "-c", step["run"]], capture_output=True, text=True, timeout=120, cwd=place,
        env={**os.environ, "PYTHONPATH": str(ROOT), **given, **environment},
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert (place / "rora.sarif").stat().st_size > 0 and "rora" in (place / "summary.md").read_text()
    assert ("::error" in done.stdout or "::warning" in done.stdout) == bool(file)


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_has_its_part_of_the_reference(name: str) -> None:
    assert f"## rora {name}\n" in (ROOT / "docs" / "reference.md").read_text()
