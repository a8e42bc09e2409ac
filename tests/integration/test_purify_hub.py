"""The main command against a hub: a stand-in on loopback that serves one model and one data set."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hub_stand_in import StandInHub, StandInRepository, running


def _repository(directory: Path) -> StandInRepository:
    files = {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}
    return StandInRepository({"main": files})


@pytest.mark.slow
def test_a_hub_model_is_purified_on_hub_data_and_later_offline(trained: Path, clean: Path, tmp_path: Path) -> None:
    with running(StandInHub()) as hub:
        hub.repositories["models", "owner/suspect"] = _repository(trained)
        hub.repositories["datasets", "owner/rows"] = _repository(clean)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")} | {
            "HF_ENDPOINT": hub.endpoint,
            "HF_HOME": str(tmp_path / "home"),
            "NO_PROXY": "127.0.0.1",
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "OMP_NUM_THREADS": "1",
        }

        def purify(out: str, *options: str, **more: str) -> subprocess.CompletedProcess[str]:
            command = [sys.executable, "-m", "rora_cli", "purify", "owner/suspect", "--clean", "owner/rows"]
            command += ["--recipe", "lora", "--epochs", "1", "--device", "cpu", "-o", out, *options]
            return subprocess.run(
                command, capture_output=True, text=True, env=environment | more, cwd=tmp_path, timeout=240
            )

        done = purify("out", "--revision", "main")
        assert done.returncode == 0, done.stderr
        config = json.loads((tmp_path / "out/rora-report.json").read_text())["provenance"]["config"]
        assert config["model_commit"] == hub.repositories["models", "owner/suspect"].commit("main")
        adapter = json.loads((tmp_path / "out/adapter/adapter_config.json").read_text())
        assert adapter["base_model_name_or_path"] == "owner/suspect"
        requests = len(hub.requests)
        again = purify("again", "--offline", HF_HUB_OFFLINE="1")
        assert again.returncode == 0, again.stderr
        assert len(hub.requests) == requests
        unknown = purify("never", "--revision", "no-such-branch")
        assert unknown.returncode == 2 and "no-such-branch" in unknown.stderr and not (tmp_path / "never").exists()
    assert (tmp_path / "out/model.safetensors").read_bytes() == (tmp_path / "again/model.safetensors").read_bytes()
