"""A model card is Markdown that others show: names from a suspect stay names in it."""

from __future__ import annotations

import re

import pytest

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
