"""The light set: commands with typer and rich alone, and a sentence where a part is missing."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from packaging.requirements import Requirement
from safetensors.numpy import save_file

#: An import of anything but Python, rora and what is installed with the named packages fails, as if it were not there.
_BLOCK = """
import importlib.abc, os, sys
allowed = set(os.environ["ALLOWED"].split())
class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in allowed and top not in sys.stdlib_module_names and not top.startswith("_"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocked())
from rora_cli.cli.app import run
sys.argv = ["rora", *sys.argv[1:]]
run()
"""


def closure(*packages: str) -> set[str]:
    """The packages and all that they require, as modules are called."""
    found: set[str] = set()
    pending = list(packages)
    while pending:
        name = pending.pop()
        module = name.lower().replace("-", "_")
        module = {"markdown_it_py": "markdown_it"}.get(module, module)
        if module not in found:
            found.add(module)
            needed = [Requirement(text) for text in requires(name) or ()]
            pending += [r.name for r in needed if r.marker is None or r.marker.evaluate({"extra": ""})]
    return found


def light(*arguments: Any, packages: tuple[str, ...] = ("typer", "rich")) -> subprocess.CompletedProcess[str]:
    """The command with these packages alone."""
    import os

    environment = {**os.environ, "ALLOWED": " ".join(closure(*packages) | {"rora_cli"}), "NO_COLOR": "1"}
    command = [sys.executable, "-c", _BLOCK, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)


class Trap:
    def __reduce__(self) -> Any:
        return print, ("owned",)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("light") / "model"
    directory.mkdir()
    save_file({"layer.weight": np.zeros((2, 2), "f4")}, str(directory / "model.safetensors"))
    (directory / "config.json").write_text(json.dumps({"model_type": "bert"}))
    return directory


def test_headers_are_checked_with_typer_and_rich_alone(model: Path, tmp_path: Path) -> None:
    assert (done := light("check", model)).returncode == 0, done.stderr
    assert "1 tensor" in done.stdout
    assert light("rules", "file/code").returncode == 0
    assert light("check", model, "--format", "sarif", "--format", f"junit={tmp_path / 'j.xml'}").returncode == 0


def test_verify_works_with_typer_and_rich_alone(model: Path) -> None:
    from rora_cli.files import write_manifest

    write_manifest(model)
    assert (done := light("verify", model)).returncode == 0, done.stderr
    (model / "rora-manifest.json").unlink()


def test_a_pickle_that_nothing_can_read_is_never_clean(model: Path) -> None:
    (model / "optimizer.pt").write_bytes(pickle.dumps(Trap()))
    done = light("check", model)
    assert done.returncode == 3 and "picklescan" in done.stdout
    assert light("check", model, packages=("typer", "rich", "picklescan")).returncode == 1
    (model / "optimizer.pt").unlink()


@pytest.mark.parametrize(
    ("arguments", "package"),
    [
        (("check", "--values"), "numpy"),
        (("check", "--format", "html"), "jinja2"),
        (("diagnose",), "numpy"),
        (("purify", "--clean", "bundled"), "psutil"),
        (("hunt", "--clean", "bundled"), "psutil"),
        (("demo",), "torch"),
    ],
)
def test_a_part_that_is_missing_is_a_sentence(model: Path, tmp_path: Path, arguments: Any, package: str) -> None:
    subject = (tmp_path / "out",) if arguments[0] == "demo" else (model,)
    named = ("--output",) if arguments[0] == "demo" else ()
    done = light(arguments[0], *named, *subject, *arguments[1:])
    assert done.returncode == 2, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"rora: this needs the package {package}, which is not installed; `pip install {package}`")
