from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch

from rora_cli.checkpoints.ancestry import descends, named_ancestor, suggestion
from rora_cli.checkpoints.loading import load_classifier
from rora_cli.checkpoints.preflight import inspect
from tests.conftest import build_tiny_classifier


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_classifier(tmp_path_factory.mktemp("named") / "model")


@pytest.mark.parametrize(
    ("card", "ancestor"),
    [
        (
            "---\nlicense: mit\nbase_model: google-bert/bert-base-uncased\n---\n# A model\n",
            "google-bert/bert-base-uncased",
        ),
        ("---\r\nbase_model:\r\n- 'owner/name'\r\ntags: [a]\r\n---\r\n", "owner/name"),
        ("---\nlicense: mit\n---\nbase_model: owner/name\n", None),  # text, not front matter
        ("---\nbase_model: ../../etc/passwd\n---\n", None),
        ("---\nbase_model: owner/\x1b[31mred\n---\n", None),
        ("---\nbase_model: bert\n---\n", None),
        ("no front matter", None),
        ("---\n" + "a: b\n" * 10_000 + "base_model: owner/name\n---\n", None),  # beyond what is read
    ],
)
def test_the_card_names_it(checkpoint: Path, card: str, ancestor: str | None) -> None:
    (checkpoint / "README.md").write_bytes(card.encode())
    assert named_ancestor(inspect(checkpoint, role="model")) == ancestor


@pytest.mark.parametrize(
    ("name", "ancestor"), [("owner/name", "owner/name"), ("/home/me/model", None), (["x/y"], None)]
)
def test_the_config_names_it(checkpoint: Path, name: object, ancestor: str | None) -> None:
    (checkpoint / "README.md").unlink(missing_ok=True)
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps({**config, "_name_or_path": name}))
    assert named_ancestor(inspect(checkpoint, role="model")) == ancestor


def test_the_suggestion_says_what_to_type() -> None:
    assert "--ancestor owner/name" in (suggestion("owner/name").advice or "")


def test_weights_tell_who_was_trained_from_whom(checkpoint: Path, tmp_path: Path) -> None:
    ancestor = load_classifier(checkpoint).model
    tuned = copy.deepcopy(ancestor)
    with torch.no_grad():
        for weight in tuned.parameters():
            weight += 0.05 * weight.std() * torch.randn_like(weight)
        tuned.classifier.weight.normal_()  # a new head
    assert descends(tuned, ancestor)
    stranger = load_classifier(build_tiny_classifier(tmp_path / "stranger", seed=99)).model
    assert not descends(stranger, ancestor)
    assert not descends(torch.nn.Linear(2, 2), ancestor)
