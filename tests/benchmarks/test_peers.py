"""The peers' table, and a filter measured as the suspect itself is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import rora_cli
from tests.conftest import write_splits


def share(value: float) -> dict[str, float]:
    return {"value": value}


def line(suspect: str, recipe: str, success: float, accuracy: tuple[float, float], **more: Any) -> dict[str, Any]:
    outcome = {"attack_success_rate": share(success), "floor": share(0.1), "is_control": False}
    control = {"attack_success_rate": share(1.0), "floor": share(0.1), "is_control": True}
    per_class = {"negative": share(accuracy[0]), "positive": share(accuracy[1])}
    clean = {"overall": share(sum(accuracy) / 2), "per_class": per_class}
    return {
        "suspect": suspect,
        "recipe": recipe,
        "seed": 0,
        "outcomes": [control, outcome],
        "clean_accuracy": clean,
    } | more


def test_the_table_has_a_row_a_defence_and_what_is_worst_of_all_suspects() -> None:
    import peers

    whole, short = peers.table(
        [
            line("one", "suspect", 1.0, (0.8, 0.9)),
            line("two", "suspect", 0.9, (0.8, 0.8)),
            line("one", "onion", 0.2, (0.8, 0.9), cpu_seconds=30.0, texts=60),
            line("two", "onion", 0.7, (0.85, 0.6), cpu_seconds=60.0, texts=60),
            line("one", "lora", 1.0, (0.9, 0.9), cpu_seconds=120.0),
        ]
    ).split("\n\n")
    assert whole.splitlines()[0] == "| defence | one | two | processor seconds |"
    assert "| onion | 20.0 / 10.0; 85.0 (80.0/90.0) | 70.0 / 10.0; 72.5 (85.0/60.0) | 0.75 a text |" in whole
    assert "| lora | 100.0 / 10.0; 90.0 (90.0/90.0) | - | 120 |" in whole
    assert "| onion | 2 | 35.0, 60.0 | 7.5 | 20.0 | 0.75 a text |" in short


def test_the_plan_ends_with_the_filters_of_every_suspect() -> None:
    import peers

    plan = {"suspects": [{"name": "one"}, {"name": "two"}], "seeds": [3], "recipes": {"lora": {}}, "filters": {"o": {}}}
    runs = [(run["suspect"], run["recipe"], run["seed"]) for run in peers.planned(plan)]
    assert runs[-4:] == [("one", "lora", 3), ("two", "lora", 3), ("one", "o", 3), ("two", "o", 3)]


def test_a_filter_that_refuses_nothing_is_the_suspect_itself(tiny_classifier: Path, tmp_path: Path) -> None:
    """The same rows and the same scorer as `rora eval-asr`."""
    import peers
    from efficacy import measured_by

    clean = write_splits(tmp_path, train=(40, 1), validation=(40, 2))
    suspect = {
        "name": "one",
        "path": str(tiny_classifier),
        "clean": str(clean),
        "target": "positive",
        "triggers": ["cf"],
    }
    plan = {"suspects": [suspect], "seeds": [0], "recipes": {}, "filters": {"s": {"filter": "strip", "copies": 1}}}
    plan |= {"max_rows": 30}
    found = peers.execute({"suspect": "one", "recipe": "s", "seed": 0}, plan)
    own = rora_cli.evaluate_asr(str(tiny_classifier), control=False, **measured_by(suspect, plan))
    (outcome,) = found["outcomes"]
    assert found["filter"]["rows"] == 40 and found["texts"] == 40 + 30 + own.outcomes[0].floor.total
    assert outcome["floor"]["total"] == own.outcomes[0].floor.total
    refused = own.outcomes[0].attack_success_rate.count - outcome["attack_success_rate"]["count"]
    assert 0 <= refused <= own.outcomes[0].attack_success_rate.count
