"""``rora check owner/name``: what is on the hub is inspected where it lies, by range requests."""

from __future__ import annotations

import io
import os
import pickle
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

import rora_cli
from rora_cli.checkpoints import remote
from rora_cli.checkpoints.hub import fetch_model
from rora_cli.commands.check import exit_code
from rora_cli.errors import CheckpointError, HubError, UsageError
from tests.hub_stand_in import StandInHub, StandInRepository
from tests.integration.test_hub import hub  # noqa: F401 - a fixture


class Trap:
    def __reduce__(self) -> Any:
        return os.system, ("true",)


def archive(payload: Any, megabytes: int) -> bytes:
    """What torch.save writes: a zip of a pickle and, behind it, storages."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as members:
        members.writestr("archive/data.pkl", pickle.dumps(payload, protocol=2))
        for i in range(megabytes):
            members.writestr(f"archive/data/{i}", bytes(1 << 20))
    return out.getvalue()


@pytest.fixture
def files(tiny_classifier: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in tiny_classifier.iterdir()}


def serve(hub: StandInHub, files: dict[str, bytes], **how: Any) -> StandInRepository:  # noqa: F811
    repository = StandInRepository({"main": files}, **how)
    hub.repositories["models", "owner/model"] = repository
    return repository


def test_a_model_on_the_hub_is_what_its_copy_on_disk_is(
    hub: StandInHub,  # noqa: F811
    files: dict[str, bytes],
    tiny_classifier: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    large = save({"wide.weight": np.zeros((4096, 512), "f4")}, {"format": "pt"})
    repository = serve(hub, files | {"wide.safetensors": large})
    (tmp_path / "copy").mkdir()
    for name, content in (files | {"wide.safetensors": large}).items():
        (tmp_path / "copy" / name).write_bytes(content)
    there, here = rora_cli.check("owner/model"), rora_cli.check(str(tmp_path / "copy"))
    for ours, theirs in zip(there.checkpoints, here.checkpoints, strict=True):
        assert (ours.tensors, ours.parameters, ours.bytes, ours.inventory) == (
            theirs.tensors, theirs.parameters, theirs.bytes, theirs.inventory,
        )  # fmt: skip
        assert ours.findings == theirs.findings and exit_code(there, "medium") == exit_code(here, "medium")
    assert there.provenance.config["commits"] == {"owner/model": repository.commit("main")}
    assert hub.sent < len(large) / 4, "weights are not fetched"
    assert not (tmp_path / "cache").exists() and not list((tmp_path / "scratch").iterdir()), "nothing is kept"


def test_a_trap_in_a_large_pickle_is_found_in_its_place(
    hub: StandInHub,  # noqa: F811
    files: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trapped, honest = archive([Trap(), {}], 6), archive({"a": 1}, 6)
    serve(hub, files | {"pytorch_model.bin": trapped, "optimizer.pt": honest, "evil.py": b"x = 1"})
    result = rora_cli.check("owner/model")
    assert exit_code(result, "high") == 1
    told = {(f.rule_id, f.location) for f in result.findings if f.severity}
    assert told == {("file/pickle-dangerous", "pytorch_model.bin"), ("file/code", "evil.py")}
    assert hub.sent < 2 << 20
    monkeypatch.setattr(remote, "_MAX_PARTS", 1)
    assert exit_code(rora_cli.check("owner/model", ignore=["file/code"]), "high") == 3, "not all was read"


def test_weights_that_are_none_are_named(hub: StandInHub, files: dict[str, bytes]) -> None:  # noqa: F811
    for content, rule in (
        (files["model.safetensors"][:5000], "weights/malformed"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "file/stand-in"),
        ((1 << 40).to_bytes(8, "little") + bytes(8000), "weights/malformed"),
    ):
        serve(hub, files | {"model.safetensors": content})
        result = rora_cli.check("owner/model")
        assert rule in {f.rule_id for f in result.findings} and exit_code(result, "medium")


def test_what_the_hub_does_not_give_is_a_sentence(
    hub: StandInHub,  # noqa: F811
    files: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from huggingface_hub import constants

    serve(hub, files, breaks={"config.json": "corrupt"})
    with pytest.raises(HubError, match=r"config\.json of owner/model is not what the hub announced"):
        rora_cli.check("owner/model")
    serve(hub, files, gated=True)
    with pytest.raises(HubError, match="gated"):
        rora_cli.check("owner/model")
    with pytest.raises(HubError, match="no model owner/other"):
        rora_cli.check("owner/other")
    with pytest.raises(HubError, match="no revision 'v9'"):
        rora_cli.check("owner/model", revision="v9")
    with pytest.raises(UsageError, match="download it first"):
        rora_cli.check("owner/model", values=True)
    serve(hub, files)
    hub.gives_parts = False
    with pytest.raises(HubError, match=r"does not give parts of model\.safetensors"):
        rora_cli.check("owner/model")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match="the hub is not to be asked"):
        rora_cli.check("owner/model")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(CheckpointError, match="the hub is not to be asked"):
        rora_cli.check("owner/model", offline=True)
    serve(hub, files)
    fetch_model("owner/model")
    sent = hub.sent
    assert exit_code(rora_cli.check("owner/model", offline=True), "low") == 0 and hub.sent == sent


def test_a_renamed_repository_and_a_base_on_the_hub(hub: StandInHub, files: dict[str, bytes]) -> None:  # noqa: F811
    serve(hub, files)
    hub.renamed["models", "old/model"] = "owner/model"
    result = rora_cli.check("old/model", base="owner/model")
    assert exit_code(result, "low") == 0 and set(result.provenance.config["commits"]) == {"old/model", "owner/model"}
