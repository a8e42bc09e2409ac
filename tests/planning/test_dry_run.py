"""``--dry-run`` and the line at the start of a run, on a tiny classifier."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rora_cli.commands.hunt import HuntConfig
from rora_cli.defences.config import PurifyConfig
from rora_cli.errors import CheckpointError, ExitCode, NoMemoryError, OutputError
from rora_cli.kinds import SEQUENCE_CLASSIFIER
from rora_cli.planning import first_look, run
from rora_cli.planning.device import Memory
from rora_cli.planning.machine import total_memory
from rora_cli.progress import SILENT
from rora_cli.subject import Subject
from tests.cli.apps import alone
from tests.conftest import tiny_rows
from tests.reports.schemas import valid


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "clean.jsonl"
    lines = [json.dumps({"text": text, "label": label}) for text, label in zip(*tiny_rows(96), strict=True)]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def planned(command: str, *arguments: str) -> tuple[int, dict[str, Any]]:
    result = CliRunner().invoke(alone(command), [*arguments, "--dry-run", "--format", "json", "--device", "cpu"])
    assert result.stdout, result.stderr
    return result.exit_code, valid("dry-run", json.loads(result.stdout))


def test_purify_is_planned_and_nothing_is_written(tiny_classifier: Path, rows: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, plan = planned(
        "purify", str(tiny_classifier), "--clean", str(rows), "--reference", "bag-of-words", "-o", str(out)
    )
    assert code == 0 and list(tmp_path.iterdir()) == []
    stages = {stage["name"]: stage for stage in plan["stages"]}
    assert list(stages) == [
        *("load", "measure accuracy", "search", "teach a student", "train", "search again"),
        *("plant 3 to 18 stand-ins", "search the copies", "write and load again"),
    ]
    assert stages["plant 3 to 18 stand-ins"]["only_if"] == stages["search the copies"]["only_if"] != ""
    assert 0 < plan["trained"] < plan["parameters"] and plan["weights"] >= 4 * plan["parameters"]
    assert all(stage["memory"] >= plan["weights"] for stage in stages.values())
    assert stages["train"]["seconds"][0] > 0 and stages["train"]["tokens"][0] < stages["train"]["tokens"][1]
    assert stages["teach a student"]["tokens"][0] == 0 and stages["teach a student"]["only_if"]


def test_an_adapter_that_is_merged_to_search_needs_a_copy_of_the_weights(tiny_classifier: Path, rows: Path) -> None:
    asked = (str(tiny_classifier), "--clean", str(rows), "--reference", "bag-of-words", "--power", "0")
    more = []
    for options in ((), ("--dtype", "bfloat16")):
        _, plan = planned("purify", *asked, *options)
        memory = {stage["name"]: stage["memory"] for stage in plan["stages"]}
        more.append((memory["search again"] - memory["search"]) / plan["weights"])
    assert more == [1, 0]


def test_the_power_of_a_hunt_is_planned(tiny_classifier: Path, rows: Path) -> None:
    asked = (str(tiny_classifier), "--clean", str(rows), "--reference", "bag-of-words", "--budget", "fast")
    _, plan = planned("hunt", *asked, "--power", "7")
    _, search, plant, copies = plan["stages"]
    assert (plant["name"], copies["name"]) == ("plant 7 stand-ins", "search the copies")
    assert copies["tokens"] == pytest.approx([3 * n for n in search["tokens"]], abs=3), "three stand-ins share a copy"
    assert plant["memory"] > 5 * plan["weights"]


def test_what_does_not_fit_is_said_with_what_needs_less(
    tiny_classifier: Path, rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "load_model", lambda *_, **__: pytest.fail("read though it does not fit"))
    arguments = (str(tiny_classifier), "--clean", str(rows), "--recipe", "full", "--batch-size", "512")
    monkeypatch.setattr(run, "memory_of", lambda device: Memory(1 << 40, 100_000))
    code, plan = planned("purify", *arguments)
    assert code == 1 and "do not fit" in plan["timed"]
    needs = [way["memory"] for way in plan["ways"]]
    assert plan["ways"][0]["options"] == "--micro-batch-size 1"
    assert needs == sorted(needs, reverse=True)
    assert needs[0] < max(stage["memory"] for stage in plan["stages"])
    monkeypatch.setattr(run, "memory_of", lambda device: Memory(50_000, 40_000))
    assert planned("purify", *arguments)[0] == 2
    monkeypatch.setattr(run, "load_model", lambda *_, **__: type("Loaded", (), {"model": None})())
    monkeypatch.setattr(run, "_timed", lambda *_: (None, "not timed"))
    monkeypatch.setattr(run, "memory_of", lambda device: None)
    assert planned("purify", *arguments)[0] == 3


def test_a_sharded_model_needs_less_on_each_device(
    tiny_classifier: Path, rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "_timed", lambda *_: (None, "not timed"))
    options = (str(tiny_classifier), "--clean", str(rows), "--recipe", "lora", "--num-processes", "2")
    whole, divided = (planned("purify", *options, *more)[1]["stages"] for more in ((), ("--shard",)))
    train = [next(stage["memory"] for stage in stages if stage["name"] == "train") for stages in (whole, divided)]
    assert train[1] < train[0]


def test_a_run_starts_with_a_line_and_goes_on_where_the_estimate_fails(
    tiny_classifier: Path, tiny_model: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    heard, (model, tokenizer) = Heard(), tiny_model
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    subject = Subject(model, tokenizer, SEQUENCE_CLASSIFIER, 64)
    hunted = HuntConfig(model=str(tiny_classifier), clean="x", reference="bag-of-words")
    run.announce(hunted, subject, ["a fine film"] * 8, (), heard)
    assert re.fullmatch(
        r"39,\d+ parameters; memory about .* of .* that the cpu has free; .* forward; .*", heard.said[0]
    )
    assert not model.training and all(weight.grad is None for weight in model.parameters())
    assert all(weight.equal(before[name]) for name, weight in model.state_dict().items())
    trained = PurifyConfig(model=str(tiny_classifier), clean="x", recipe="full", batch_size=512)
    monkeypatch.setattr(run, "memory_of", lambda device: Memory(1 << 40, 10))
    run.announce(trained, subject, ["a fine film"] * 600, ["a film"] * 8, heard)
    assert "of them trained (every weight)" in heard.said[1] and "it will probably not fit" in heard.said[1]
    assert "What needs less: --micro-batch-size 1: " in heard.said[1]
    monkeypatch.setattr(run, "_given", lambda *_, **__: 1 / 0)
    run.announce(hunted, subject, ["a fine film"] * 8, (), heard)
    assert heard.said[2] == "no estimate of memory and time: ZeroDivisionError: division by zero"
    run.announce(hunted, subject, ["a fine film"] * 8, (), SILENT)
    assert len(heard.said) == 3


class Heard:
    def __init__(self) -> None:
        self.said: list[str] = []

    def phase(self, name: str, total: int | None = None) -> Any:
        return nullcontext()

    def note(self, message: str) -> None:
        self.said.append(message)

    warn = note


def test_a_first_look_refuses_what_certainly_fails(
    tiny_classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = PurifyConfig(model=str(tiny_classifier), clean="x", output=str(tmp_path / "out"), device="cpu")
    first_look.look(config)
    with pytest.raises(CheckpointError, match="does not exist"):
        first_look.look(PurifyConfig(model="not/a/model", clean="x"))
    monkeypatch.setattr(first_look, "disk_room", lambda path: 1000)
    with pytest.raises(OutputError, match="has 1 kB left"):
        first_look.look(config)
    monkeypatch.undo()
    monkeypatch.setattr(first_look, "total_memory", lambda: 1000)
    with pytest.raises(NoMemoryError, match="has 1 kB of memory in all") as refused:
        first_look.look(config)
    assert refused.value.exit_code == ExitCode.BAD_INPUT
    (tmp_path / "out").write_text("")
    with pytest.raises(OutputError, match="out"):
        first_look.look(config)


#: Starts a command and stops where its work would begin; what it has said by then goes to stdout.
_STARTED = """
import importlib, sys
module = importlib.import_module(f"rora_cli.commands.{sys.argv[1]}")
class Heard:
    note = staticmethod(print)
def stop(*_):
    sys.exit("torch is there already" if "torch" in sys.modules else 0)
module.in_processes = stop
module.run(getattr(module, f"{sys.argv[1].capitalize()}Config")(model=sys.argv[2], clean="bundled"), Heard())
"""


@pytest.mark.parametrize(("command", "steps"), [("hunt", "load, search;"), ("purify", "load, search, train, ")])
def test_what_a_run_will_do_is_said_before_torch_is_loaded(command: str, steps: str, tiny_classifier: Path) -> None:
    asked = [sys.executable, "-c", _STARTED, command, str(tiny_classifier)]
    started = subprocess.run(asked, capture_output=True, text=True, timeout=120)
    assert (started.returncode, started.stderr) == (0, "")
    assert re.search(r"\(39,\d+ parameters, .* kB\), in \d steps: " + steps, started.stdout)


def test_a_containers_limit_counts(tmp_path: Path) -> None:
    whole = total_memory(tmp_path)
    (tmp_path / "memory.max").write_text("max\n")
    assert total_memory(tmp_path) == whole
    (tmp_path / "memory.max").write_text("1000000\n")
    assert total_memory(tmp_path) == 1_000_000
    shutil.rmtree(tmp_path)
