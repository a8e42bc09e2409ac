"""``rora diagnose`` on hub ids: a stand-in on loopback that serves a base and an adapter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.adapters import save_lora, tiny_distilbert
from tests.hub_stand_in import StandInHub, StandInRepository, running


def _repository(directory: Path, branch: str = "main") -> StandInRepository:
    files = {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}
    return StandInRepository({branch: files})


def test_an_adapter_and_its_base_on_the_hub_are_fetched_once_and_their_commits_told(tmp_path: Path) -> None:
    base = tiny_distilbert(tmp_path / "base")
    save_lora(base, tmp_path / "adapter", target_modules=["q_lin", "v_lin"])
    with running(StandInHub()) as hub:
        hub.repositories["models", "owner/base"] = _repository(tmp_path / "base")
        hub.repositories["models", "owner/adapter"] = _repository(tmp_path / "adapter", "v1")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")} | {
            "HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "home"), "NO_PROXY": "127.0.0.1",
            "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1",
        }  # fmt: skip

        def diagnose(*options: str, code: int = 0) -> dict[str, Any]:
            command = [sys.executable, "-m", "rora_cli", "diagnose", "owner/adapter", "--base", "owner/base", "-q"]
            command += ["--revision", "v1", "--no-cache", "--format", "json", *options]
            done = subprocess.run(
                command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=240
            )  # fmt: skip
            assert done.returncode == code, done.stderr
            return json.loads(done.stdout) if code in (0, 1) else {"error": done.stderr}

        report = diagnose()
        assert report["adapters"][0]["coverage"]["modules_with_base"] == 8
        commits = {name: hub.repositories["models", f"owner/{name}"].commit(branch)
                   for name, branch in (("adapter", "v1"), ("base", "main"))}  # fmt: skip
        assert report["provenance"]["config"]["commits"] == {f"owner/{k}": v for k, v in commits.items()}
        requests = len(hub.requests)
        assert diagnose("--offline")["adapters"] == report["adapters"]
        assert len(hub.requests) == requests
        assert "no-such" in diagnose("--revision", "no-such", code=2)["error"]
