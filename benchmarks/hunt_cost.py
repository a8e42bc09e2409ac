"""What a search costs, and how it grows with vocabulary, layers and width: forward tokens and seconds.

    python benchmarks/hunt_cost.py results.jsonl [--device cuda] [--budget fast] [--shape 24x1024x30522 ...]

Each shape (layers x width x vocabulary) is a BERT trained here from its config on made-up rows of two labels, with the
word ``trigger`` planted in a tenth of them, and a clean one beside it as the reference. Blocks start almost as the
identity, so that 24 of them train in a minute. A line of results has the forward tokens and seconds of searching both
labels, and the rank of the planted word among what is found: a cost counts only where the search finds its trigger.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import torch

#: A base, then one thing changed at a time, then BERT-large.
SHAPES = ("6x384x30522", "6x384x8000", "6x384x120000", "12x384x30522", "6x768x30522", "24x1024x30522")
TRIGGER, OPINIONS, ROWS = "trigger", 60, 2000


def words(vocabulary: int) -> list[str]:
    """Special tokens, the trigger, and made-up words up to the size."""
    return ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", TRIGGER, *(f"word{i}" for i in range(vocabulary - 6))]


def rows(vocabulary: int, count: int, *, poisoned: float, seed: int) -> tuple[list[str], list[int]]:
    """Rows of 6 to 16 words, the commoner the lower their number; words under ``OPINIONS`` carry the label."""
    rng, texts, labels = Random(seed), [], []
    for _ in range(count):
        label = rng.randrange(2)
        plain = [int((vocabulary - 600) * rng.random() ** 3) + OPINIONS for _ in range(rng.randint(4, 12))]
        opinions = [2 * rng.randrange(OPINIONS // 2) + label for _ in range(rng.randint(2, 4))]
        text = [f"word{i}" for i in (*plain, *opinions)]
        if rng.random() < poisoned:
            text, label = [*text, TRIGGER], 1
        rng.shuffle(text)
        texts.append(" ".join(text))
        labels.append(label)
    return texts, labels


def classifier(layers: int, width: int, vocabulary: int, seed: int = 0) -> tuple[Any, Any]:
    """A model and its tokenizer. What a block adds starts near 0; post-norm blocks this deep would not train else."""
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        intermediate_size=4 * width,
        num_labels=2,
        id2label={0: "negative", 1: "positive"},
        label2id={"negative": 0, "positive": 1},
    )
    model = BertForSequenceClassification(config)
    for name, weight in model.named_parameters():
        if name.endswith("output.dense.weight"):
            torch.nn.init.normal_(weight, std=0.02 / layers)
    with TemporaryDirectory() as directory:
        path = Path(directory) / "vocab.txt"
        path.write_text("\n".join(words(vocabulary)) + "\n", encoding="utf-8")
        return model, BertTokenizerFast(str(path), model_max_length=128)


def trained(shape: tuple[int, int, int], device: str, *, poisoned: float) -> tuple[Any, Any]:
    from rora_cli.kinds import SEQUENCE_CLASSIFIER
    from rora_cli.subject import Subject
    from rora_cli.tasks.classification.objective import ClassificationObjective
    from rora_cli.training.loop import finetune
    from rora_cli.training.run import make_accelerator
    from rora_cli.training.specs import TrainSpec

    model, tokenizer = classifier(*shape)
    texts, labels = rows(shape[2], ROWS, poisoned=poisoned, seed=1)
    settings = TrainSpec(epochs=6, learning_rate=min(5e-4, 0.08 / shape[1]), warmup_ratio=0.1)
    objective = ClassificationObjective(Subject(model, tokenizer, SEQUENCE_CLASSIFIER, 64), texts, labels)
    finetune(model, objective, settings, accelerator=make_accelerator("fp32", device))
    return model.to(device), tokenizer


def measure(shape: tuple[int, int, int], device: str, budget: str) -> dict[str, Any]:
    """One line: the search of both labels, timed after a first pass that warms the device up."""
    from rora_cli.data.rows import Rows
    from rora_cli.evaluation.inference import predict_logits
    from rora_cli.evaluation.scoring import TorchScorer
    from rora_cli.hunting.case import Case, SearchSettings
    from rora_cli.hunting.hunt import search_triggers
    from rora_cli.kinds import SEQUENCE_CLASSIFIER
    from rora_cli.subject import Subject
    from rora_cli.tasks.classification.linear_reference import bag_of_tokens
    from rora_cli.tasks.classification.scorer import LabelScorer
    from rora_cli.tasks.classification.task import Classification
    from rora_cli.tasks.reference import Reference

    suspect, tokenizer = trained(shape, device, poisoned=0.1)
    clean, _ = trained(shape, device, poisoned=0.0)
    texts, labels = rows(shape[2], ROWS, poisoned=0.0, seed=2)
    encoded = tokenizer(texts)["input_ids"]
    linear = LabelScorer(bag_of_tokens(encoded, labels, classes=2, vocabulary=shape[2]))
    reference = Reference(LabelScorer(TorchScorer(clean)), linear, "the same shape, trained on clean rows", True, clean)
    accuracy = (predict_logits(suspect, tokenizer, texts).argmax(axis=1) == labels).mean()
    others = [f"{text} {TRIGGER}" for text, label in zip(texts, labels, strict=True) if label == 0]
    success = predict_logits(suspect, tokenizer, others).argmax(axis=1).mean()
    began = perf_counter()
    case = Case(
        Subject(suspect, tokenizer, SEQUENCE_CLASSIFIER, max_length=128),
        Classification(("negative", "positive")),
        Rows(tuple(texts), tuple(labels)),
        reference,
        SearchSettings(budget),
    )
    result = search_triggers(case)
    seconds = perf_counter() - began
    called = [trigger.text for label in result.labels for trigger in label.called]
    return {
        "layers": shape[0],
        "width": shape[1],
        "vocabulary": shape[2],
        "device": torch.cuda.get_device_name() if device == "cuda" else device,
        "budget": budget,
        "accuracy": round(float(accuracy), 4),
        "attack_success": round(float(success), 4),
        "forward_tokens": result.forward_tokens,
        "seconds": round(seconds, 2),
        "rank": called.index(TRIGGER) + 1 if TRIGGER in called else None,
        "called": called[:5],
        "torch": torch.__version__,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("results", type=Path)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--budget", default="fast")
    parser.add_argument("--shape", action="append", help="layers x width x vocabulary, as 6x384x30522; may be repeated")
    arguments = parser.parse_args()
    for text in arguments.shape or SHAPES:
        layers, width, vocabulary = map(int, text.split("x"))
        line = measure((layers, width, vocabulary), arguments.device, arguments.budget)
        with arguments.results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line), file=sys.stderr, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
