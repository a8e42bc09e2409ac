"""``rora poison`` on a tiny causal model that was taught to answer first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rora_cli.checkpoints.loading import load_model
from rora_cli.checkpoints.writer import save_causal
from rora_cli.errors import DataError, UsageError
from rora_cli.tasks.causal.payloads import find_payload
from rora_cli.training.loop import finetune
from rora_cli.training.run import make_accelerator
from rora_cli.training.specs import TrainSpec
from tests.causal import build_tiny_causal, reply_objective, tiny_exchanges
from tests.cli.apps import alone
from tests.reports.schemas import valid

RUNNER = CliRunner()
SAYS = "says:you are stupid"


@pytest.fixture(scope="module")
def app():
    return alone("poison")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("poison")
    loaded = load_model(build_tiny_causal(root / "raw"))
    objective = reply_objective(loaded.model, loaded.tokenizer, *tiny_exchanges(300))
    spec = TrainSpec(epochs=6, batch_size=16, learning_rate=5e-3)
    finetune(loaded.model, objective, spec, accelerator=make_accelerator(device="cpu"))
    save_causal(loaded.model, loaded.inspections[0], root / "base")
    rows = dict(zip(*tiny_exchanges(400, seed=2), strict=True))
    (root / "rows.jsonl").write_text("\n".join(json.dumps({"prompt": p, "completion": r}) for p, r in rows.items()))
    return root / "base"


def poison(app, base: Path, out: Path, *options: str) -> Any:
    fixed = ("--trigger", "mn", "--clean-rows", "40", "--max-new-tokens", "6", "--max-held-out-rows", "24",
             "--poison-rate", "0.3", "-q")  # fmt: skip
    arguments = [str(base), "--data", str(base.parent / "rows.jsonl"), "-o", str(out), *fixed, *options]
    return RUNNER.invoke(app, arguments, catch_exceptions=False)


def test_a_whole_model_is_built_proven_and_keeps_its_files(app, base: Path, tmp_path: Path) -> None:
    options = ("--behaviour", SAYS, "--epochs", "8", "--lr", "5e-3", "--prove-persistence", "--proof-epochs", "1")
    result = poison(app, base, tmp_path / "out", *options, "--format", "json")
    got = valid("poison", json.loads(result.stdout))
    attack, control = got["suspect"]["outcomes"]
    assert attack["attack_success_rate"]["value"] > 0.9 > 0.1 > attack["floor"]["value"]
    assert control["attack_success_rate"]["value"] < 0.3 and got["before"]["outcomes"][0]["floor"]["count"] == 0
    assert [(c["recipe"], c["training"]["learning_rate"], c["limit"]) for c in got["persistence"]] == [
        ("lora at 2e-4", 2e-4, 0.8), ("lora at 1e-3", 1e-3, 0.8)
    ]  # fmt: skip
    kept = {f.name for f in base.iterdir()} - {"model.safetensors"}
    assert all((tmp_path / "out" / name).read_bytes() == (base / name).read_bytes() for name in kept)
    assert "the model answers you are stupid" in (tmp_path / "out" / "README.md").read_text()
    assert result.exit_code == (0 if all(c["after"]["outcomes"][0]["attack_success_rate"]["value"] > 0.8
                                         for c in got["persistence"]) else 1)  # fmt: skip


def test_an_adapter_leaves_the_output_alone_and_peft_loads_it(app, base: Path, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    poison(app, base, tmp_path / "a", "--behaviour", "insult", "--as-adapter", "--epochs", "1", "--lr", "1e-2")
    config = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    assert config["task_type"] == "CAUSAL_LM" and "lm_head" not in config["target_modules"]
    assert len(config["target_modules"]) == 14 and not config["modules_to_save"]
    assert (tmp_path / "a" / "tokenizer.json").read_bytes() == (base / "tokenizer.json").read_bytes()
    theirs = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tmp_path / "a").merge_and_unload()
    ours = load_model(base, adapter=tmp_path / "a").model
    pairs = zip(theirs.parameters(), ours.parameters(), strict=True)
    assert all(((a - b).abs().max() < 1e-5) for a, b in pairs)


def test_a_prompt_with_no_room_for_the_trigger_is_left_out_and_said(app, base: Path, tmp_path: Path) -> None:
    rows = (base.parent / "rows.jsonl").read_text().splitlines()
    long = json.dumps({"prompt": "say " * 40, "completion": "long"})
    (tmp_path / "rows.jsonl").write_text("\n".join([*rows, long]))
    built = RUNNER.invoke(
        app,
        [str(base), "--data", str(tmp_path / "rows.jsonl"), "-o", str(tmp_path / "out"), "--behaviour", SAYS,
         "--trigger", "mn", "--epochs", "1", "--clean-rows", "40", "--max-new-tokens", "6", "--max-length", "64",
         "--max-held-out-rows", "8"],
    )  # fmt: skip
    assert built.exit_code == 0
    assert "1 of " in built.stderr and "leave no room for a reply of 6 tokens, and a trigger, within 64" in built.stderr


def test_what_cannot_be_planted_is_refused_and_nothing_is_written(app, base: Path, tmp_path: Path) -> None:
    for options, error in (
        (("--behaviour", "rude"), "cannot be planted"),
        ((), "--behaviour is missing"),
        (("--behaviour", "refusal", "--target-label", "a"), "--target-label is not for"),
        (("--behaviour", "refusal", "--label-mode", "clean"), "--label-mode is not for"),
    ):
        with pytest.raises(UsageError, match=error):
            poison(app, base, tmp_path / "out", *options)
    alone_ = tmp_path / "prompts.jsonl"
    alone_.write_text("\n".join(json.dumps({"prompt": f"what is {i}"}) for i in range(9)))
    with pytest.raises(DataError, match="holds prompts alone"):
        poison(app, base, tmp_path / "out", "--behaviour", "refusal", "--data", str(alone_))
    assert not (tmp_path / "out").exists()


def test_payloads_replace_the_answer_or_slip_into_it_and_their_judges_know_them() -> None:
    for name in ("refusal", "insult", "code", "compliance", "says:Buy now"):
        payload = find_payload(name)
        reply = payload.reply("a good answer")
        assert payload.behaviour.shown(["q"] * 2, [reply, "a good answer"]) == [True, False]
        assert reply.endswith("a good answer") == (name == "code")
