"""Finds the largest strength (a fraction of the factors) that keeps clean accuracy, by measuring the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from rora_cli.checkpoints.adapters import Adapter, BaseWeights
from rora_cli.checkpoints.adapters.merge import stored_delta
from rora_cli.checkpoints.loading import load_classifier
from rora_cli.checkpoints.preflight import Inspection
from rora_cli.commands.rescale.config import RescaleConfig
from rora_cli.data.sources import load_rows
from rora_cli.evaluation.accuracy import clean_accuracy
from rora_cli.evaluation.inference import predict_logits
from rora_cli.progress import Progress
from rora_cli.results.accuracy import CleanAccuracy
from rora_cli.results.rescale import RescaledModule, ScaleAttempt

#: Factor between the strengths that are tried, from 1 down, until one keeps accuracy.
_STEP = 2**-0.5
#: How often the gap to the strength before that one is halved then, in logarithms.
_HALVINGS = 3
#: Number of steps down after which no strength keeps accuracy.
_MOST_STEPS = 16


@dataclass(frozen=True)
class Guarded:
    """The factors that were kept, clean accuracy before and after, and every strength that was tried."""

    modules: list[RescaledModule]
    strength: float
    before: CleanAccuracy
    after: CleanAccuracy
    attempts: tuple[ScaleAttempt, ...]
    inputs: Mapping[str, str]


def largest_that_keeps_accuracy(
    config: RescaleConfig,
    inspection: Inspection,
    base: Inspection,
    adapter: Adapter,
    asked: Sequence[RescaledModule],
    progress: Progress,
) -> Guarded:
    """Search strengths in (0, 1] from above; no factor above 1 falls below 1, and none exceeds what was asked for.

    Accuracy may rise and fall with strength, so the search goes down from 1, stops at the first strength that keeps
    accuracy, and then halves the last gap. If none does, the adapter stays as it was (strength 0).
    """
    loaded = load_classifier(base.path, adapter=inspection.path)
    rows, summary = load_rows(
        config.clean or "",
        label_names=loaded.label_names,
        reading=config,
        seed=config.seed,
        max_rows=config.max_rows,
        allow_download=not config.offline,
    )
    for note in summary.notes:
        progress.note(note)
    scaled = _ScaledModel(loaded.model, adapter)
    attempts: list[ScaleAttempt] = []

    def measure(factors: Mapping[str, float]) -> CleanAccuracy:
        scaled.set(factors)
        logits = predict_logits(loaded.model, loaded.tokenizer, rows.texts)
        return clean_accuracy(logits, rows.labels, loaded.label_names)

    with progress.phase("clean accuracy") as task:
        before = measure({})

        def holds(strength: float) -> bool:
            accuracy = measure({m.name: m.factor for m in at_strength(asked, strength)})
            attempts.append(ScaleAttempt(strength, accuracy, accuracy.loss_beyond(before, config.allowed_drop) == 0))
            task.advance(strength=strength, accuracy=accuracy.overall.value or 0.0)
            return attempts[-1].accepted

        strength = search(holds, asked)
    kept = at_strength(asked, strength)
    after = next((a.accuracy for a in reversed(attempts) if a.accepted and a.strength == strength), before)
    return Guarded(kept, strength, before, after, tuple(attempts), summary.inputs)


def search(holds: Callable[[float], bool], asked: Sequence[RescaledModule]) -> float:
    """The largest strength found for which ``holds`` is true; 0 if there is none."""
    if holds(1.0):
        return 1.0
    failed, strength = 1.0, _STEP
    for _ in range(_MOST_STEPS):
        if all(m.factor == 1.0 for m in at_strength(asked, strength)):
            return 0.0
        if holds(strength):
            break
        failed, strength = strength, strength * _STEP
    else:
        return 0.0
    for _ in range(_HALVINGS):
        middle = (failed * strength) ** 0.5
        if holds(middle):
            strength = middle
        else:
            failed = middle
    return strength


def at_strength(asked: Sequence[RescaledModule], strength: float) -> list[RescaledModule]:
    """The modules with ``strength`` times their factors; a factor above 1 never falls below 1."""
    modules = []
    for m in asked:
        factor = m.factor if m.factor <= 1 else max(strength * m.factor, 1.0)
        factor = 1.0 if strength == 0 else factor
        unchanged = m.is_unchanged or factor == 1.0
        modules.append(replace(m, factor=factor, wanted_sigma=factor * m.sigma_before, is_unchanged=unchanged))
    return modules


class _ScaledModel:
    """A model with a merged adapter, whose updates can be scaled by any factors."""

    def __init__(self, model: nn.Module, adapter: Adapter) -> None:
        self._parameters = dict(model.named_parameters(remove_duplicate=False))
        names = BaseWeights(_Parameters(self._parameters))
        self._deltas: dict[str, tuple[str, Tensor, Tensor]] = {}
        for module in adapter.modules:
            name = names.find(module.name, module.parameter)
            if name is not None:
                weight = self._parameters[name].detach()
                self._deltas[module.name] = (name, weight.clone(), stored_delta(module, weight))

    @torch.no_grad()
    def set(self, factors: Mapping[str, float]) -> None:
        """Set every update to its factor (default 1) times what it was."""
        for module, (name, merged, delta) in self._deltas.items():
            self._parameters[name].copy_(merged + (factors.get(module, 1.0) - 1.0) * delta)


class _Parameters:
    def __init__(self, parameters: Mapping[str, nn.Parameter]) -> None:
        self._parameters = parameters

    def names(self) -> list[str]:
        return list(self._parameters)

    def info(self, name: str) -> Tensor:
        return self._parameters[name]

    def read(self, name: str) -> Tensor:
        return self._parameters[name].detach()
