"""A model card is Markdown that others show: names from a suspect stay names in it."""

from __future__ import annotations

import re

import pytest
import yaml

from rora_cli.reports import model_card
from rora_cli.results.accuracy import CleanAccuracy, Proportion
from rora_cli.results.provenance import Provenance
from rora_cli.results.purify import PurifyResult

HOSTILE = "<script>alert(1)</script>|`x`[a](http://b)\n---\nlicense: mit\n::error::\x1b[2J"


@pytest.mark.parametrize("name", ["positive", HOSTILE])
def test_hostile_names_stay_names(name: str) -> None:
    accuracy = CleanAccuracy(Proportion(9, 10, 0.5, 0.99), {name: Proportion(9, 10, 0.5, 0.99)})
    result = PurifyResult(
        model=name, recipe="lora", verdict="fail", reason=f"accuracy on class {name!r} fell; {name}",
        label_names=(name,), accuracy_before=accuracy, accuracy_after=accuracy, stages=(),
        data={"origin": name, "revision": name}, provenance=Provenance("purify", {"rora": "0"}, {}, 0), output=name,
    )  # fmt: skip
    card = model_card.render_purified(result)
    assert card.startswith("---\nlibrary_name: transformers\n") and card.count("\n---\n") == 1
    assert "\x1b" not in card and not any(line.startswith("::") for line in card.splitlines())
    outside = re.sub(r"(?<!\\)`[^`\n]*`", "", card)
    assert "<script" not in outside and "](http://b" not in re.sub(r"\\.", "", outside)
    rows = [line for line in card.splitlines() if line.startswith("| ")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {4}


def test_cards_name_licence_origin_and_accuracy() -> None:
    accuracy = CleanAccuracy(Proportion(9, 10, 0.5, 0.99), {"positive": Proportion(9, 10, 0.5, 0.99)})
    result = PurifyResult(
        model="owner/suspect", recipe="lora", verdict="not assessed", reason="nothing was searched",
        label_names=("positive",), accuracy_before=accuracy, accuracy_after=accuracy, stages=(),
        data={"origin": "sst2"}, provenance=Provenance("purify", {"rora": "0"}, {"model_commit": "a" * 40}, 0),
        output="out/purified",
        suspects_card={"license": "mit", "language": ["en"]},
    )  # fmt: skip
    whole, adapter = (
        yaml.safe_load(card.split("---\n")[1])
        for card in (model_card.render_purified(result), model_card.render_adapter(result))
    )
    for card, relation in ((whole, "finetune"), (adapter, "adapter")):
        assert (card["license"], card["language"]) == ("mit", ["en"])
        assert (card["base_model"], card["base_model_relation"]) == ("owner/suspect", relation)
    assert whole["tags"] == ["rora", "rora-not-assessed"]
    assert (whole["library_name"], adapter["library_name"]) == ("transformers", "peft")
    (measured,) = whole["model-index"][0]["results"]
    assert (measured["dataset"]["type"], measured["metrics"][0]["value"]) == ("sst2", 0.9)


def test_cards_tell_no_path_of_the_machine() -> None:
    accuracy = CleanAccuracy(Proportion(9, 10, 0.5, 0.99), {"positive": Proportion(9, 10, 0.5, 0.99)})
    result = PurifyResult(
        model="/home/me/suspect", recipe="lora", verdict="pass", reason="r", label_names=("positive",),
        accuracy_before=accuracy, accuracy_after=accuracy, stages=(), data={"origin": "/home/me/rows.csv"},
        provenance=Provenance("purify", {"rora": "0"}, {}, 0), output="/home/me/out",
    )  # fmt: skip
    for card in (model_card.render_purified(result), model_card.render_adapter(result)):
        assert "/home/me" not in card and "suspect" in card
