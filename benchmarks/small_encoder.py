"""Train a small BERT from nothing: an encoder that suspects can be made of where a MiniLM takes too long.

    python benchmarks/small_encoder.py TOKENIZER ROWS OUT [--layers 2] [--width 128] [--epochs 8] [--seed 0]

TOKENIZER is the directory of any model, whose tokenizer it gets. ROWS holds train.jsonl and validation.jsonl (text,
label of two), on which all weights are trained; OUT gets the encoder alone, without the head.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

from rora_cli.data.sources import load_splits
from rora_cli.files import publish_directory
from rora_cli.kinds import SEQUENCE_CLASSIFIER
from rora_cli.subject import Subject
from rora_cli.tasks.classification.task import Classification
from rora_cli.training.loop import finetune
from rora_cli.training.specs import TrainSpec

#: Tokens of a row, and the learning rate, which is that of a model of few and narrow blocks.
MAX_LENGTH, RATE = 128, 5e-4


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("tokenizer")
    parser.add_argument("rows")
    parser.add_argument("out", type=Path)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(given.tokenizer)
    torch.manual_seed(given.seed)
    model = BertForSequenceClassification(
        BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=given.width,
            num_hidden_layers=given.layers,
            num_attention_heads=max(given.width // 64, 1),
            intermediate_size=4 * given.width,
        )
    )
    names = ("0", "1")
    splits, task = load_splits(given.rows, label_names=names), Classification(names)
    subject = Subject(model, tokenizer, SEQUENCE_CLASSIFIER, MAX_LENGTH)
    spec = TrainSpec(epochs=given.epochs, learning_rate=RATE, warmup_ratio=0.1, seed=given.seed)
    finetune(model, task.objective(subject, splits.train.texts, splits.train.labels), spec)
    print("accuracy on the rows held out:", task.quality(subject, splits.held_out).overall.value)
    with publish_directory(given.out) as staging:
        model.bert.save_pretrained(staging)
        tokenizer.save_pretrained(staging)
    return 0


if __name__ == "__main__":
    sys.exit(main())
