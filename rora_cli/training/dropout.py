"""Dropout on a CPU, where torch draws its masks number by number: a fifth of a training step of MiniLM with LoRA."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional


@contextmanager
def masks_drawn_together(model: nn.Module) -> Iterator[None]:
    """Inside, the dropout modules of ``model`` that are on a CPU drop out by ``drop_out``."""
    modules = [module for module in model.modules() if type(module) is nn.Dropout]
    for module in modules:
        module.__class__ = _Dropout
    try:
        yield
    finally:
        for module in modules:
            module.__class__ = nn.Dropout


class _Dropout(nn.Dropout):
    def forward(self, input: Tensor) -> Tensor:
        return drop_out(input, self.p) if self.training and self.p else input


def drop_out(output: Tensor, p: float) -> Tensor:
    """``output`` [any shape], each entry 0 with probability p, else divided by 1 - p.

    The mask comes from torch's default generator of the device. On a CPU one draw of 64 bits decides four entries, and
    p is rounded to 1/65536.
    """
    if output.device.type != "cpu":
        return functional.dropout(output, p)
    dropped = round(p * 2**16)
    draws = torch.empty(-(-output.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    keep = draws.view(torch.int16)[: output.numel()].view(output.shape) >= dropped - 2**15
    return output * keep.to(output.dtype).mul_(2**16 / (2**16 - dropped))
