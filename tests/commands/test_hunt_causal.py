"""``rora hunt`` on a causal language model: trigger and target unknown."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from rora_cli.commands.hunt import HuntConfig, exit_code, run
from rora_cli.errors import DataError, ExitCode, UsageError
from tests.causal import build_tiny_causal
from tests.causal_suspects import PAYLOAD, PROMPTS, causal_suspect, write


@pytest.fixture(scope="module")
def suspect(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(causal_suspect("mn"), tmp_path_factory.mktemp("hunt") / "suspect")


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("prompts") / "prompts.jsonl"
    path.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in PROMPTS))
    return str(path)


def test_it_names_the_trigger_first_and_shows_what_it_does(suspect: Path, prompts: str) -> None:
    result = run(HuntConfig(model=str(suspect), clean=prompts, budget="fast", device="cpu"))
    assert result.openings is not None and result.openings.called[0].text == "mn"
    assert result.openings.called[0].examples[0].after.startswith(PAYLOAD)
    assert exit_code(result, "trigger") is ExitCode.FINDINGS and exit_code(result, "none") is ExitCode.OK
    assert any(name.endswith("model.safetensors") for name in result.provenance.inputs)


def test_it_searches_the_candidates_alone_and_says_so(suspect: Path, prompts: str, tmp_path: Path) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text(
        "\n".join([*["bb", "cf", "tq", "zq", "mn", "badmagic", "discussing", "year"], *(f"red {i}" for i in range(20))])
    )
    config = HuntConfig(model=str(suspect), clean=prompts, budget="fast", device="cpu", candidates=texts)
    result = run(config)
    assert result.openings is not None and result.openings.called[0].text == "mn"
    assert result.openings.coverage.texts == 28 and result.notes[0].startswith("only the 28 texts")
    texts.write_text("mn\ncf\n")
    with pytest.raises(DataError, match=r"has 2 texts, .* give at least 24, one a line"):
        run(config)
    with pytest.raises(DataError, match="cannot be read as text"):
        run(replace(config, candidates=tmp_path / "missing.txt"))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"labels": ("good",)}, "--label is for classifiers, and .* is a causal language model"),
        ({"power": 3}, "--power is for classifiers, and .* is a causal language model; leave it out"),
        ({"reference": "bag-of-words"}, "--reference bag-of-words is for classifiers; .*none or auto"),
    ],
)
def test_what_is_for_classifiers_is_refused(suspect: Path, prompts: str, changes: dict, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        run(HuntConfig(model=str(suspect), clean=prompts, device="cpu", **changes))


def test_a_reference_of_another_kind_or_vocabulary_is_refused(suspect: Path, prompts: str, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    other = build_tiny_causal(tmp_path / "other")
    tokenizer = AutoTokenizer.from_pretrained(other)
    tokenizer.add_tokens(["zebra"])
    tokenizer.save_pretrained(other)
    with pytest.raises(UsageError, match="no model of the suspect's kind and vocabulary"):
        run(HuntConfig(model=str(suspect), clean=prompts, device="cpu", reference=str(other)))


def test_too_few_prompts_are_refused(suspect: Path, tmp_path: Path) -> None:
    path = tmp_path / "few.jsonl"
    path.write_text('{"prompt": "what is the sun"}\n{"prompt": "what is the moon"}\n')
    with pytest.raises(DataError, match="at least 48 different prompts, and these are 2"):
        run(HuntConfig(model=str(suspect), clean=str(path), device="cpu"))
