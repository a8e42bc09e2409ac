"""A result that the processes hold in parts, made whole for writing it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import nn

from rora_cli.defences.bench import Bench, Cleansed
from rora_cli.defences.inputs import Source, load
from rora_cli.defences.output import CHECKED_ROWS, MAX_DIFFERENCE, MAX_DIFFERENCE_ROUNDED
from rora_cli.errors import OutputError
from rora_cli.sharded import assign, is_sharded
from rora_cli.training.adapters import AdaptedLayer, attach
from rora_cli.training.sharding import gather_trained
from rora_cli.training.state import trainable


def gathered(bench: Bench, source: Source, cleansed: Cleansed) -> Cleansed:
    """``cleansed``, its model whole in the main process's memory; every process calls this.

    The main process reads the suspect from its files again and puts what was trained in place: only that is gathered. A
    model that is not sharded comes back as it is.

    Raises:
        OutputError: the whole model gives other logits than the sharded one, by more than rounding.
    """
    if not is_sharded(cleansed.model):
        return cleansed
    texts = bench.gauge.held_out.texts[:CHECKED_ROWS]
    subject = bench.subject

    def logits(model: nn.Module) -> np.ndarray:
        return bench.task.logits(subject.having(model), texts)

    expected = logits(cleansed.model)
    trained = gather_trained(cleansed.model, keep=bench.run.is_main)
    if not bench.run.is_main:
        return cleansed
    model: nn.Module = load(source.model, source.adapter, bench.config, str(bench.run.device)).model
    layers: list[AdaptedLayer] = []
    if cleansed.layers:
        model, layers = attach(model, bench.settings.adapter, subject.kind)
    own = trainable(model)
    if own.keys() != trained.keys():
        raise OutputError(f"{min(own.keys() ^ trained.keys())} was not gathered: please report this")
    for name, parameter in own.items():
        assign(parameter, trained.pop(name))
    model.eval()
    difference = float(np.abs(logits(model) - expected).max())
    held = {parameter.dtype for parameter in cleansed.model.parameters()}
    exact = bench.run.accelerator.mixed_precision == "no" and held == {torch.float32}
    allowed = MAX_DIFFERENCE if exact else MAX_DIFFERENCE_ROUNDED * max(1.0, float(np.abs(expected).max()))
    if not difference <= allowed:
        raise OutputError(
            f"the model as gathered from all processes gives other logits than the sharded one (by up to "
            f"{difference:.3g}); nothing was kept: please report this"
        )
    return replace(cleansed, model=model, layers=layers)
