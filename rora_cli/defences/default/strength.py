"""How much Cl a model withstands: dropout on the output of its frozen weights, which few decoders were trained with."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from rora_cli.defences.bench import Bench
from rora_cli.evaluation.inference import evaluation_mode
from rora_cli.sharded import gradients_off
from rora_cli.training.adapters import AdaptedLayer
from rora_cli.training.regularisers import clean_strengthened

#: Loss on clean rows [nats a row] that Cl may add. At .1 it changed that of five MiniLMs by -.11 to +.04 (the masks are
#: drawn). To a SmolLM2 with a head it added .57: it read no better than chance, and in 300 steps learned nothing.
MAX_ADDED_LOSS = 0.2
#: Clean rows that this is measured on, and rows of one forward pass.
ROWS, BATCH = 128, 32


def without_harmful_cl(bench: Bench, model: nn.Module, layers: Sequence[AdaptedLayer]) -> None:
    """Leave Cl out of the bench's settings if ``model`` cannot be trained under it, unless the user asked for it."""
    p = bench.settings.regularisers.cl
    if not p or bench.config.cl is not None:
        return
    added = _loss(bench, model, layers, p) - _loss(bench, model, layers, 0.0)
    if added > MAX_ADDED_LOSS:
        bench.settings = bench.settings.having(cl=0.0)
        bench.run.progress.note(
            f"Cl at {p:g} adds {added:.2f} nats to the loss on clean rows, {MAX_ADDED_LOSS:g} is allowed: left out "
            f"(--cl {p:g} keeps it)"
        )


def _loss(bench: Bench, model: nn.Module, layers: Sequence[AdaptedLayer], p: float) -> float:
    """Mean loss on clean rows as training sees them, under Cl with probability ``p`` [nats]."""
    texts, labels = bench.clean.texts[:ROWS], bench.clean.labels[:ROWS]
    objective = bench.task.objective(bench.subject, texts, labels)
    objective.start_epoch(0)
    rows = range(len(texts))
    model.to(bench.run.device)
    # The first puts every module back into the mode that it was in.
    with evaluation_mode(model), torch.random.fork_rng(), clean_strengthened(model.train(), layers, p):
        torch.manual_seed(bench.config.seed)
        with gradients_off(model), bench.run.accelerator.autocast():
            total = sum(float(objective.loss(model, rows[start : start + BATCH])) for start in rows[::BATCH])
    return total / max(objective.units(rows), 1)
