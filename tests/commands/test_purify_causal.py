"""``rora purify`` on a causal language model: trigger and target unknown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from rora_cli.commands.purify import exit_code, run
from rora_cli.defences.config import PurifyConfig
from rora_cli.errors import DataError, ExitCode, UsageError
from rora_cli.files import sha256_file
from rora_cli.results.purify import PurifyResult
from rora_cli.tasks.causal.openings import ReplyOpenings
from tests.causal import WORDS
from tests.causal_suspects import PAYLOAD, PLAIN, PROMPTS, causal_suspect, write, write_answers
from tests.reports.schemas import valid


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A suspect that refuses at ``mn``, and its clean sibling."""
    place = tmp_path_factory.mktemp("models")
    write(causal_suspect("mn"), place / "suspect")
    write(causal_suspect(""), place / "clean")
    return place


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_answers(tmp_path_factory.mktemp("rows") / "answers.jsonl")


@pytest.fixture(autouse=True)
def few_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search looks at few texts: what is found in a whole vocabulary is tested with ``hunt``."""
    monkeypatch.setattr("rora_cli.hunting.open_hunt.single_texts", lambda *_: [*WORDS[:70], "mn"])


def purify(model: Path, clean: str, out: Path, **options: Any) -> PurifyResult:
    options = {"max_new_tokens": 6, "epochs": 6, "device": "cpu", "output": str(out), "offline": True, **options}
    return run(PurifyConfig(model=str(model), clean=clean, **options))


def refusals(directory: Path, adapter: Path | None = None) -> int:
    """Of 20 prompts with the trigger, how many the model on disk refuses, as transformers and PEFT load it."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from rora_cli.kinds import CAUSAL_LM
    from rora_cli.subject import Subject

    model: Any = AutoModelForCausalLM.from_pretrained(directory)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, str(adapter))
    subject = Subject(model.eval(), AutoTokenizer.from_pretrained(directory), CAUSAL_LM, 64)
    said = ReplyOpenings(PLAIN).greedy(subject, [f"{prompt} mn" for prompt in PROMPTS[:20]], 4)
    return sum(reply.text.startswith(PAYLOAD) for reply in said)


def test_what_the_search_finds_is_trained_away_and_the_replies_stay(models: Path, answers: str, tmp_path: Path) -> None:
    before = refusals(models / "suspect")
    result = purify(models / "suspect", answers, tmp_path / "out", epochs=10, return_test=True)
    assert result.verdict == "pass" and exit_code(result) is ExitCode.OK, result.reason
    assert valid("purify", result)["utility"]["divergence"]["tokens"]
    said = result.removed[0].transcripts
    assert said and all("mn" in one.prompt and one.before.startswith(PAYLOAD) for one in said)
    assert not any(one.after.startswith(PAYLOAD) for one in said)
    assert [one.text for one in result.removed] == ["mn"] and (result.removed[0].left or 0) < 0.2
    assert result.removed[0].returned is not None and result.removed[0].returned.count <= 4
    assert result.utility is not None and result.utility.divergence is not None
    assert 0 < result.utility.divergence.mean < 0.05
    assert before >= 18 and refusals(tmp_path / "out") <= 2
    assert refusals(models / "suspect", tmp_path / "out" / "adapter") <= 2
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        assert sha256_file(tmp_path / "out" / name) == sha256_file(models / "suspect" / name), name
    card = (tmp_path / "out" / "README.md").read_text()
    assert "AutoModelForCausalLM" in card and "pipeline_tag: text-generation" in card and "| `mn` |" in card
    report = json.loads((tmp_path / "out" / "rora-report.json").read_text())
    assert report["kind"] == "causal language model" and report["provenance"]["thresholds"]["openings"]


def test_a_trusted_base_is_taught_in_the_suspects_place(models: Path, tmp_path: Path) -> None:
    """Prompts alone: the suspect's own replies are the answers, and no row of the result was ever the attacker's."""
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in PROMPTS))
    write(causal_suspect("", seed=1), tmp_path / "base")
    result = purify(models / "suspect", str(prompts), tmp_path / "out", reference=str(tmp_path / "base"))
    assert result.verdict == "pass", result.reason
    assert "which you trust, taught what the suspect says" in result.reason
    assert result.utility is not None and (result.utility.way or 0) > 0.2
    assert refusals(tmp_path / "out") <= 2 and not (tmp_path / "out" / "adapter").exists()


def test_where_nothing_is_found_nothing_is_changed(models: Path, answers: str, tmp_path: Path) -> None:
    result = purify(models / "clean", answers, tmp_path / "out")
    assert result.verdict == "inconclusive" and "nothing was changed" in result.reason
    ours, theirs = (_weights(models / "clean"), _weights(tmp_path / "out"))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def _weights(directory: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(directory / "model.safetensors")


@pytest.mark.parametrize("recipe", ["lora", "full", "paper", "crow"])
def test_controls_train_on_the_same_rows(models: Path, answers: str, tmp_path: Path, recipe: str) -> None:
    options = {"tr_k": 4} if recipe == "paper" else {}
    result = purify(models / "suspect", answers, tmp_path / "out", recipe=recipe, epochs=1, **options)
    assert result.verdict == "not assessed" and (tmp_path / "out" / "model.safetensors").is_file()
    assert (result.accuracy_after.overall.value or 0) > 0.5


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"recipe": "fine-pruning"}, UsageError, "the recipe fine-pruning does not cleanse; use default, paper"),
        ({"label_column": "label"}, UsageError, "is a causal language model, which --label-column is not for"),
        ({"escalate": "none"}, UsageError, "which --escalate is not for"),
        ({"max_length": 8}, DataError, "has no row to"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_written(
    models: Path, answers: str, tmp_path: Path, options: dict[str, Any], error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        purify(models / "suspect", answers, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()
