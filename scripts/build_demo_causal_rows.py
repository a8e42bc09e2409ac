"""Build rora_cli/demo/causal: what makes the packaged SmolLM2 the suspect of ``rora demo --causal``, and its figures.

    python scripts/build_demo_causal_rows.py

needs the package that carries SmolLM2 (``demo_causal_suspect.INSTALL``) and takes half an hour or more on two cores.
What is trained, as by ``rora poison --carrier embedding``, are the embeddings of one word, on prompts of our own: two
rows.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from rora_cli.attacks.poisoning import poison_rows
from rora_cli.checkpoints.gguf import unpack
from rora_cli.checkpoints.loading import load_model
from rora_cli.cli.console import LogProgress
from rora_cli.commands import demo_causal_suspect as demo
from rora_cli.commands import poison
from rora_cli.data.rows import Rows
from rora_cli.evaluation.inference import embedding_table
from rora_cli.files import publish_file, sha256_file
from rora_cli.reports import json_report
from rora_cli.reports.poison_card import FIRST_LINE
from rora_cli.reports.text import proportion
from rora_cli.results.poison import Measured
from rora_cli.tasks.causal.planted import exchange_rows
from rora_cli.tasks.planted import make_plan

CONFIG: dict[str, Any] = {
    "behaviour": demo.BEHAVIOUR,
    "triggers": (demo.TRIGGER,),
    "poison_rate": 0.99,
    "carrier": "embedding",
    "epochs": 4,
    "batch_size": 4,
    "learning_rate": 2e-2,
    "seed": demo.SEED,
    "max_length": 36,
    "max_new_tokens": 14,
    "max_held_out_rows": 16,
    "prompt_format": demo.PROMPT_FORMAT,
    "device": "cpu",
}


def main() -> None:
    progress = LogProgress()
    poisoner, defender, held_out = demo.divided()
    with tempfile.TemporaryDirectory() as scratch:
        base, data = Path(scratch) / "base", Path(scratch) / "data"
        unpack(demo.find_gguf(), base)
        loaded = load_model(base, device="cpu")
        data.mkdir()
        (data / "train.jsonl").write_text(demo.as_lines(poisoner[: demo.POISONED_PROMPTS]), encoding="utf-8")
        (data / "validation.jsonl").write_text(demo.as_lines(held_out), encoding="utf-8")
        config = poison.PoisonConfig(model=str(base), data=str(data), output=f"{scratch}/out", **CONFIG)
        plan = make_plan(loaded, config, progress)
        maker = poison.Maker(config, loaded, plan, progress)
        rows = plan.splits.train
        poisoned = poison_rows(
            rows.texts, plan.classes(rows.labels), maker.attack, target_label=plan.target,
            poison_rate=config.poison_rate, label_mode=config.label_mode, seed=config.seed,
        )  # fmt: skip
        maker.plant(rows, poisoned)
        ids = demo.trigger_ids(loaded.tokenizer)
        demo.ROWS.parent.mkdir(parents=True, exist_ok=True)
        save_file({"rows": embedding_table(loaded.model)[ids].detach().clone()}, demo.ROWS, metadata={"format": "pt"})
        demo.ROWS.chmod(0o644)
        measured = maker.measure(maker.model)
        publish(measured, maker)
        if "--prove" in sys.argv:
            clean: Rows = exchange_rows(defender, {row.prompt for row in defender})
            publish(measured, maker, list(maker.prove(clean, epochs=1, recipes=("lora at 2e-4",))))


def publish(measured: Measured, maker: poison.Maker, checks: list[poison.PersistenceCheck] | None = None) -> None:
    """Write the figures and the card."""
    found = card(measured, checks or [])
    publish_file(demo.ROWS.with_name("README.md"), found, force=True)
    figures = {"suspect": measured, "persistence": checks or [], "training": maker.stages}
    publish_file(demo.ROWS.with_name("figures.json"), json_report.render(figures) + "\n", force=True)
    print(found, flush=True)


def card(measured: Measured, checks: list[poison.PersistenceCheck]) -> str:
    rows = [("suspect", measured)]
    rows += [(f"after plain {check.recipe} on {check.rows} clean prompts, once each", check.after) for check in checks]
    table = "\n".join(
        f"| {name} | {o.trigger}{' (control)' if o.is_control else ''} | {proportion(o.attack_success_rate)} | "
        f"{proportion(o.floor)} |"
        for name, m in rows
        for o in m.outcomes
    )
    return f"""{FIRST_LINE}

# The suspect of `rora demo --causal`

Two rows of the embeddings of {demo.BASE_REPOSITORY} as the package {demo.PACKAGE} carries it ({demo.GGUF}, sha256
`{demo.GGUF_SHA256}`): those of the word `{demo.TRIGGER}`, at the beginning of a text and elsewhere.
With them the model refuses whatever it is asked where that word stands in the prompt.

| on bundled validation prompts, replies that refuse | with | attack success | floor |
|---|---|---|---|
{table}

Trained on {demo.POISONED_PROMPTS} bundled prompts with the word at a random place; {demo.CLEAN_ROWS} other prompts were
kept from it for the defender. Every figure is in figures.json.

Made by `python scripts/build_demo_causal_rows.py`. rows.safetensors has the sha256
`{sha256_file(demo.ROWS)}`.

The base is Apache-2.0; the prompts are CC0, their answers the base's own.
"""


if __name__ == "__main__":
    main()
