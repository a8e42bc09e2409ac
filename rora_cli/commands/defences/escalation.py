"""Weaken what no search finds, in the suspect's weights themselves: mix an ancestor in, or forget the upper blocks.

Training takes the effect of what was found, and of little else. Both ways here act on a trigger that nobody named: the
suspect's share of a mixture carries less of it, and blocks drawn anew learn the task from clean rows alone. What of
either keeps clean accuracy is chosen on held-out clean rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from rora_cli.attacks.hardening import Hardener
from rora_cli.commands.defences.mixed import mix
from rora_cli.commands.defences.reinitialised import reinitialise
from rora_cli.commands.recipes import FULL
from rora_cli.commands.workbench import Workbench
from rora_cli.results.purify import StageRecord
from rora_cli.training.adapters import block_index
from rora_cli.training.loop import on_main
from rora_cli.training.rescaling import keeps_accuracy

#: Shares of the suspect that are tried where an ancestor is mixed in.
SUSPECT_SHARES = (0.5, 0.4, 0.3, 0.2)
#: Shares of the blocks, from the top, that are tried where blocks are forgotten, and the epochs of training after it.
FORGOTTEN_SHARES, EPOCHS = (1 / 2, 1 / 3), 6


def mix_in(bench: Workbench, ancestor: nn.Module | None, name: str, worst: Callable[[nn.Module], float]) -> bool:
    """Mix ``ancestor``, which the main process has, into the suspect; whether clean accuracy allowed it.

    ``worst`` is by how much the found trigger that works best exceeds its floor: the share that leaves it least is
    taken. Where that tells no difference the ancestor gets most of the say.
    """

    def choose() -> float | None:
        return _best_share(bench, ancestor, worst) if ancestor is not None else None

    share = on_main(bench.accelerator, choose)
    if share is None:
        return False
    if ancestor is not None:
        mix(bench.model, ancestor.to(bench.accelerator.device), share)
    bench.stages.append(StageRecord("mix", 0.0, details={"suspect's share": share, "ancestor": name}))
    return True


def _best_share(bench: Workbench, ancestor: nn.Module, worst: Callable[[nn.Module], float]) -> float | None:
    original = _copy(bench.model)
    tried: dict[float, float] = {}
    for share in SUSPECT_SHARES:
        bench.model.load_state_dict(original)
        mix(bench.model, ancestor.to(bench.accelerator.device), share)
        if _keeps_accuracy(bench):
            tried[share] = worst(bench.model)
    bench.model.load_state_dict(original)
    return min(tried, key=lambda share: (tried[share], share), default=None)


def forget(bench: Workbench, hardener: Hardener | None) -> bool:
    """Draw the upper blocks and the head anew and train the whole model; whether clean accuracy allowed it.

    It needs no other model. Half of the blocks are tried, then a third.
    """
    blocks = len({block for name, _ in bench.model.named_parameters() if (block := block_index(name)) is not None})
    original = _copy(bench.model)
    for count in dict.fromkeys(int(share * blocks) for share in FORGOTTEN_SHARES):
        if not count:
            break
        torch.manual_seed(bench.config.seed)
        reinitialise(bench.model, count)
        bench.model.requires_grad_(True)
        settings = {**FULL, "cl": 0.0, "tr": 0.0, "epochs": bench.config.epochs or EPOCHS}
        bench.train(
            bench.model,
            [],
            stage=f"forget {count} block{'s' if count > 1 else ''}",
            transform=hardener,
            overrides=settings,
        )
        kept = on_main(bench.accelerator, lambda: _keeps_accuracy(bench))
        bench.stages[-1] = replace(bench.stages[-1], details={"kept": kept})
        if kept:
            return True
        bench.model.load_state_dict(original)
    return False


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {name: weight.clone() for name, weight in model.state_dict().items()}


def _keeps_accuracy(bench: Workbench) -> bool:
    """Whether the suspect's accuracy is kept, once balanced: training is followed by that."""
    before = bench.before or bench.measure_here()
    return keeps_accuracy(before, bench.balancing_shift(bench.model)[1], bench.config.max_accuracy_drop)
