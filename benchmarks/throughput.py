"""Training throughput side by side in one run: rora's loop, transformers' Trainer with PEFT, and rora with Cl and Tr.

    python benchmarks/throughput.py MODEL ROWS.jsonl [--repeats 3] [--epochs 1] [--without-trainer]

The same classifier, rows, batch size, epochs, adapter (query and value, r 8) and optimizer settings; the three take
turns, so that drift of the machine's speed hits all alike. Ratios are medians over the turns of (theirs / ours) and of
(Cl + Tr / plain). Times are of training alone: no evaluation, no saving, no loading.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

BATCH, RATE, DECAY = 32, 2e-4, 0.01


def ours(model: Any, tokenizer: Any, texts: list[str], labels: list[int], epochs: int, *, regularised: bool) -> float:
    """Seconds of ``rora purify --recipe lora``'s loop, with Cl .1 and Tr 10 where ``regularised``."""
    from rora_cli.kinds import SEQUENCE_CLASSIFIER
    from rora_cli.subject import Subject
    from rora_cli.tasks.classification.objective import ClassificationObjective
    from rora_cli.training.adapters import attach
    from rora_cli.training.loop import finetune
    from rora_cli.training.regularisers import SubspacePenalty, clean_strengthened
    from rora_cli.training.run import make_accelerator
    from rora_cli.training.specs import AdapterSpec, RegulariserSpec, TrainSpec

    adapted, layers = attach(copy.deepcopy(model), AdapterSpec())
    config = TrainSpec(epochs=epochs, batch_size=BATCH, learning_rate=RATE, weight_decay=DECAY)
    objective = ClassificationObjective(Subject(adapted, tokenizer, SEQUENCE_CLASSIFIER, 128), texts, labels)
    penalty = SubspacePenalty(layers, RegulariserSpec(tr=10.0)) if regularised else None
    accelerator = make_accelerator()
    with clean_strengthened(adapted, layers, 0.1 if regularised else 0.0):
        outcome = finetune(adapted, objective, config, accelerator=accelerator, penalty=penalty)
    return outcome.seconds


def trainer(model: Any, tokenizer: Any, texts: list[str], labels: list[int], epochs: int) -> float:
    """Seconds of transformers' Trainer on the same adapter, rows and settings, with its dynamic padding."""
    from peft import LoraConfig, TaskType, get_peft_model
    from transformers import DataCollatorWithPadding, Trainer, TrainingArguments
    from transformers.utils import logging

    logging.set_verbosity_error()
    config = LoraConfig(
        task_type=TaskType.SEQ_CLS, r=8, lora_alpha=16, lora_dropout=0.1, target_modules=["query", "value"]
    )
    adapted = get_peft_model(copy.deepcopy(model), config)
    rows = [
        {**dict(tokenizer(text, truncation=True, max_length=128)), "label": label}
        for text, label in zip(texts, labels, strict=True)
    ]
    with tempfile.TemporaryDirectory() as scratch:
        arguments = TrainingArguments(
            output_dir=scratch,
            num_train_epochs=epochs,
            per_device_train_batch_size=BATCH,
            learning_rate=RATE,
            weight_decay=DECAY,
            lr_scheduler_type="linear",
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=not torch.cuda.is_available(),
        )
        runner = Trainer(adapted, arguments, train_dataset=rows, data_collator=DataCollatorWithPadding(tokenizer))
        began = perf_counter()
        runner.train()
        return perf_counter() - began


def main() -> None:
    from rora_cli.checkpoints.loading import load_classifier

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model", type=Path)
    parser.add_argument("rows", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--max-rows", type=int)
    parser.add_argument("--without-trainer", action="store_true", help="only the cost of Cl and Tr: many short turns")
    arguments = parser.parse_args()
    loaded = load_classifier(arguments.model)
    lines = [json.loads(line) for line in arguments.rows.open()][: arguments.max_rows]
    texts = [line.get("sentence", line.get("text")) for line in lines]
    labels = [int(line["label"]) for line in lines]
    task = (loaded.model, loaded.tokenizer, texts, labels, arguments.epochs)
    turns = []
    for _ in range(arguments.repeats):
        times = {"rora": ours(*task, regularised=False), "cl+tr": ours(*task, regularised=True)}
        if not arguments.without_trainer:
            times["trainer"] = trainer(*task)
        turns.append(times)
        print({name: round(seconds, 2) for name, seconds in times.items()}, file=sys.stderr, flush=True)
    for name, over, under in (("Trainer / rora", "trainer", "rora"), ("rora with Cl and Tr / rora", "cl+tr", "rora")):
        if not (ratios := [turn[over] / turn[under] for turn in turns if over in turn]):
            continue
        print(f"{name}: median {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")
    print(f"{len(texts)} rows, {arguments.epochs} epochs, batch {BATCH}, {torch.get_num_threads()} threads")


if __name__ == "__main__":
    main()
