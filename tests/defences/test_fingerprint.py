"""What must be equal for a run to be the continuation of another."""

from __future__ import annotations

import json
from pathlib import Path

from rora_cli.defences.config import PurifyConfig, fingerprint
from rora_cli.kinds import CAUSAL_LM


def test_it_is_plain_values_whatever_files_the_options_name_and_tells_them_apart() -> None:
    named = PurifyConfig(model="m", clean="c", candidates=Path("texts.txt"), refusal_phrases=Path("phrases.txt"))
    plain = fingerprint(named, CAUSAL_LM, {})
    assert json.loads(json.dumps(plain))["candidates"] == "texts.txt" and plain["refusal_phrases"] == "phrases.txt"
    assert fingerprint(PurifyConfig(model="m", clean="c"), CAUSAL_LM, {}) != plain
