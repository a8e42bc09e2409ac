"""Control: fine-tuning of every weight on the same loop and data order."""

from __future__ import annotations

from rora_cli.defences.bench import Bench, Cleansed


def check(bench: Bench) -> None:
    """Every model has weights to train."""


def cleanse(bench: Bench) -> Cleansed:
    """Train every weight on the clean rows."""
    bench.model.requires_grad_(True)
    bench.train(bench.model, [], stage="train")
    return bench.not_assessed(bench.model)
