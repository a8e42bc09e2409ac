from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import nn

from rora_cli.defences.corrections import KEPT_FRACTIONS, KEPT_FRACTIONS_OR_NONE, Trained, balance, shrink
from rora_cli.defences.gauge import Gauge
from rora_cli.results.accuracy import CleanAccuracy
from rora_cli.subject import Subject
from rora_cli.tasks.correction import Proposal
from tests.defences.fakes import FakeTask, accuracy, fake_bench


def gauge_where(model: nn.Module, kept_up_to: float) -> Gauge:
    """The suspect has 90 % right, and so has a model whose first weight is at most ``kept_up_to``; others have 80 %."""

    def quality(measured: nn.Module) -> CleanAccuracy:
        return accuracy(90 if next(measured.parameters()).flatten()[0].item() <= kept_up_to else 80)

    gauge = fake_bench(model, FakeTask(quality_of=quality)).gauge
    gauge.before = accuracy(90)
    return gauge


@pytest.mark.parametrize(
    ("kept_up_to", "expected", "fractions"),
    [
        (1.0, 1.0, KEPT_FRACTIONS),
        (0.85, 0.8, KEPT_FRACTIONS),
        (0.5, 0.5, KEPT_FRACTIONS),
        (0.2, 1.0, KEPT_FRACTIONS),
        (0.2, 0.0, KEPT_FRACTIONS_OR_NONE),
        (-1.0, 1.0, KEPT_FRACTIONS_OR_NONE),
    ],
)
def test_as_much_of_the_update_is_kept_as_accuracy_allows(
    kept_up_to: float, expected: float, fractions: tuple[float, ...]
) -> None:
    """And all of it if no fraction of it helps at all: the verdict then says what was lost."""
    model = nn.Linear(2, 2, bias=False)
    nn.init.ones_(model.weight)
    gauge = gauge_where(model, kept_up_to)
    proposal = shrink(
        gauge, model, [Trained(model.weight, torch.zeros(2, 2).detach)], stage="shrink 1", fractions=fractions
    )
    torch.testing.assert_close(model.weight.detach(), torch.full((2, 2), expected))
    shares = [stage.details["share of the update"] for stage in gauge.run.stages]
    assert shares == ([expected] if expected < 1 else [])
    assert proposal.quality == accuracy(90 if expected <= kept_up_to else 80)


@dataclass
class Shift:
    """Proposes to add ``by`` to the first weight, which gives back everything; counts how often it was asked."""

    by: float
    asked: int = 0
    made: list[Any] = field(default_factory=list)

    def propose(self, subject: Subject, rows: Any, before: CleanAccuracy, limit: float) -> Proposal:
        self.asked += 1
        return Proposal(before, self.by or None)

    def make(self, subject: Subject, proposal: Proposal) -> Mapping[str, Any]:
        if proposal.change is None:
            return {}
        self.made.append(proposal.change)
        return {"shifted by": proposal.change}


def test_the_tasks_correction_counts_when_an_update_is_shrunk_and_is_made_once() -> None:
    model = nn.Linear(2, 2, bias=False)
    gauge = gauge_where(model, kept_up_to=-1e9)
    correction: Any = Shift(0.5)
    gauge.task = FakeTask(quality_of=lambda _: accuracy(10), correction=correction)  # type: ignore[assignment]
    proposal = shrink(gauge, model, [Trained(model.weight, torch.zeros(2, 2).detach)], stage="shrink 1")
    assert gauge.run.stages == [] and gauge.beyond(model) == 0.0, "corrected, nothing is lost"
    balance(gauge, model, stage="balance 1", proposal=proposal)
    assert correction.made == [0.5] and correction.asked == 2, "what shrink proposed is not asked for again"
    balance(gauge, model, stage="balance 1, rescaled")
    assert correction.made == [0.5, 0.5] and correction.asked == 3
    assert [(stage.name, stage.details) for stage in gauge.run.stages] == [
        ("balance 1", {"shifted by": 0.5}),
        ("balance 1, rescaled", {"shifted by": 0.5}),
    ]
    correction.by = 0.0
    balance(gauge, model, stage="balance 2")
    assert len(gauge.run.stages) == 2, "what changes nothing is no stage"


def test_without_a_correction_a_model_is_measured_as_it_is() -> None:
    model = nn.Linear(2, 2, bias=False)
    nn.init.ones_(model.weight)
    gauge = gauge_where(model, kept_up_to=0.5)
    assert gauge.beyond(model) == pytest.approx(0.09)
    balance(gauge, model, stage="balance 1")
    assert gauge.run.stages == []
