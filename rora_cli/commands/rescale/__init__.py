"""``rora rescale``: equation 12 on a trained adapter, without training."""

from __future__ import annotations

from rora_cli.commands.rescale.config import RescaleConfig
from rora_cli.commands.rescale.run import run

__all__ = ["RescaleConfig", "run"]
