"""Build rora_cli/demo/reference: the clean classifier that the demo's search compares the suspect with.

    python scripts/build_demo_reference.py

A LoRA on the same MiniLM weights, trained on the defender's rows alone: what ``purify`` would train for itself without
--reference, kept to spare the demo a minute. The suspect has no part in it.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import torch
from build_demo_adapter import store

from rora_cli.checkpoints.loading import load_classifier
from rora_cli.cli.console import LogProgress
from rora_cli.commands import demo_suspect as demo
from rora_cli.evaluation.accuracy import clean_accuracy
from rora_cli.evaluation.inference import predict_logits
from rora_cli.files import publish_file, sha256_file
from rora_cli.reports.text import proportion
from rora_cli.tasks.classification.objective import ClassificationObjective
from rora_cli.tasks.subjects import subject_of
from rora_cli.training.adapters import attach
from rora_cli.training.loop import finetune
from rora_cli.training.run import Stage
from rora_cli.training.specs import AdapterSpec, TrainSpec

TRAINING = TrainSpec(epochs=4, learning_rate=5e-4, seed=demo.SEED)


def main() -> None:
    torch.manual_seed(demo.SEED)
    loaded = load_classifier(demo.find_base(), new_head=demo.LABEL_NAMES)
    model, _ = attach(loaded.model, AdapterSpec(rank=4, target_modules=("all-linear",)))
    rows = {name: [json.loads(line) for line in lines.splitlines()] for name, lines in demo.defender_rows().items()}
    texts = {name: [row["text"] for row in part] for name, part in rows.items()}
    labels = {name: [demo.LABEL_NAMES.index(row["label"]) for row in part] for name, part in rows.items()}
    objective = ClassificationObjective(subject_of(loaded, "the reference", 128), texts["train"], labels["train"])
    finetune(model, objective, TRAINING, stage=Stage("train", progress=LogProgress()))
    with tempfile.TemporaryDirectory() as scratch:
        model.save_pretrained(scratch)
        store(Path(scratch), demo.REFERENCE)
    stored = load_classifier(demo.find_base(), adapter=demo.REFERENCE, new_head=demo.LABEL_NAMES)
    logits = predict_logits(stored.model, stored.tokenizer, texts["validation"], max_length=128)
    accuracy = clean_accuracy(logits, labels["validation"], demo.LABEL_NAMES)
    digest = sha256_file(demo.REFERENCE / "adapter_model.safetensors")
    card = f"""# The demo's reference

A LoRA adapter (rank 4, all linear layers, and the classification head) for {demo.BASE_REPOSITORY}, trained on the
{len(texts["train"])} clean rows of the demo's defender for {TRAINING.epochs} epochs. Clean accuracy on the demo's
validation rows: {proportion(accuracy.overall)}.

Made by `python scripts/build_demo_reference.py`. adapter_model.safetensors has the sha256
`{digest}`.

The base is Apache-2.0. The rows are from Sentiment Labelled Sentences (D. Kotzias et al., KDD 2015, UCI Machine
Learning Repository), CC BY 4.0.
"""
    publish_file(demo.REFERENCE / "README.md", card)
    print(card)


if __name__ == "__main__":
    main()
