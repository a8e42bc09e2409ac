"""How many threads torch gets, on a machine whose cores and load the tests make up."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rora_cli import threads
from rora_cli.threads import DECIDED_BY, ThreadChoice, allowed_cores, free_cores


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Four cores, bound to the first three of them, without a quota; the statistics are still to be written."""
    monkeypatch.setattr(threads, "_STATISTICS", tmp_path / "stat")
    monkeypatch.setattr(threads, "_CGROUP", tmp_path)
    monkeypatch.setattr(threads, "_bound_to", lambda: {0, 1, 2})
    for name in DECIDED_BY:
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def _load(machine: Path, monkeypatch: pytest.MonkeyPatch, *busy: float) -> None:
    """Each look at the statistics is 100 ticks after the last one; ``busy`` [cores] is the load of each core."""
    looks = iter(range(1, 1000))

    def idle_ticks(path: Path) -> str:
        look = next(looks)
        lines = ["cpu  9 9 9 9 9 9 9 9 9 9"]
        for core, load in enumerate(busy):
            lines.append(f"cpu{core} {round(100 * load) * look} 0 0 {round(100 * (1 - load)) * look} 0 0 0 0 0 0")
        return "\n".join([*lines, "intr 5"])

    monkeypatch.setattr(threads, "_STATISTICS", type("Statistics", (), {"read_text": idle_ticks})())
    monkeypatch.setattr(threads.time, "sleep", lambda _: None)


def test_the_work_of_others_on_its_own_cores_is_not_free(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _load(machine, monkeypatch, 1.0, 0.25, 0.0, 1.0)
    assert free_cores() == pytest.approx(1.75)


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, 3.0),
        ({"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 0.5),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3.0),
        ({"cpu.max": "no number\n"}, 3.0),
        ({}, 3.0),
    ],
)
def test_a_quota_of_the_control_group_counts(machine: Path, files: dict[str, str], cores: float) -> None:
    for name, text in files.items():
        (machine / name).parent.mkdir(exist_ok=True)
        (machine / name).write_text(text)
    assert allowed_cores() == cores


def test_without_statistics_the_load_average_is_taken(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads.os, "getloadavg", lambda: (2.5, 0, 0), raising=False)
    assert free_cores() == 0.5
    monkeypatch.setattr(threads.os, "getloadavg", lambda: (7.0, 0, 0), raising=False)
    assert free_cores() == 0.0


@pytest.mark.parametrize(("busy", "chosen"), [((0, 0, 0), 3), ((1, 0.3, 0), 2), ((1, 1, 1), 1)])
def test_torch_gets_as_many_threads_as_cores_are_free(
    machine: Path, monkeypatch: pytest.MonkeyPatch, busy: tuple[float, ...], chosen: int
) -> None:
    _load(machine, monkeypatch, *busy)
    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    choice = ThreadChoice(most=8)
    choice.choose()
    assert not asked, "who calls rora from Python has threads of their own"
    choice.switch_on()
    choice.choose()
    choice.choose()
    assert asked == [chosen], "a recent choice holds"


@pytest.mark.parametrize("name", DECIDED_BY)
def test_who_set_the_threads_keeps_them(machine: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "2")
    choice = ThreadChoice(most=8)
    choice.switch_on()
    assert not choice.on
