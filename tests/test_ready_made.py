"""The ready-made parts for CI, as far as they can be held without the systems that they are for."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def test_the_image_runs_as_nobody_in_particular_and_offline() -> None:
    last = DOCKERFILE.split("\nFROM ")[-1]
    assert re.search(r"^USER 10001:10001$", last, re.MULTILINE) and "HF_HUB_OFFLINE=1" in last
    assert "pip install" not in last and "curl" not in DOCKERFILE


def test_the_image_is_built_from_files_that_are_there_and_sent() -> None:
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [line.split()[1:-1] for line in DOCKERFILE.splitlines() if re.match(r"COPY (?!--from)", line)]
    names = [name for line in copied for name in line]
    assert names and set(names) == sent and all((ROOT / name).exists() for name in names)


def test_the_light_set_is_made_of_packages_that_rora_requires() -> None:
    light = re.search(r"constraints.txt (typer .*?);", DOCKERFILE)
    assert light is not None
    required = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert set(light[1].split()) < {Requirement(text).name for text in required}
    page = (ROOT / "docs" / "in-ci.md").read_text()
    documented = re.search(r"pip install --no-deps rora-cli && pip install (.*)", page)
    assert documented is not None and set(documented[1].split()) == set(light[1].split())


def test_the_action_gives_inputs_to_the_shell_as_variables_only() -> None:
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    steps = action["runs"]["steps"]
    assert action["runs"]["using"] == "composite" and all("${{" not in step["run"] for step in steps)
