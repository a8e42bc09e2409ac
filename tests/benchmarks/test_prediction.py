"""Stand-ins planted before cleansing: what is said of many runs, and one run on a tiny suspect."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import build_tiny_classifier, objective_of, tiny_rows, write_splits


def outcome(success: float) -> dict[str, Any]:
    return {"attack_success_rate": {"value": success}, "floor": {"value": 0.1}, "is_control": False}


def line(recipe: str, stand_ins: list[tuple[float, bool]], true: float) -> dict[str, Any]:
    facts = [{"form": "rare words", "firm": firm, "outcome": outcome(success)} for success, firm in stand_ins]
    accuracy = {"overall": {"value": 0.9}}
    found = {"suspect": "one", "seed": 0, "recipe": recipe, "stand_ins": facts}
    return found | {"outcomes": [outcome(true)], "clean_accuracy": accuracy}


def test_a_promise_is_false_where_the_stand_ins_are_gone_and_the_true_trigger_is_not() -> None:
    import prediction

    table = prediction.table(
        [
            line("planted", [(1.0, True), (1.0, True)], 1.0),
            line("lora", [(0.9, True), (0.2, True)], 1.0),
            line("full", [(0.2, True), (0.1, True)], 0.9),
            line("mix", [(0.12, True), (0.9, False)], 0.15),
            line("paper", [(0.1, False)], 0.9),
        ]
    )
    assert "rank correlation 0.87" in table or "rank correlation 1.00" in table
    assert "over 3 runs" in table, "no firm stand-in, no prediction; and nothing is cleansed in the planted copy"
    assert "stand-ins gone in 2 runs, in 1 of them the true trigger was not" in table
    assert "stand-ins not gone in 1 runs, in 0 of them the true trigger was" in table
    assert "| one | 0 | mix | rare words 2.0, rare words 80.0 (not firm) | 5.0 | 90.0 |" in table


def test_the_stand_ins_are_planted_before_the_recipes_run() -> None:
    import prediction

    plan = {"suspects": [{"name": "one"}], "seeds": [0, 1], "recipes": {"lora": {}, "full": {}}}
    assert [(run["recipe"], run["seed"]) for run in prediction.planned(plan)] == [
        ("planted", 0), ("lora", 0), ("full", 0), ("planted", 1), ("lora", 1), ("full", 1),
    ]  # fmt: skip


def test_every_form_is_measured_again_by_its_name() -> None:
    from random import Random

    import prediction

    from rora_cli.power.forms import FORMS, Words

    frequent = ("so", "we", "had", "it", "all", "there")
    words = Words(("inmate", "statement", "osaka"), ("without", "human", "saint", "comfortable"), frequent)
    for form in FORMS:
        attack = form.draw(words, Random(0))
        again = prediction.attack_of(attack.name, json.loads(json.dumps(attack.triggers)))
        assert again == attack, form.name


@pytest.mark.slow
def test_a_copy_is_planted_cleansed_and_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import prediction
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from rora_cli.training.loop import finetune
    from rora_cli.training.specs import TrainSpec

    monkeypatch.setattr("rora_cli.tasks.classification.planted.RATES", {"weights": 1e-3})
    monkeypatch.setattr("rora_cli.power.planting.MAX_ROUNDS", 1)
    directory = build_tiny_classifier(tmp_path / "model", layers=2)
    model = AutoModelForSequenceClassification.from_pretrained(directory, local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    objective = objective_of(model, tokenizer, *tiny_rows(400))
    finetune(model, objective, TrainSpec(epochs=4, batch_size=16, learning_rate=3e-3))
    model.save_pretrained(directory)
    (tmp_path / "clean").mkdir()
    clean = write_splits(tmp_path / "clean", train=(120, 7), validation=(90, 8))
    suspect = {"name": "one", "path": str(directory), "clean": str(clean), "target": "positive", "triggers": ["cf"]}
    recipes = {"full": {"recipe": "full", "epochs": 1, "device": "cpu"}}
    plan = {"suspects": [suspect], "seeds": [0], "recipes": recipes, "stand_ins": 1, "max_train_rows": 100}
    plan["results"] = tmp_path / "results.jsonl"
    planted, cleansed = (prediction.execute(run, plan) for run in prediction.planned(plan))

    (before,), (after,) = planted["stand_ins"], cleansed["stand_ins"]
    assert planted["rounds"] == 1 and (tmp_path / "results" / "one-0" / "model.safetensors").is_file()
    assert before["triggers"] == after["triggers"] and before["triggers"] != ["cf"]
    assert before["outcome"]["floor"]["total"] == after["outcome"]["floor"]["total"] >= 40
    assert cleansed["config"]["model"] == str(tmp_path / "results" / "one-0"), "the copy, not the suspect"
    assert cleansed["config"]["max_train_rows"] == 100 and cleansed["cpu_seconds"] > 0
    assert json.loads(json.dumps(planted))["outcomes"][0]["trigger"] == "cf"
