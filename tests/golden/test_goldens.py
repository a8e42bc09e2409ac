"""What every recipe and every command computed on a tiny suspect is what it computes today.

A restructuring must leave these files as they are. Where a result is meant to change, ``pytest tests/golden
--update-goldens`` writes them anew, and the commit says why.
"""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import rora_cli
from rora_cli.defences.recipes import RECIPES
from tests.golden.normalise import differences, fingerprint, without_passing
from tests.golden.suspects import Planted, plant
from tests.reports.schemas import valid
from tests.versions import installed, pinned

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
#: Libraries whose arithmetic the numbers depend on.
_ARITHMETIC = ("torch", "transformers", "peft", "accelerate", "numpy", "tokenizers")
_SEARCH = {"search_budget": "fast", "max_rounds": 2}
_OPTIONS: dict[str, dict[str, Any]] = {
    "default": _SEARCH,
    "default-reference": {**_SEARCH, "escalate": "auto"},
    "reinit": {"reinit_blocks": 1},
}


@contextmanager
def _one_thread() -> Iterator[None]:
    """Inside, sums have one order, whatever the machine's cores."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    with _one_thread():
        return plant(tmp_path_factory.mktemp("golden"))


@pytest.fixture
def one_thread() -> Iterator[None]:
    with _one_thread():
        yield


def _machine() -> dict[str, str]:
    """What the numbers were computed with: other versions or another processor round otherwise; a maker's own kernels,
    and AMX, sum products in another order."""
    from importlib.metadata import version

    import torch

    able = getattr(torch.cpu, "get_capabilities", dict)()
    extras = [name for name in ("avx512_bf16", "amx_bf16") if able.get(name)]
    maker = str(able.get("cpu_name", "")).split(" ")[0]
    kernels = " ".join([platform.machine(), maker, torch.backends.cpu.get_cpu_capability(), *extras])
    return {**{name: version(name) for name in _ARITHMETIC}, "kernels": kernels}


def _hold(request: pytest.FixtureRequest, name: str, compute: Callable[[], dict[str, Any]]) -> None:
    """Compare what ``compute`` gives with the golden file ``name``, or write that."""
    path = HERE / "runs" / f"{name}.json"
    if request.config.getoption("--update-goldens"):
        path.write_text(json.dumps({"machine": _machine(), **compute()}, indent=1, sort_keys=True) + "\n")
        return
    golden = json.loads(path.read_text())
    if (other := golden.pop("machine")) != (here := _machine()):
        which = ", ".join(f"{k} {other.get(k)}" for k in here if here[k] != other.get(k))
        pytest.skip(f"these goldens were computed with {which}")
    found = list(differences(golden, json.loads(json.dumps(compute()))))
    assert not found, "\n".join(found[:40])


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("name", [*RECIPES, "default-reference"])
def test_recipe(planted: Planted, tmp_path: Path, request: pytest.FixtureRequest, name: str) -> None:
    recipe, out = name.split("-reference")[0], tmp_path / "out"
    options = {"tr_k": 8, **({} if recipe == "default" else {"epochs": 1}), **_OPTIONS.get(name, {})}
    if name == "mix":
        options["ancestor"] = str(planted.ancestor)
    if name == "default-reference":
        options["reference"] = str(planted.ancestor)

    def compute() -> dict[str, Any]:
        rora_cli.purify(
            planted.suspect, clean=planted.clean, output=str(out), recipe=recipe, device="cpu", seed=0,
            keep_failed=True, **options,
        )  # fmt: skip
        report = valid("purify", json.loads((out / "rora-report.json").read_text()))
        return {"report": _relative(report, planted, tmp_path), "weights": fingerprint(out)}

    _hold(request, name, compute)


def _relative(report: Any, planted: Planted, scratch: Path) -> Any:
    return without_passing(without_passing(report, planted.suspect.parent), scratch)


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("reference", ["bag-of-words", "ancestor"])
def test_hunt(planted: Planted, tmp_path: Path, request: pytest.FixtureRequest, reference: str) -> None:
    other = str(planted.ancestor) if reference == "ancestor" else reference

    def compute() -> dict[str, Any]:
        result = rora_cli.hunt(planted.suspect, clean=planted.clean, reference=other, budget="fast", seed=0)
        return {"report": _relative(valid("hunt", result), planted, tmp_path)}

    _hold(request, f"hunt-{reference}", compute)


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("reference", ["bag-of-words", "ancestor"])
def test_a_search_in_bfloat16_says_what_one_in_float32_said(planted: Planted, reference: str) -> None:
    """On a processor that has no instructions for it the result is the same, and only slower."""
    golden = json.loads((HERE / "runs" / f"hunt-{reference}.json").read_text())["report"]
    other = str(planted.ancestor) if reference == "ancestor" else reference
    result = rora_cli.hunt(
        planted.suspect, clean=planted.clean, reference=other, budget="fast", seed=0, precision="bf16"
    )
    for label, said in zip(result.labels, golden["labels"], strict=True):
        assert label.verdict == said["verdict"]
        assert {trigger.text for trigger in label.called} == {t["text"] for t in said["triggers"] if t["called"]}


def _commands() -> list[str]:
    return re.findall(r"^## rora ([a-z-]+)", (ROOT / "docs" / "reference.md").read_text(), re.M)


@pytest.mark.parametrize("command", ["", *_commands()])
def test_help(request: pytest.FixtureRequest, command: str) -> None:
    """The help text of each command, as a terminal of 100 columns shows it without colours."""

    environment = {"COLUMNS": "100", "TERMINAL_WIDTH": "100", "NO_COLOR": "1", "PATH": "", "TERM": "dumb"}
    words = [sys.executable, "-m", "rora_cli", *([command] if command else []), "--help"]
    text = subprocess.run(words, capture_output=True, text=True, check=True, env=environment, cwd=ROOT).stdout
    path = HERE / "help" / f"{command or 'rora'}.txt"
    if request.config.getoption("--update-goldens"):
        path.write_text(text)
        return
    if others := [f"{name} {installed(name)}" for name in ("typer", "rich") if installed(name) != pinned(name)]:
        pytest.skip(f"{' and '.join(others)} may draw the pages otherwise than the tested versions")
    assert text == path.read_text()
