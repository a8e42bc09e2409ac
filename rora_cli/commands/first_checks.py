"""What can be refused within a second, before torch is imported and a model is loaded."""

from __future__ import annotations

from collections.abc import Iterable

from rora_cli.checkpoints.hub import require_name
from rora_cli.data.sources import require_path


def require_inputs(models: Iterable[str | None], data: str | None) -> None:
    """Raise CheckpointError or DataError for a model or data that can only be a path, where nothing is."""
    for model in models:
        if model is not None:
            require_name(model)
    if data is not None:
        require_path(data)
