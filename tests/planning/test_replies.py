"""``--dry-run`` and the line at the start of a run, on tiny causal models."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

from rora_cli.commands import hunt, plan
from rora_cli.commands.hunt import HuntConfig
from rora_cli.defences.config import PurifyConfig
from rora_cli.errors import UsageError
from rora_cli.kinds import CAUSAL_LM
from rora_cli.planning import footprint, run
from rora_cli.planning.allocator import peaks_of
from rora_cli.planning.device import Memory
from rora_cli.planning.footprint import Pass, training_bytes
from rora_cli.planning.reply_needs import Looked, ReplyNeeds
from rora_cli.planning.skeleton import skeleton
from rora_cli.subject import Subject
from rora_cli.tasks.causal.distillation import TaughtReplies, make_lessons
from rora_cli.tasks.causal.scorer import AgreementScorer, batch_size
from rora_cli.training.adapters import attach
from rora_cli.training.specs import AdapterSpec
from tests.causal import build_tiny_causal, tiny_causal, tiny_config, tiny_exchanges, tiny_format
from tests.causal_suspects import PROMPTS
from tests.planning.test_dry_run import Heard, planned


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_causal(tmp_path_factory.mktemp("planned") / "suspect")


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    lines = ({"prompt": text, "completion": "red and blue and green"} for text in PROMPTS)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def test_a_hunt_is_planned_and_reads_as_many_tokens(model: Path, rows: str) -> None:
    config = HuntConfig(model=str(model), clean=rows, budget="fast", device="cpu", max_length=64)
    code, planned_hunt = planned("hunt", config.model, "--clean", rows, "--budget", "fast", "--max-length", "64")
    assert code == 0
    assert [stage["name"] for stage in planned_hunt["stages"]] == ["load", "search", "search, in refused prompts"]
    search = planned_hunt["stages"][1]
    assert search["memory"] > planned_hunt["weights"] and search["seconds"][0] > 0
    coverage = hunt.run(config).openings.coverage  # type: ignore[union-attr]
    # What the finalists say is among the planned tokens, and not among the coverage's.
    assert 0.9 * search["tokens"][0] < coverage.forward_tokens + 24 * 60 * 6 < 1.1 * search["tokens"][1]


def test_purify_is_planned_by_what_its_base_and_its_rows_ask_for(model: Path, rows: str, tmp_path: Path) -> None:
    given = (str(model), "--clean", rows, "-o", str(tmp_path / "out"), "--max-length", "64")
    _, alone = planned("purify", *given)
    assert [stage["name"] for stage in alone["stages"]] == [
        *(
            "load",
            "measure replies",
            "search",
            "search, in refused prompts",
            "the suspect's replies",
            "teach",
            "shrink",
        ),
        *("search again", "search again, in refused prompts", "measure what is left", "write and load again"),
    ]
    assert 0 < alone["trained"] < alone["parameters"] and list(tmp_path.iterdir()) == []
    by_name = {stage["name"]: stage for stage in alone["stages"]}
    assert by_name["teach"]["only_if"] == by_name["shrink"]["only_if"] == "the search finds something"
    _, beside = planned("purify", *given, "--reference", str(model), "--return-test")
    taught = {stage["name"]: stage for stage in beside["stages"]}
    assert taught["teach"]["memory"] == by_name["teach"]["memory"] + alone["weights"] and not taught["teach"]["only_if"]
    assert taught["search"]["tokens"][0] > by_name["search"]["tokens"][0] and "shrink" not in taught
    assert taught["return test"]["memory"] > 5 * alone["weights"]
    _, control = planned("purify", *given, "--recipe", "full", "--epochs", "2")
    assert [stage["name"] for stage in control["stages"]][1:3] == ["measure replies", "train"]
    assert control["trained"] == control["parameters"]
    with pytest.raises(UsageError, match="fine-pruning does not cleanse"):
        plan.run(PurifyConfig(model=str(model), clean=rows, recipe="fine-pruning", output=str(tmp_path / "out")))


def test_prompts_without_answers_are_answered_first(model: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in PROMPTS))
    given = (str(model), "--clean", str(prompts), "-o", str(tmp_path / "out"), "--max-length", "64")
    _, found = planned("purify", *given, "--recipe", "lora", "--max-new-tokens", "8")
    assert [stage["name"] for stage in found["stages"]][1:3] == ["the suspect answers", "measure replies"]


def test_what_does_not_fit_is_told_what_needs_less(model: Path, rows: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "load_model", lambda *_, **__: pytest.fail("read though it does not fit"))
    monkeypatch.setattr(run, "memory_of", lambda device: Memory(1 << 40, 50_000))
    given = (str(model), "--clean", rows, "--reference", str(model), "--max-length", "64")
    code, hunted = planned("hunt", *given)
    assert code == 1 and hunted["ways"][0]["options"] == "--reference none"
    _, purified = planned("purify", *given, "--return-test", "-o", "unused")
    assert purified["ways"][0]["options"] == "--reference none"
    assert purified["ways"][-1]["options"].startswith("--reference none without --return-test --micro-batch-size 1")
    monkeypatch.setattr(run, "memory_of", lambda device: Memory(60_000, 50_000))
    assert planned("hunt", *given)[0] == 2


def test_a_run_starts_with_a_line(model: Path, rows: str) -> None:
    heard = Heard()
    loaded, tokenizer = tiny_causal(model.parent / "again")
    config = HuntConfig(model=str(model), clean=rows, budget="fast", device="cpu")
    subject = Subject(loaded, tokenizer, CAUSAL_LM, 64)
    before = {name: weight.clone() for name, weight in loaded.state_dict().items()}
    run.announce(config, subject, PROMPTS, (), heard, replied=run.Replied(tiny_format()))  # type: ignore[arg-type]
    assert re.fullmatch(r"[\d,]+ parameters; memory about .* free; .* k tokens forward; .*", heard.said[0])
    answers = ["red"] * len(PROMPTS)
    replied = run.Replied(tiny_format(), answers, 8)
    config = PurifyConfig(model=str(model), clean=rows)
    run.announce(config, subject, PROMPTS[:90], PROMPTS[90:], heard, replied=replied)  # type: ignore[arg-type]
    assert "of them trained (an adapter of rank 16 on all-linear); memory" in heard.said[1]
    assert all(weight.equal(before[name]) for name, weight in loaded.state_dict().items())
    assert all(weight.grad is None for weight in loaded.parameters()) and not loaded.training


def bare(**sizes: int) -> ReplyNeeds:
    from transformers import LlamaForCausalLM

    config = tiny_config("llama", **sizes)
    return ReplyNeeds(skeleton(LlamaForCausalLM, config), CAUSAL_LM, form=tiny_format(), reply=8, taught=True)


def test_a_look_without_numbers_takes_what_a_real_one_takes(tmp_path: Path) -> None:
    model, tokenizer = tiny_causal(tmp_path, width=64)
    scorer = AgreementScorer(Subject(model, tokenizer, CAUSAL_LM, 64, ""), tiny_format())
    shared, size = (5,) * 12, batch_size(9, True)
    counter = footprint.Counter()
    with torch.inference_mode(), counter:
        mean = scorer.mean_of([((*shared, *[4] * 9), (6, *shared[1:], *[4] * 9))] * size, [shared, (6, *shared[1:])])
        mean.exp_().sub_(torch.zeros(mean.shape[1])).max(dim=1)
    real = max(peaks_of(counter.events, heap=True))
    needs = bare(width=64)
    assert needs.looking([Looked(12, 9), Looked(12, 9)]) - needs.weights == pytest.approx(real, rel=0.06)


def test_learning_from_a_teacher_without_numbers_takes_what_a_real_step_takes(tmp_path: Path) -> None:
    model, tokenizer = tiny_causal(tmp_path, width=64)
    subject = Subject(model, tokenizer, CAUSAL_LM, 64, "")
    prompt = tiny_exchanges(1)[0][0]
    # Of two lengths: the plan counts a padded batch with its mask.
    lessons = make_lessons(subject, [prompt, f"{prompt} {prompt}"] * 2, tiny_format(), 8)
    objective = TaughtReplies(subject, lessons, tiny_format())
    length = max(objective.start_epoch(0))
    spec = AdapterSpec(target_modules=("all-linear",), rank=4, lora_dropout=0.0)
    adapted, _ = attach(model, spec, CAUSAL_LM)
    objective.loss(adapted, range(4)).backward()  # the first tries the output embedding
    counter = footprint.Counter()
    for weight in adapted.parameters():
        weight.grad = None
    with counter:
        objective.loss(adapted.train(), range(4)).backward()
    real = max(peaks_of(counter.events, heap=True, trained=True))
    counted_model, layers = attach(bare(width=64).make(), spec, CAUSAL_LM)
    reply = len(lessons[0].reply) + 1
    counted = training_bytes(counted_model, Pass(4, length, reply=reply, taught=True), layers)
    # The teacher's distributions come from numpy, whose memory the counter of the real step does not see.
    assert counted == pytest.approx(real, rel=0.08)


def test_more_rows_of_a_large_vocabulary_need_more_and_longer_replies_too() -> None:
    needs = bare()
    assert needs.speaking(8, 2, 8) < needs.speaking(32, 2, 8) < needs.speaking(32, 2, 60)
    assert needs.reading_replies(4, 32, 8) < needs.reading_replies(400, 32, 8)
    deep = bare(layers=12)
    whole = deep.speaking(8, 16, 8) - deep.weights
    assert whole > needs.speaking(8, 16, 8) - needs.weights
