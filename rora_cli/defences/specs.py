"""A recipe's settings in the terms of the training room."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rora_cli.training.adapters import AdapterSpec
from rora_cli.training.loop import TrainConfig
from rora_cli.training.regularisers import RegulariserSpec, require_penalisable
from rora_cli.training.rescaling import RescalingSpec, require_rescalable

if TYPE_CHECKING:
    from rora_cli.defences.config import PurifyConfig


@dataclass(frozen=True)
class Specifications:
    """The settings in the terms of the training room."""

    adapter: AdapterSpec
    regularisers: RegulariserSpec
    rescaling: RescalingSpec
    train: TrainConfig


def specifications(config: PurifyConfig, setting: Mapping[str, Any], *, max_length: int = 512) -> Specifications:
    """Build and thereby check every specification. Raises UsageError with the option that is out of range."""
    if setting["tr"]:
        require_penalisable(setting["variant"])
    if setting["pt"]:
        require_rescalable(setting["variant"])
    return Specifications(
        AdapterSpec(
            variant=setting["variant"],
            r=setting["rank"],
            alpha=setting["alpha"],
            dropout=setting["lora_dropout"],
            target_modules=tuple(setting["target_modules"]),
            train_head=not config.freeze_head,
        ),
        RegulariserSpec(setting["cl"], setting["tr"], setting["tr_k"], setting["tr_reduction"]),
        RescalingSpec(
            strength=setting["pt"],
            layers=setting["pt_layers"],
            cap=setting["pt_cap"],
            guard=setting["pt_guard"],
            max_accuracy_drop=config.allowed_drop,
        ),
        TrainConfig(
            epochs=setting["epochs"],
            batch_size=setting["batch_size"],
            micro_batch_size=config.micro_batch_size,
            learning_rate=setting["learning_rate"],
            weight_decay=setting["weight_decay"],
            schedule=setting["schedule"],
            warmup_ratio=setting["warmup_ratio"],
            max_grad_norm=config.max_grad_norm,
            max_length=max_length,
            precision=config.precision,
            gradient_checkpointing=config.gradient_checkpointing,
            checkpoint_every=config.checkpoint_every,
            seed=config.seed,
        ),
    )
