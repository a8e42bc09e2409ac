"""What keeps clean accuracy after a training: shrink the update, correct the model, rescale the update (Pt).

Every process makes the same changes of its own weights, since all measure together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter

import torch
from torch import Tensor, nn

from rora_cli.defences.bench import Bench
from rora_cli.defences.gauge import Gauge
from rora_cli.results.accuracy import CleanAccuracy
from rora_cli.sharded import part
from rora_cli.tasks.correction import Proposal
from rora_cli.training.adapters import AdaptedLayer, trained_heads
from rora_cli.training.kept import Kept, keep_share
from rora_cli.training.rescaling import rescale_trained

#: Fractions of an update that ``shrink`` keeps, tried in this order.
KEPT_FRACTIONS = (1.0, 0.9, 0.8, 0.7, 0.5, 0.3)
#: The same for an update that the model can do without.
KEPT_FRACTIONS_OR_NONE = (*KEPT_FRACTIONS, 0.0)


@dataclass(frozen=True)
class Trained:
    """A ``weight`` that training changed; ``start()`` gives its value before that [the same shape].

    Of a sharded model both are the part that this process holds.
    """

    weight: Tensor
    start: Callable[[], Tensor]


def trained_by_adapter(model: nn.Module, layers: Sequence[AdaptedLayer]) -> list[Trained]:
    """The weights that take an adapter's update back when each goes to its start: lora_B [d_out, r] and the head's."""
    factors = [part(layer.lora_B) for layer in layers]
    heads = [Trained(part(weight), partial(part, start)) for weight, start in trained_heads(model)]
    return [Trained(factor, partial(torch.zeros_like, factor)) for factor in factors] + heads


def shrink(
    gauge: Gauge,
    model: nn.Module,
    trained: Sequence[Trained],
    *,
    stage: str,
    fractions: Sequence[float] = KEPT_FRACTIONS,
) -> Proposal:
    """Keep the first of the ``fractions`` of an update with which the model, once corrected, keeps to the limit.

    If none does, the one that loses least is kept. Measured: a suspect that had lost 5 points on one class had its
    accuracy again at .8 of the update, and the trigger worked no better (docs/measurements.md). Returns the correction
    that ``balance`` should now make.
    """
    began = perf_counter()
    ends = Kept({str(number): each.weight for number, each in enumerate(trained)})

    def keep(fraction: float) -> None:
        keep_share((each.weight for each in trained), (each.start() for each in trained), ends.values(), fraction)

    lost: dict[float, float] = {}
    proposals: dict[float, Proposal] = {}
    for fraction in fractions:
        keep(fraction)
        proposals[fraction] = gauge.propose(model)
        lost[fraction] = gauge.loss_beyond(proposals[fraction])
        if not lost[fraction]:
            break
    kept = min(lost, key=lambda fraction: (lost[fraction], -fraction))
    keep(kept)
    if kept < 1:
        gauge.run.record(stage, perf_counter() - began, details={"share of the update": kept})
    return proposals[kept]


def balance(gauge: Gauge, model: nn.Module, *, stage: str, proposal: Proposal | None = None) -> None:
    """Make the task's correction of ``model`` in place, if it has one that helps.

    ``proposal`` is what ``shrink`` returned, if the model was not changed since.
    """
    correction = gauge.task.correction
    if correction is None:
        return
    began = perf_counter()
    if done := correction.make(gauge.subject.having(model), proposal or gauge.propose(model)):
        gauge.run.record(stage, perf_counter() - began, details=done)


def rescale(bench: Bench, model: nn.Module, layers: Sequence[AdaptedLayer], *, stage: str) -> None:
    """Pt as the settings say (``training.rescaling``)."""
    spec, run, gauge = bench.settings.rescaling, bench.run, bench.gauge
    if not spec.pt:
        return
    began = perf_counter()
    with run.progress.phase(stage) as meter:

        def measure() -> CleanAccuracy:
            accuracy = gauge.measure(model)
            meter.advance(1, accuracy=accuracy.overall.value or 0.0)
            return accuracy

        outcome = rescale_trained(layers, spec, measure, gauge.before)
    run.record(stage, perf_counter() - began, rescaling=outcome)
    if outcome.strength != spec.pt:
        kept = f"{outcome.strength:g} of Eq. 12" if outcome.strength else "none of it"
        run.progress.warn(
            f"Pt at {spec.pt:g} of Eq. 12 would cost more than {spec.max_accuracy_drop:g} points of "
            f"clean accuracy; backed off to {kept}"
        )
