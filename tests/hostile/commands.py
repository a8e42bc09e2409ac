"""rora's commands as they are run on a row of the corpus, in this process."""

from __future__ import annotations

import io
import re
import sys
from contextlib import redirect_stderr, redirect_stdout
from importlib.util import find_spec
from pathlib import Path

from rora_cli.cli.commands_table import COMMANDS as REGISTERED

#: The commands that read a checkpoint, in the order of the tests.
COMMANDS = tuple(c for c in ("diagnose", "eval-asr", "rescale", "hunt", "purify") if c in REGISTERED)
#: What a terminal or a CI log would obey: control characters but the newline, bidirectional overrides, log commands.
UNSAFE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069]|::(?:error|warning)|##\\[")
REPORTS = ("json", *(r for r in ("sarif", "junit", "markdown", "html") if find_spec(f"rora_cli.reports.{r}")))


def arguments(command: str, role: str, directory: Path, base: Path, rows: Path, out: Path) -> list[str]:
    """The command line that points ``command`` at the model or adapter in ``directory``; outputs go into ``out``."""
    target = [str(directory)] if role == "model" else [str(base), "--adapter", str(directory)]
    if command == "diagnose":
        reports = [a for name in REPORTS for a in ("--format", f"{name}={out / name}")]
        return [
            "diagnose",
            "--no-cache",
            "--offline",
            "--base",
            str(base),
            str(directory),
            "--format",
            "text",
            *reports,
        ]
    if command == "eval-asr":
        return ["eval-asr", *target, "--data", str(rows), "--trigger", "mn", "--target-label", "positive", "--offline"]
    if command == "rescale":
        return ["rescale", str(directory), "--base", str(base), "-o", str(out / "written")]
    if command == "hunt":
        return ["hunt", *target, "--clean", str(rows), "--offline"]
    return ["purify", *target, "--clean", str(rows), "-o", str(out / "written"), "--recipe", "lora", "--epochs", "1",
            "--offline"]  # fmt: skip


def run_cli(*args: str) -> tuple[int, str, str]:
    """``rora ARGS``: exit code, stdout, stderr. Changes ``sys.argv``: for the sandbox."""
    from rora_cli.cli.app import run

    sys.argv = ["rora", *args]
    stdout, stderr = io.StringIO(), io.StringIO()
    with redirect_stdout(stdout), redirect_stderr(stderr):
        try:
            run()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
    return code, stdout.getvalue(), stderr.getvalue()


def run_cli_quietly(*args: str) -> None:
    before = sys.argv
    try:
        run_cli(*args)
    finally:
        sys.argv = before
