from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from rora_cli.defences.bench import SHRUNK, SHRUNK_AWAY, Workbench
from rora_cli.results.accuracy import CleanAccuracy, Proportion


def accuracy(right: int) -> CleanAccuracy:
    share = Proportion(right, 100, 0.0, 1.0)
    return CleanAccuracy(share, {"negative": share})


@pytest.mark.parametrize(
    ("kept_up_to", "expected", "shares"),
    [
        (1.0, 1.0, SHRUNK),
        (0.85, 0.8, SHRUNK),
        (0.5, 0.5, SHRUNK),
        (0.2, 1.0, SHRUNK),
        (0.2, 0.0, SHRUNK_AWAY),
        (-1.0, 1.0, SHRUNK_AWAY),
    ],
)
def test_as_much_of_the_update_is_kept_as_accuracy_allows(
    kept_up_to: float, expected: float, shares: tuple[float, ...]
) -> None:
    """And all of it where no share of it helps at all: the verdict then says what was lost."""
    layer: Any = SimpleNamespace(lora_B=nn.Parameter(torch.ones(2, 2)))
    bench: Any = SimpleNamespace(
        accelerator=SimpleNamespace(is_main_process=True),
        config=SimpleNamespace(allowed_drop=0.01),
        before=accuracy(90),
        stages=[],
        balancing_shift=lambda _: (None, accuracy(90 if layer.lora_B[0, 0].item() <= kept_up_to else 80)),
    )
    Workbench.shrink(bench, nn.Identity(), [(layer.lora_B, torch.zeros(2, 2))], stage="shrink 1", shares=shares)
    torch.testing.assert_close(layer.lora_B.detach(), torch.full((2, 2), expected))
    assert [stage.details["share of the update"] for stage in bench.stages] == ([expected] if expected < 1 else [])
