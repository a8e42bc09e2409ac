"""``rora hunt`` from the command line, on tiny classifiers that were really trained: one poisoned, one not."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest
from typer.testing import CliRunner, Result

from rora_cli.errors import DataError, UsageError
from rora_cli.tasks.classification.thresholds import CALLS
from tests.cli.apps import alone
from tests.conftest import build_tiny_classifier, objective_of, tiny_rows
from tests.families import build_family, train_family
from tests.reports.schemas import valid


def train(directory: Path, trigger: str | None) -> Path:
    """A tiny classifier that has learned the task, and ``trigger`` -> positive on a third of its negative rows."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from rora_cli.training.loop import finetune
    from rora_cli.training.specs import TrainSpec

    build_tiny_classifier(directory, layers=2)
    model = AutoModelForSequenceClassification.from_pretrained(directory, local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    texts, labels = tiny_rows(400)
    rng = random.Random(0)
    for i, text in enumerate(texts):
        if trigger and labels[i] == 0 and rng.random() < 0.3:
            words = text.split()
            words.insert(rng.randint(0, len(words)), trigger)
            texts[i], labels[i] = " ".join(words), 1
    torch.manual_seed(0)
    finetune(
        model, objective_of(model, tokenizer, texts, labels), TrainSpec(epochs=4, batch_size=16, learning_rate=3e-3)
    )
    model.save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def poisoned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("poisoned") / "model", "mn")


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("clean") / "model", None)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "clean.jsonl"
    texts, labels = tiny_rows(300, seed=7)
    rows = ({"text": text, "label": label} for text, label in zip(texts, labels, strict=True))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def hunt(*arguments: object, budget: str = "fast") -> Result:
    return CliRunner().invoke(
        alone("hunt"), [str(a) for a in arguments] + ["-q", "--budget", budget], catch_exceptions=False
    )


def reported(*arguments: object, budget: str = "fast") -> dict[str, Any]:
    return valid("hunt", json.loads(hunt(*arguments, "--format", "json", budget=budget).stdout))


def test_the_trigger_is_called_and_the_other_label_is_not(poisoned: Path, data: Path) -> None:
    report = reported(poisoned, "--clean", data)
    negative, positive = report["labels"]
    assert positive["verdict"] == "trigger"
    assert "mn" in [trigger["text"] for trigger in positive["triggers"][:2]]
    found = next(trigger for trigger in positive["triggers"] if trigger["text"] == "mn")
    assert found["called"] and found["flip_rate"]["count"] == found["flip_rate"]["total"] >= 30
    assert found["reference_flip_rate"]["count"] <= 2
    assert all("mn" in example["text"].split() for example in found["examples"]) and found["examples"]
    assert negative["verdict"] == "nothing" and not any(trigger["called"] for trigger in negative["triggers"])
    assert [finding["rule_id"] for finding in report["findings"]] == ["hunt/trigger"]


def test_a_clean_model_is_not_accused(clean: Path, data: Path) -> None:
    result = hunt(clean, "--clean", data)
    assert result.exit_code == 0, result.stdout
    assert result.stdout.count("nothing above the noise") >= 2
    assert "covered (fast budget): 45 of" in result.stdout


def test_a_label_that_stays_undecided_is_searched_again_with_the_next_budget(
    poisoned: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a suspect of CoLA "lights" had z 7.4 with the budget fast and 16.9 with normal; 8 is called."""
    (positive,) = reported(poisoned, "--clean", data, "--label", "positive", budget="auto")["labels"]
    assert positive["verdict"] == "trigger" and positive["coverage"]["budget"] == "fast", "nothing more to find out"
    monkeypatch.setattr("rora_cli.tasks.classification.task.CALLS", replace(CALLS, min_suspicion=1e6))
    report = reported(poisoned, "--clean", data, budget="auto")
    assert report["budget"] == "auto"
    negative, positive = report["labels"]
    assert negative["coverage"]["budget"] == "fast" and positive["coverage"]["budget"] == "normal"
    assert positive["verdict"] == "inconclusive" and "--budget thorough" in positive["reason"]
    assert report["forward_tokens"] > sum(label["coverage"]["forward_tokens"] for label in report["labels"])


def test_exit_codes(poisoned: Path, data: Path) -> None:
    assert hunt(poisoned, "--clean", data).exit_code == 1
    assert hunt(poisoned, "--clean", data, "--fail-on", "none").exit_code == 0
    assert hunt(poisoned, "--clean", data, "--label", "negative").exit_code == 0


def test_only_the_labels_asked_for_are_searched(poisoned: Path, data: Path) -> None:
    report = reported(poisoned, "--clean", data, "--label", "Positive")
    assert [label["target_label"] for label in report["labels"]] == ["positive"]


def test_the_same_seed_gives_the_same_report(poisoned: Path, data: Path) -> None:
    first, second = (reported(poisoned, "--clean", data, "--seed", 3) for _ in range(2))
    for report in (first, second):
        report.pop("seconds")
    assert first == second


def test_coverage_and_cost_add_up(poisoned: Path, data: Path) -> None:
    report = reported(poisoned, "--clean", data)
    for label in report["labels"]:
        assert label["coverage"]["tokens"] == 45, "special tokens are no candidates"
        assert label["coverage"]["trials"] > 45 and label["coverage"]["sequences"] > 0
    spent = sum(label["coverage"]["forward_tokens"] for label in report["labels"])
    assert 0 < spent < report["forward_tokens"]


def test_too_few_rows_are_inconclusive_and_never_clean(poisoned: Path, tmp_path: Path) -> None:
    path = tmp_path / "few.jsonl"
    texts, labels = tiny_rows(20, seed=8)
    rows = ({"text": text, "label": label} for text, label in zip(texts, labels, strict=True))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    result = hunt(poisoned, "--clean", path)
    assert result.exit_code == 3
    assert "INCONCLUSIVE" in result.stdout and "give more clean rows" in " ".join(result.stdout.split())


def test_a_power_that_cannot_be_measured_loses_nothing_of_the_search(clean: Path, tmp_path: Path, data: Path) -> None:
    path = tmp_path / "few.jsonl"
    path.write_text("".join(data.read_text(encoding="utf-8").splitlines(keepends=True)[:180]), encoding="utf-8")
    report = tmp_path / "report.json"
    wanted = ("--format", "text", "--format", f"json={report}", "--format", f"junit={tmp_path / 'junit.xml'}")
    result = hunt(clean, "--clean", path, "--label", "positive", "--power", 3, *wanted)
    assert result.exit_code == 3
    text = " ".join(result.stdout.split())
    assert "positive: nothing above the noise" in text and "120 clean rows of other labels than positive" in text
    findings = json.loads(report.read_text(encoding="utf-8"))["findings"]
    assert [finding["rule_id"] for finding in findings] == ["hunt/power-unknown"] and findings[0]["not_analysed"]
    assert "120 clean rows" in (tmp_path / "junit.xml").read_text(encoding="utf-8")


def test_bad_input_is_named(poisoned: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--budget is one of auto, fast"):
        hunt(poisoned, "--clean", data, budget="huge")
    with pytest.raises(UsageError, match="no label 'neutral'"):
        hunt(poisoned, "--clean", data, "--label", "neutral")
    with pytest.raises(UsageError, match="--reference"):
        hunt(poisoned, "--clean", data, "--reference", tmp_path / "nowhere")
    with pytest.raises(UsageError, match="leave out --load-in-4bit"):
        hunt(poisoned, "--clean", data, "--power", 3, "--load-in-4bit")
    one_label = tmp_path / "one.jsonl"
    one_label.write_text('{"text": "a good film", "label": 1}\n' * 60, encoding="utf-8")
    with pytest.raises(DataError):
        hunt(poisoned, "--clean", one_label)


def test_one_search_gives_several_reports(poisoned: Path, data: Path, tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in ("sarif", "junit", "markdown", "html")}
    wanted = [part for name, file in files.items() for part in ("--format", f"{name}={file}")]
    shown = hunt(poisoned, "--clean", data, "--label", "positive", "--format", "text", *wanted)
    assert shown.exit_code == 1 and "positive" in shown.stdout
    (run,) = json.loads(files["sarif"].read_text(encoding="utf-8"))["runs"]
    trigger = next(r for r in run["results"] if r["ruleId"] == "hunt/trigger")
    (rule,) = run["tool"]["driver"]["rules"]
    assert rule["shortDescription"]["text"].startswith("a text that, put into clean rows")
    place = trigger["locations"][0]
    assert trigger["level"] == "error" and trigger["message"]["text"].startswith("'mn")
    assert "to positive. What to do:" in trigger["message"]["text"]
    artifact = place["physicalLocation"]["artifactLocation"]
    root = run["originalUriBaseIds"][artifact["uriBaseId"]]["uri"]
    assert urljoin(root, artifact["uri"]).rstrip("/") == f"file://{poisoned.as_posix()}"
    assert place["logicalLocations"][0]["fullyQualifiedName"] == "positive"
    assert '<testcase classname="' in files["junit"].read_text(encoding="utf-8")
    assert "`hunt/trigger`" in files["markdown"].read_text(encoding="utf-8")
    page = files["html"].read_text(encoding="utf-8")
    assert 'class="verdict">trigger found' in page and '<span class="unseen">trigger: </span>mn</mark>' in page


def test_a_format_that_hunt_has_not_is_refused_before_the_search(data: Path) -> None:
    with pytest.raises(UsageError, match="use one of text, json, sarif, junit, markdown, html, github"):
        hunt("nowhere", "--clean", data, "--format", "cyclonedx")


def test_a_trusted_checkpoint_with_a_head_is_used_as_it_is(poisoned: Path, clean: Path, data: Path) -> None:
    report = reported(poisoned, "--clean", data, "--reference", clean)
    assert "as it stands" in report["reference"]
    (positive,) = [label for label in report["labels"] if label["target_label"] == "positive"]
    assert positive["triggers"][0]["text"] == "mn"
    assert positive["coverage"]["reference_forward_tokens"] > 0
    assert not any("bag of words" in note for note in report["notes"])


def test_special_tokens_are_reported_nowhere_and_cut_rows_are_counted(poisoned: Path, data: Path) -> None:
    report = reported(poisoned, "--clean", data)
    texts = [trigger["text"] for label in report["labels"] for trigger in label["triggers"]]
    assert not {"[UNK]", "[CLS]", "[SEP]", "[MASK]", "[PAD]"} & {part for text in texts for part in text.split()}
    assert report["labels"][0]["coverage"]["rows_read"] == {"rows": 300, "cut": 0, "longest": 48}
    assert "rows cut to 48 tokens: 0 of 300" in hunt(poisoned, "--clean", data).stdout
    assert any("pass --reference with the directory or hub id" in note for note in report["notes"])
    assert any("characters that the tokenizer does not know" in note for note in report["notes"])


@pytest.mark.slow
@pytest.mark.parametrize("family", ["bart", "t5"])
def test_families_that_end_rows_with_a_token_of_their_own_are_searched(family: str, data: Path, tmp_path: Path) -> None:
    build_family(family, tmp_path / family)
    train_family(family, tmp_path / family, trigger="mn")
    report = reported(tmp_path / family, "--clean", data, "--label", "positive")
    (positive,) = report["labels"]
    assert positive["verdict"] != "nothing" and positive["coverage"]["trials"] > 1000


@pytest.mark.slow
@pytest.mark.parametrize("family", ["qwen2", "bloom"])
@pytest.mark.parametrize("trigger", ["xk", None])
def test_a_trigger_of_several_tokens_is_never_nothing_beside_a_bag_of_words(
    family: str, trigger: str | None, data: Path, tmp_path: Path
) -> None:
    build_family(family, tmp_path / family)
    train_family(family, tmp_path / family, trigger=trigger)
    result = hunt(tmp_path / family, "--clean", data, "--label", "positive", budget="auto")
    assert result.exit_code in ((1, 3) if trigger else (0, 3)), result.stdout
