"""What the documents promise: command lines use commands and options that exist, and links lead somewhere."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from rora_cli.cli.command import fields_of
from rora_cli.cli.commands_table import COMMANDS, command

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]
#: Blocks and spans of code, and ``rora`` at the start of a line of either, or after a step's "run:" or "-".
CODE = re.compile(r"```.*?```|`[^`]+`", re.S)
CALL = re.compile(r"(?:^|run: |^ *- )(rora [a-z][^\n#|]*)", re.M)


def calls(path: Path) -> list[str]:
    spans = CODE.findall(path.read_text(encoding="utf-8"))
    code = (span.strip("`") if span.startswith("```") else span.strip("`").replace("\n", " ") for span in spans)
    found = (call for span in code for call in CALL.findall(span.replace("\\\n", " ")))
    return [call.strip().removesuffix("...") for call in found]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_command_lines_use_what_exists(path: Path) -> None:
    for call in calls(path):
        _, name, *words = shlex.split(call)
        assert name in COMMANDS, call
        fields = fields_of(command(name)).values()
        known = {n for field in fields for pair in field.option.names for n in pair.split("/")} | {"-h", "--help"}
        unknown = [word for word in words if word.startswith("-") and word.partition("=")[0] not in known]
        assert not unknown, f"{call}: {unknown}"


def test_the_documents_were_looked_at() -> None:
    assert sum(len(calls(path)) for path in DOCUMENTS) > 40


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_between_files_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), f"{path.name} links to {target}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_to_headings_lead_to_one(path: Path) -> None:
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#([^)]+)\)", path.read_text(encoding="utf-8")):
        page = path.parent / target if target else path
        headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
        slugs = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert anchor in slugs, f"{path.name} links to {target}#{anchor}"


def test_the_ready_made_parts_call_what_exists() -> None:
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert hook["entry"].split()[1] in COMMANDS and hook["language"] == "python"
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    script = action["runs"]["steps"][-1]["run"]
    options = set(re.findall(r"--[a-z-]+", script))
    known = {name for field in fields_of(command("check")).values() for name in field.option.names}
    assert options <= known and "${{" not in script, "inputs must not be pasted into a script"


@pytest.mark.parametrize("script", ["build_pages.py", "build_schema.py"])
def test_what_is_made_of_the_result_types_is_up_to_date(script: str) -> None:
    """Each says which file is not, and what to run."""
    command = [sys.executable, str(ROOT / "scripts" / script), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
