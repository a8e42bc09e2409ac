from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rora_cli.data.rows import Rows
from rora_cli.errors import HubError, UsageError
from rora_cli.kinds import SEQUENCE_CLASSIFIER
from rora_cli.subject import Subject
from rora_cli.tasks import reference as references
from rora_cli.tasks.classification import reference as making
from rora_cli.tasks.reference import Reference, ReferenceRun
from tests.conftest import build_tiny_classifier, tiny_rows
from tests.families import build_family


def test_a_reference_that_does_not_know_a_label_is_trained_anew_for_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModel, AutoTokenizer

    directory = build_tiny_classifier(tmp_path / "tiny")
    model = AutoModel.from_pretrained(directory)
    AutoModel.from_pretrained(directory).save_pretrained(directory)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    texts, labels = tiny_rows(60)
    epochs: list[int] = []

    def train(*args: Any, **_: Any) -> None:
        epochs.append(args[2].epochs)

    monkeypatch.setattr("rora_cli.training.loop.finetune", train)
    rows = Rows(tuple(texts), tuple(labels))

    def description(knows: list[bool]) -> str:
        epochs.clear()
        monkeypatch.setattr(making, "_knows_every_label", lambda *_: knows.pop(0))
        subject = Subject(model, tokenizer, SEQUENCE_CLASSIFIER, 128)
        return making.make_reference(str(directory), subject, rows, ("no", "yes"), ReferenceRun()).description

    assert "2 epochs" in description([True]) and epochs == [2]
    assert "4 epochs" in description([False, True]) and epochs == [2, 4]
    assert "8 epochs" in description([False, False, False]) and epochs == [2, 4, 8], "then it is as good as it gets"


def test_a_reference_is_a_directory_or_a_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from rora_cli.checkpoints.hub import ModelSource

    directory = build_tiny_classifier(tmp_path / "tiny")
    model = AutoModelForSequenceClassification.from_pretrained(directory)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    rows = Rows(*(tuple(part) for part in tiny_rows(40)))

    def prepare(choice: str, **options: Any) -> Reference:
        subject = Subject(model, tokenizer, SEQUENCE_CLASSIFIER, 128)
        return making.make_reference(choice, subject, rows, ("negative", "positive"), ReferenceRun(**options))

    asked: list[tuple[str, bool]] = []

    def fetch(name: str, *, allow_download: bool) -> ModelSource:
        asked.append((name, allow_download))
        return ModelSource(directory, name)

    with pytest.raises(HubError, match="hub's cache"):
        prepare("owner/name", allow_download=False)
    for nothing in (str(tmp_path / "nowhere"), "no such thing"):
        with pytest.raises(UsageError, match="is no checkpoint; name a directory or a hub id"):
            prepare(nothing)
    with pytest.raises(UsageError, match="is no directory"):
        prepare(str(directory / "config.json"))
    monkeypatch.setattr("rora_cli.checkpoints.hub.fetch_model", fetch)
    assert prepare("owner/name").description == "the trusted checkpoint owner/name, as it stands"
    assert asked == [("owner/name", True)]


def test_what_it_costs_that_no_model_of_the_suspects_line_is_at_hand_is_said(tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    own = build_tiny_classifier(tmp_path / "own")
    other = build_tiny_classifier(tmp_path / "other", seed=1)
    model = AutoModelForSequenceClassification.from_pretrained(own)
    tokenizer = AutoTokenizer.from_pretrained(own)
    rows = Rows(*(tuple(part) for part in tiny_rows(40)))

    def prepare(choice: str) -> Reference:
        subject = Subject(model, tokenizer, SEQUENCE_CLASSIFIER, 128)
        return making.make_reference(choice, subject, rows, ("negative", "positive"), ReferenceRun())

    assert prepare(str(own)).limits == prepare(str(own)).advice == ""
    assert "the suspect was not trained from the reference" in prepare(str(other)).limits
    words = prepare("auto")
    assert "bag of words and no trusted model of the suspect's line" in words.limits
    assert "--reference with the directory or hub id" in words.advice and "architecture bert" in words.advice


def test_the_packaged_encoder_serves_suspects_of_any_family_that_are_not_far_smaller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By text: here its vocabulary is another than the suspect's. A bag of words is the last resort."""
    from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

    package = build_tiny_classifier(tmp_path / "package")
    AutoModel.from_pretrained(package).save_pretrained(package)
    digest = sha256((package / "model.safetensors").read_bytes()).hexdigest()
    monkeypatch.setattr(references.PackagedEncoder, "path", lambda self: package)
    monkeypatch.setattr(references, "PACKAGED", (references.PackagedEncoder("p", "f", digest),))
    monkeypatch.setattr("rora_cli.training.loop.finetune", lambda *_, **__: None)
    directory = build_family("gpt2", tmp_path / "suspect")
    model = AutoModelForSequenceClassification.from_pretrained(directory)
    suspect = Subject(model, AutoTokenizer.from_pretrained(directory), SEQUENCE_CLASSIFIER, 48)
    rows = Rows(*(tuple(part) for part in tiny_rows(40)))

    def prepare(choice: str, knows: bool = True) -> Reference:
        monkeypatch.setattr(making, "_knows_every_label", lambda *_: knows)
        return making.make_reference(choice, suspect, rows, ("negative", "positive"), ReferenceRun())

    auto = prepare("auto")
    assert auto.trusted_encoder and auto.embeddings is None and "not trained from the reference" in auto.limits
    assert np.isfinite(auto.scorer(suspect.tokenizer(["a film"])["input_ids"]).log_odds(1)).all()
    assert prepare("auto", knows=False).is_linear, "it does not read the rows"
    assert not prepare(str(package), knows=False).is_linear, "the user named it"
    monkeypatch.setattr(references, "SMALLEST_PART", 50.0)
    assert prepare("auto").is_linear, "the suspect is far smaller"
