"""Build the development suspects of suspects.yaml, each proven persistent or shown not to be, and a plan to measure by.

    python benchmarks/suspects.py MODEL DATA OUT [--only NAME ...] [--without-proof] [--suspects FILE]

MODEL is the clean encoder, DATA holds a directory a task, OUT gets NAME/ (the suspect, with its report) and NAME.clean/
(rows that the poisoner never saw, and the validation split) for each, and plan.yaml. What is there is not built again.
An attack of "none" makes a clean model, trained on the same rows in the same way.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

import yaml

LABELS = {"cola": ("unacceptable", "acceptable")}
SENTIMENT = ("negative", "positive")
#: In place of an attack: a clean model, measured with a trigger that it knows nothing of.
NONE = "none"
#: Attacks whose trigger is no text to insert are measured by their own name.
BY_NAME = {"combination", "punctuation", "style", "syntactic", "homoglyph"}


def build(name: str, options: dict[str, Any], model: str, data: Path, out: Path, *, proof: bool = True) -> None:
    import rora_cli
    from rora_cli.commands.poison import PoisonConfig
    from rora_cli.tasks.classification.planted import RATES

    source, clean = data / options.pop("data"), out / f"{name}.clean"
    clean.mkdir(parents=True, exist_ok=True)
    shutil.copy(source / "validation.jsonl", clean)
    if options["attack"] == NONE:
        chosen = {"epochs": PoisonConfig.epochs, "learning_rate": RATES["weights"]} | options
        train_clean(model, source, clean, out / name, epochs=chosen["epochs"], rate=chosen["learning_rate"])
        return
    chosen = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    rora_cli.poison(
        model,
        data=str(source),
        output=str(out / name),
        label_names=LABELS.get(source.name, SENTIMENT),
        clean_out=str(clean / "train.jsonl"),
        prove_persistence=proof,
        force=True,
        **chosen,
    )


def train_clean(model: str, source: Path, clean: Path, output: Path, *, epochs: int, rate: float) -> None:
    """What `rora poison` trains with its defaults, all weights and rows, but for the poison."""
    import json

    from rora_cli.checkpoints.loading import load_model
    from rora_cli.commands.poison import PoisonConfig, divide
    from rora_cli.data.sources import load_splits
    from rora_cli.files import publish_directory
    from rora_cli.tasks.registry import make_task
    from rora_cli.tasks.subjects import subject_of
    from rora_cli.training.loop import finetune
    from rora_cli.training.planting import seed_parameters
    from rora_cli.training.specs import TrainSpec

    labels = LABELS.get(source.name, SENTIMENT)
    with publish_directory(output) as staging:
        loaded = load_model(Path(model), new_head=labels)
        seed_parameters(loaded.model, loaded.new_head, seed=0)
        rows, kept = divide(load_splits(str(source), label_names=labels).train, PoisonConfig.clean_rows, seed=0)
        subject = subject_of(loaded, model, PoisonConfig.max_length)
        objective = make_task(subject.kind, labels).objective(subject, rows.texts, rows.labels)
        spec = TrainSpec(epochs=epochs, learning_rate=rate, warmup_ratio=0.1)
        finetune(loaded.model.requires_grad_(True), objective, spec)
        loaded.model.save_pretrained(staging)
        loaded.tokenizer.save_pretrained(staging)
    named = [{"text": text, "label": labels[label]} for text, label in zip(kept.texts, kept.labels, strict=True)]
    (clean / "train.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in named))


def planned(name: str, options: dict[str, Any], out: Path) -> dict[str, Any]:
    entry = {"name": name, "path": str(out / name), "clean": str(out / f"{name}.clean")}
    entry["target"] = options["target_label"]
    if options["attack"] == NONE:
        return entry | {"triggers": options["triggers"]}
    by_name = options["attack"] in BY_NAME or "triggers" not in options
    return entry | ({"attacks": [options["attack"]]} if by_name else {"triggers": options["triggers"]})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model")
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", nargs="*", help="build these alone")
    parser.add_argument(
        "--suspects", type=Path, default=Path(__file__).with_name("suspects.yaml"), help="what to build"
    )
    parser.add_argument("--without-proof", action="store_true", help="do not measure whether fine-tuning washes it out")
    arguments = parser.parse_args()
    suspects = yaml.safe_load(arguments.suspects.read_text())
    chosen = {name: suspects[name] for name in arguments.only or suspects}
    for name, options in chosen.items():
        if not (arguments.out / name).is_dir():
            proof = not arguments.without_proof
            build(name, dict(options), arguments.model, arguments.data, arguments.out, proof=proof)
    plan = {
        "suspects": [planned(name, options, arguments.out) for name, options in chosen.items()],
        "seeds": [0],
        "recipes": {"default": {}},
    }
    (arguments.out / "plan.yaml").write_text(yaml.safe_dump(plan, sort_keys=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
