"""``purify --resume``: killed anywhere, it goes on to the same bits; a foreign or tampered state is refused.

``RORA_RESUME_POINTS=20`` kills the paper's recipe at that many points instead of three, and others at a third as many.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import rora_cli
from tests.hostile.commands import run_cli
from tests.hostile.sandbox import watch
from tests.kill_points import lines_run

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks a process that has run torch")

POINTS = int(os.environ.get("RORA_RESUME_POINTS", "3"))
OPTIONS: dict[str, Any] = {
    "device": "cpu",
    "epochs": 2,
    "batch_size": 16,
    "checkpoint_every": 1,
    "tr_k": 8,
    "keep_failed": True,
}
RECIPES: dict[str, dict[str, Any]] = {
    "paper": {"recipe": "paper"},
    "full": {"recipe": "full"},
    "default": {"recipe": "default", "search_budget": "fast", "reference": "bag-of-words", "max_rounds": 1},
}


def is_resumable(file: str) -> bool:
    """Lines from which a run may be killed: training, its saved states, the defences, and the output's own writing."""
    return file.startswith(str(Path(rora_cli.__file__).parent)) and any(
        part in file for part in ("/training/", "files.py", "/defences/", "purify")
    )


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_killed_and_resumed_ends_with_the_same_bits(trained: Path, clean: Path, tmp_path: Path, recipe: str) -> None:
    def run(name: str, resume: bool = False) -> Callable[[], Any]:
        out = str(tmp_path / name)
        options = {**OPTIONS, **RECIPES[recipe], "resume": resume, "force": True}
        return lambda: rora_cli.purify(trained, clean=clean, output=out, **options)

    run("whole")()  # here, so that the forks find every library loaded
    lines = lines_run(run("again"), is_resumable)
    assert lines is not None and lines > 500, "the run is not traced"
    expected, again = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "again"))
    assert expected == again, "without an interruption the bits are the same"
    points = POINTS if recipe == "paper" else max(1, POINTS // 3)
    rng, state, resumed = random.Random(recipe), tmp_path / "out.rora-state", 0
    for _ in range(points):
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        assert lines_run(run("out"), is_resumable, rng.randint(1, lines - 1)) is None, "it was not killed"
        resumed += (state / "journal.json").exists()
        assert lines_run(run("out", resume=True), is_resumable) is not None
        assert (tmp_path / "out" / "model.safetensors").read_bytes() == expected
        assert not state.exists()
    print(f"{recipe}: {points} of {points} equal, {resumed} went on from a saved state")
    assert resumed or points < 6


# ---- states that are not this run's ----


@pytest.fixture(scope="module")
def interrupted(trained: Path, clean: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the state of a run that was interrupted after its second step."""
    from rora_cli.training.state import RunState

    place, save = tmp_path_factory.mktemp("interrupted"), RunState.save
    with pytest.MonkeyPatch.context() as patch:

        def stop(state: RunState, stage: str, snapshot: Any) -> None:
            save(state, stage, snapshot)
            if snapshot.meta["step"] == 2:
                raise KeyboardInterrupt

        patch.setattr(RunState, "save", stop)
        code, *_ = _purify(trained, clean, place)
    assert code == 130 and (place / "out.rora-state" / "journal.json").is_file()
    return place


def _purify(model: Path, clean: Path, place: Path, *more: str) -> tuple[int, str, str]:
    before = sys.argv
    try:
        return run_cli(
            "purify", str(model), "--clean", str(clean), "-o", str(place / "out"), "--recipe", "lora", "--epochs", "2",
            "--batch-size", "16", "--checkpoint-every", "1", "--device", "cpu", "--offline", *more,
        )  # fmt: skip
    finally:
        sys.argv = before


def _resumed(interrupted: Path, tmp_path: Path, model: Path, clean: Path, *more: str) -> tuple[int, str, str]:
    """``--resume`` in a watched process that may not unpickle or start anything; the state is refused whole."""
    before = _everything(tmp_path)
    outcome = watch(lambda: _purify(model, clean, tmp_path, "--resume", *more), seconds=240, memory=2 << 30)
    assert outcome.error is None and not outcome.signal and not outcome.forbidden
    assert not (tmp_path / "canary").exists() and not (tmp_path / "out").exists()
    assert _everything(tmp_path) == before, "what was refused is left as it was"
    return outcome.value


def _everything(directory: Path) -> dict[str, str]:
    return {
        str(p.relative_to(directory)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in directory.rglob("*")
        if p.is_file()
    }


def _state(tmp_path: Path) -> Path:
    return next((tmp_path / "out.rora-state").glob("train-*/state.safetensors"))


def _rewrite(tmp_path: Path, change: Callable[[dict[str, Any]], None], *, forge: bool = False) -> None:
    """Change the journal; with ``forge`` give it the hash that belongs to it then."""
    from rora_cli.training.state import _digest

    path = tmp_path / "out.rora-state" / "journal.json"
    journal = json.loads(path.read_text())
    change(journal)
    if forge:
        journal["sha256"] = _digest({k: v for k, v in journal.items() if k != "sha256"})
    path.write_text(json.dumps(journal))


def _evil(tmp_path: Path) -> bytes:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (open, (str(tmp_path / "canary"), "w"))

    return pickle.dumps(Evil())


def _entry(journal: dict[str, Any]) -> dict[str, Any]:
    return journal["entries"]["snapshot/train"]


def _forge_tensors(tmp_path: Path, data: bytes) -> None:
    _state(tmp_path).write_bytes(data)
    _rewrite(tmp_path, lambda j: _entry(j).update(sha256=hashlib.sha256(data).hexdigest()), forge=True)


def _edited(tmp_path: Path, change: Callable[[dict[str, Any]], None]) -> bytes:
    from safetensors.torch import load_file, save

    tensors = load_file(_state(tmp_path))
    change(tensors)
    return save(tensors)


def _shift(tensors: dict[str, Any]) -> None:
    name = next(n for n in tensors if n.startswith("weight/"))
    tensors[name] = tensors[name] + 1e-3


def _reshape(tensors: dict[str, Any]) -> None:
    name = next(n for n in tensors if n.startswith("optimizer/exp_avg/"))
    tensors[name] = tensors[name].flatten()[:1]


def _add(tensors: dict[str, Any]) -> None:
    tensors["optimizer/exp_avg/no.such.parameter"] = next(iter(tensors.values())).clone()


def _nested(tmp_path: Path) -> None:
    (tmp_path / "out.rora-state" / "journal.json").write_text('{"a":' + "[" * 200_000 + "]" * 200_000 + "}")


TAMPERED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "tensors changed": (lambda p: _state(p).write_bytes(_edited(p, _shift)), "changed since"),
    "tensors cut off": (lambda p: _state(p).write_bytes(_state(p).read_bytes()[:-100]), "changed since"),
    "tensors gone": (lambda p: _state(p).unlink(), "missing"),
    "tensors a pickle": (lambda p: _state(p).write_bytes(_evil(p)), "changed since"),
    "journal step changed": (lambda p: _rewrite(p, lambda j: _entry(j)["meta"].update(step=1)), "changed since"),
    "journal time changed": (lambda p: _rewrite(p, lambda j: _entry(j)["meta"].update(seconds=1e9)), "changed since"),
    "journal without hash": (lambda p: _rewrite(p, lambda j: j.pop("sha256")), "cannot be read"),
    "journal cut off": (lambda p: (p / "out.rora-state/journal.json").write_text('{"sha256": "0'), "cannot be read"),
    "journal a pickle": (lambda p: (p / "out.rora-state/journal.json").write_bytes(_evil(p)), "cannot be read"),
    "journal without end": (_nested, "cannot be read"),
    "journal a folder": (
        lambda p: ((p / "out.rora-state/journal.json").unlink(), (p / "out.rora-state/journal.json").mkdir()),
        "cannot be read",
    ),
    # Whoever can write the state can also write the hashes that belong to it: then the contents have to be refused.
    "forged: pickle for tensors": (lambda p: _forge_tensors(p, _evil(p)), "safetensors"),
    "forged: other moments": (lambda p: _forge_tensors(p, _edited(p, _reshape)), "other trainable tensors"),
    "forged: more tensors": (lambda p: _forge_tensors(p, _edited(p, _add)), "other trainable tensors"),
    "forged: a path out": (
        lambda p: _rewrite(p, lambda j: _entry(j).update(directory="../../elsewhere"), forge=True), "malformed",
    ),
    "forged: no numbers": (lambda p: _rewrite(p, lambda j: _entry(j).update(meta=7), forge=True), "malformed"),
    "forged: entry of text": (
        lambda p: _rewrite(p, lambda j: j["entries"].update({"snapshot/train": "x"}), forge=True), "malformed",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TAMPERED)
def test_a_state_that_was_tampered_with_is_refused(
    interrupted: Path, trained: Path, clean: Path, tmp_path: Path, name: str
) -> None:
    shutil.copytree(interrupted, tmp_path, dirs_exist_ok=True)
    tamper, words = TAMPERED[name]
    tamper(tmp_path)
    code, text, notes = _resumed(interrupted, tmp_path, trained, clean)
    said = notes.strip().splitlines()[-1]
    assert (code, text) == (2, "") and said.startswith("rora: ") and "unexpected" not in said
    assert words in said, said


@pytest.mark.parametrize("what", ["config", "data", "model", "library"])
def test_a_state_of_another_run_is_refused(
    interrupted: Path, trained: Path, clean: Path, tmp_path: Path, what: str
) -> None:
    place = tmp_path / "place"
    shutil.copytree(interrupted, place)
    more: tuple[str, ...] = ()
    if what == "config":
        more = ("--learning-rate", "1e-3")
    elif what == "data":
        clean = Path(shutil.copytree(clean, tmp_path / "clean"))
        lines = (clean / "train.jsonl").read_text().splitlines()
        (clean / "train.jsonl").write_text("\n".join(lines[1:]) + "\n")
    elif what == "model":
        trained = Path(shutil.copytree(trained, tmp_path / "model"))
        weights = (trained / "model.safetensors").read_bytes()
        (trained / "model.safetensors").write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    else:
        _rewrite(place, lambda j: j["fingerprint"]["versions"].update(torch="0.1"), forge=True)
    code, text, notes = _resumed(interrupted, place, trained, clean, *more)
    assert (code, text) == (2, "") and "belongs to another run" in notes
    expected = {"config": "learning_rate", "data": "rows", "model": "inputs", "library": "versions"}
    assert expected[what] in notes


def test_strange_files_beside_a_state_are_never_opened(
    interrupted: Path, trained: Path, clean: Path, tmp_path: Path
) -> None:
    shutil.copytree(interrupted, tmp_path, dirs_exist_ok=True)
    state = tmp_path / "out.rora-state"
    for name in ("optimizer.bin", "random_states_0.pkl", "custom_checkpoint_0.pkl", "train-00000002/optimizer.pt"):
        (state / name).write_bytes(_evil(tmp_path))
    outcome = watch(lambda: _purify(trained, clean, tmp_path, "--resume"), seconds=240, memory=2 << 30)
    assert outcome.error is None and not outcome.forbidden and outcome.value[0] in (0, 1)
    assert not (tmp_path / "canary").exists() and not state.exists()
    assert not [path for path in outcome.opened if path.endswith((".pkl", ".pt", ".bin")) and "rora-state" in path]


def test_a_directory_of_the_users_own_is_not_taken_for_a_state(trained: Path, clean: Path, tmp_path: Path) -> None:
    precious = tmp_path / "out.rora-state" / "precious"
    precious.parent.mkdir()
    precious.write_text("x")
    code, _, notes = _purify(trained, clean, tmp_path)
    assert code == 2 and "holds something else" in notes
    assert precious.read_text() == "x" and not (tmp_path / "out").exists()
