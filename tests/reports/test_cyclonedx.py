"""The bill of materials: valid by CycloneDX's own schema, with every file's hash and every finding."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import rora_cli


class Trap:
    def __reduce__(self) -> Any:
        return os.system, ("true",)


def test_a_bill_of_materials_is_valid_and_whole(tmp_path: Path, tiny_classifier: Path) -> None:
    pytest.importorskip("cyclonedx", reason="cyclonedx-python-lib is not installed")
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    from rora_cli.reports.cyclonedx import render

    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "optimizer.pt").write_bytes(pickle.dumps(Trap()))
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    result = rora_cli.check(str(tiny_classifier), str(tmp_path / "adapter"), hashes=True)
    text = render(result)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bom = json.loads(text)
    assert {c["type"] for c in bom["components"]} == {"machine-learning-model"}
    listed = {c["name"]: {f["name"]: f["hashes"][0]["content"] for f in c["components"]} for c in bom["components"]}
    files = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in tiny_classifier.iterdir()}
    assert listed[str(tiny_classifier)] == files
    assert sorted(v["id"] for v in bom["vulnerabilities"]) == sorted(f.rule_id for f in result.findings if f.severity)
    trap = next(v for v in bom["vulnerabilities"] if v["id"] == "file/pickle-dangerous")
    assert trap["affects"] == [{"ref": "checkpoint-1/optimizer.pt"}] and trap["ratings"][0]["severity"] == "high"


def test_without_the_library_it_is_a_sentence(tmp_path: Path, tiny_classifier: Path) -> None:
    script = (
        "import importlib.abc, sys\n"
        "class Missing(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] == 'cyclonedx':\n"
        "            raise ModuleNotFoundError(name=name.partition('.')[0])\n"
        "sys.meta_path.insert(0, Missing())\n"
        "from rora_cli.cli.app import run\n"
        f"sys.argv = ['rora', 'check', {str(tiny_classifier)!r}, '-q', '--format', 'cyclonedx']\n"
        "run()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and done.stdout == ""
    assert "`pip install cyclonedx-python-lib` adds it" in done.stderr
