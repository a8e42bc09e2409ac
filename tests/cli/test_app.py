"""The application as a whole: help without heavy imports, errors as sentences, options from files, the reference."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from rora_cli.cli import app, files
from rora_cli.cli.commands_table import COMMANDS
from rora_cli.cli.console import LogProgress, print_result
from rora_cli.errors import ExitCode, OutputError, UsageError
from rora_cli.progress import SILENT, begin, in_steps

HEAVY = ("torch", "transformers", "peft", "accelerate", "datasets", "scipy", "pyarrow", "numpy", "huggingface_hub")


def _run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "rora_cli", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "NO_COLOR": "1", **environment},
        timeout=120,
    )


def test_no_help_imports_anything_heavy() -> None:
    script = (
        "import sys\n"
        "from rora_cli.cli.app import make_app\n"
        f"for arguments in (['--version'], ['--help'], *([name, '--help'] for name in {list(COMMANDS)!r})):\n"
        "    try:\n"
        "        make_app(arguments)(arguments)\n"
        "    except SystemExit as stop:\n"
        "        assert not stop.code, (arguments, stop.code)\n"
        f"    heavy = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "    assert not heavy, (arguments, heavy)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_help_fits_80_columns_even_where_a_ci_system_forces_a_terminal() -> None:
    done = _run("purify", "--help", GITHUB_ACTIONS="true", COLUMNS="80", TERM="xterm")
    assert done.returncode == 0
    lines = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout).splitlines()
    assert max(map(len, lines)) <= 80
    assert any("--max-accuracy-drop" in line for line in lines) and any("[default:" in line for line in lines)


OUT_OF_RANGE = [
    ("purify", "m", "--clean", "bundled", "--rank", "0"),
    ("purify", "m", "--clean", "bundled", "--recipe", "magic"),
    ("purify", "m", "--clean", "bundled", "--tr", "1", "--variant", "pissa"),
    ("hunt", "m", "--clean", "bundled", "--max-rows", "3"),
    ("eval-asr", "m", "--data", "bundled", "--trigger", "x", "--target-label", "1", "--max-asr", "7"),
    ("poison", "m", "--data", "bundled", "-o", "o", "--target-label", "1", "--carrier", "air"),
    ("rescale", "a", "--base", "b", "--strength", "-1"),
    ("diagnose", "a", "--top-k", "0"),
    ("check", "a", "--fail-on", "never"),
]


@pytest.mark.parametrize("arguments", OUT_OF_RANGE, ids=lambda arguments: " ".join(arguments[:1] + arguments[-2:]))
def test_an_option_out_of_range_is_refused_without_torch(arguments: tuple[str, ...]) -> None:
    script = (
        "import sys\n"
        "from rora_cli.cli.app import run\n"
        f"sys.argv = ['rora', *{list(arguments)!r}]\n"
        "try:\n"
        "    run()\n"
        "finally:\n"
        "    assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and done.stdout == "", done.stderr
    assert (len(done.stderr.splitlines()) <= 2 and arguments[-2] in done.stderr) or "--tr" in done.stderr


@pytest.mark.parametrize("name", ["purify", "check"])
def test_the_short_way_to_help_says_the_same(name: str) -> None:
    short, parsed = _run(name, "--help"), _run(name, "--quiet", "--help")
    assert short.returncode == parsed.returncode == 0
    after_usage = [done.stdout.split("[OPTIONS]", 1)[1].split() for done in (short, parsed)]
    assert after_usage[0] == after_usage[1]


def test_version() -> None:
    from rora_cli import __version__

    assert _run("--version").stdout == f"rora {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("purify", "nowhere-at-all", "--clean", "bundled"),
        ("purify", ".", "--clean", "bundled", "--recipe", "magic"),
        ("eval-asr", "nowhere-at-all", "--data", "bundled", "--trigger", "x", "--target-label", "1"),
        ("diagnose", "nowhere-at-all"),
        ("check", "nowhere-at-all"),
        ("verify", "nowhere-at-all"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(arguments: tuple[str, ...], tmp_path: Path) -> None:
    done = _run(*arguments, "-o", str(tmp_path / "out")) if arguments[0] == "purify" else _run(*arguments)
    assert done.returncode == 2, done.stderr
    assert done.stdout == "" and "Traceback" not in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("rora: ")
    assert not (tmp_path / "out").exists()


def test_a_panic_of_a_library_in_rust_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """pyo3's PanicException is no Exception: who does not know it shows a traceback."""
    from rora_cli.cli import app

    class PanicException(BaseException):
        pass

    def panic() -> None:
        raise PanicException("index out of bounds")

    monkeypatch.setattr(app, "make_app", lambda arguments: panic)
    monkeypatch.setattr(sys, "argv", ["rora"])
    with pytest.raises(SystemExit) as stop:
        app.run()
    assert stop.value.code == 70 and "index out of bounds" in capsys.readouterr().err


@pytest.mark.parametrize("where", [0, 1, 2, 3])
def test_debug_stands_anywhere(where: int) -> None:
    arguments = ["check", "nowhere-at-all", "--quiet"]
    arguments.insert(where, "--debug")
    done = _run(*arguments)
    assert done.returncode == 2 and "Traceback (most recent call last):\n  File" in done.stderr, done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("rora: there is nothing at")


def test_the_value_of_an_option_is_not_taken_for_debug() -> None:
    done = _run("check", "nowhere-at-all", "--base", "--debug")
    assert done.returncode == 2 and "Traceback" not in done.stderr


def _stopped(
    error: BaseException, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, list[str]]:
    """The exit code and the lines on stderr of an application that raises ``error``."""
    from rora_cli.cli import app

    def fail() -> None:
        raise error

    monkeypatch.setattr(app, "make_app", lambda arguments: fail)
    monkeypatch.setattr(sys, "argv", ["rora"])
    with pytest.raises(SystemExit) as stop:
        app.run()
    return int(stop.value.code or 0), capsys.readouterr().err.splitlines()


def test_an_unexpected_error_is_one_line_and_its_traceback_many(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.delenv("RORA_DEBUG", raising=False)
    error = RuntimeError("\nfirst \x1b[31mline\nC++ frames\nmore of them")
    code, lines = _stopped(error, monkeypatch, capsys)
    assert code == 70 and len(lines) == 1 and "x0a" not in lines[0]
    assert lines[0].startswith("rora: unexpected RuntimeError: first \\x1b[31mline (this is a fault")
    monkeypatch.setenv("RORA_DEBUG", "1")
    _, lines = _stopped(error, monkeypatch, capsys)
    assert lines[0].startswith("Traceback") and "more of them" in lines and "report it" in lines[-1]
    assert not any("\x1b" in line for line in lines), "a terminal would obey it"


def test_other_ranks_end_with_0_and_leave_the_word_to_the_first(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A launcher that sees one fail ends the first while it writes."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank, codes in (("0", [2, 3, 130]), ("1", [0, 0, 0])):
        monkeypatch.setenv("RANK", rank)
        errors: list[BaseException] = [UsageError("wrong"), SystemExit(3), KeyboardInterrupt()]
        for error, expected in zip(errors, codes, strict=True):
            code, lines = _stopped(error, monkeypatch, capsys)
            assert code == expected and bool(lines) == (rank == "0" and not isinstance(error, SystemExit))
    code, lines = _stopped(ZeroDivisionError("x"), monkeypatch, capsys)
    assert code == 70 and "in process 1 of 2" in lines[0], "nobody else knows of it"


def test_a_command_that_knows_one_process_takes_the_first(tmp_path: Path) -> None:
    for rank in "01":
        done = _run("check", "nowhere-at-all", RANK=rank, WORLD_SIZE="2", LOCAL_RANK=rank)
        assert done.returncode == (2 if rank == "0" else 0)
        assert ("1 of the 2 started are not used" in done.stderr) == (rank == "0") and done.stdout == ""


def test_config_files_are_checked(tmp_path: Path) -> None:
    for name, text, word in (
        ("a.yaml", "- 1\n", "mapping"),
        ("a.toml", "x = [", "not valid"),
        ("a.ini", "x=1", "must end"),
        ("b.yaml", "!!python/object/apply:os.system ['true']", "not valid"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(UsageError, match=word):
            files.read_config(tmp_path / name)
    (tmp_path / "good.toml").write_text('recipe = "paper"\nlearning-rate = 1e-3\n')
    assert files.read_config(tmp_path / "good.toml") == {"recipe": "paper", "learning-rate": 1e-3}


def test_a_reader_that_went_away_is_no_finding() -> None:
    read, write = os.pipe()
    os.close(read)
    ended = subprocess.run([sys.executable, "-m", "rora_cli", "rules"], stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert (ended.returncode, ended.stderr) == (ExitCode.CLOSED_PIPE, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
def test_a_full_disk_behind_stdout_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        with pytest.raises(OutputError, match="written to stdout"):
            print_result("report")


def test_log_lines_cannot_become_ci_instructions(capsys: pytest.CaptureFixture[str]) -> None:
    LogProgress().warn("x\n::error::owned")
    LogProgress().note("::error::owned")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and not any(line.startswith("::") for line in lines)


def test_a_finished_phase_looks_finished_at_a_terminal() -> None:
    import io

    from rich.console import Console

    from rora_cli.cli.console import TerminalProgress

    screen = io.StringIO()
    progress = in_steps(TerminalProgress(Console(file=screen, force_terminal=True, width=100)), ("load", "search"))
    with progress.phase("load"):
        pass
    begin(progress, "search")
    with progress.phase("read", total=None) as task:
        task.advance(3)
    last = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    assert "1/2 load " in last and "2/2 search: read " in last and in_steps(SILENT, ("load",)) is SILENT
    assert "1/1" in last and "3/3" in last and "/?" not in last


@pytest.mark.parametrize("name", ["build_reference.py", "build_api.py"])
def test_what_is_made_of_the_options_is_up_to_date(name: str) -> None:
    if name == "build_api.py":
        pytest.importorskip("ruff", reason="ruff, which lays out what the script writes, is not installed")
    script = Path(__file__).parents[2] / "scripts" / name
    done = subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_ctrl_c_says_what_is_kept(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Of a command that keeps nothing, of a run that has finished nothing, and of one that has."""
    from rora_cli.commands import purify

    def ended(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["rora", *arguments])
        with pytest.raises(SystemExit) as end:
            app.run()
        assert end.value.code == 130
        return re.sub(r"\s+", " ", capsys.readouterr().err)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    def stop_later(*_: object) -> None:
        state = tmp_path / "out.rora-state"
        state.mkdir()
        entries = {"search 1": {}, "snapshot/train 1": {"meta": {"step": 40}}}
        (state / "journal.json").write_text(json.dumps({"entries": entries}))
        raise KeyboardInterrupt

    monkeypatch.setattr("rora_cli.commands.verify.run", stop)
    assert ended("verify", str(tmp_path)) == "rora: interrupted; nothing half-written was left behind "
    monkeypatch.setattr(purify, "look", lambda config: None)
    monkeypatch.setattr(purify, "first_plan", lambda *given: "")
    run = ("purify", str(tmp_path), "--clean", "bundled", "-o", str(tmp_path / "out"), "--quiet")
    monkeypatch.setattr(purify, "in_processes", stop)
    assert "interrupted; nothing was finished yet, so nothing is kept" in ended(*run)
    monkeypatch.setattr(purify, "in_processes", stop_later)
    said = ended(*run)
    assert "search 1, train 1 up to step 40; add --resume to the same command" in said and "kept in" in said
