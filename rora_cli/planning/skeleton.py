"""A checkpoint's model without its numbers: from its headers, or from a model that is loaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from rora_cli.checkpoints import sanitise


def skeleton(model_class: Any, config: Any, dtype: torch.dtype = torch.float32) -> Callable[[], Any]:
    """What builds the model on the meta device, with the attention that loading chooses.

    A classifier on a decoder refuses batches without a padding token, so it is given one.
    """
    attention = "sdpa" if getattr(model_class, "_supports_sdpa", False) else "eager"
    text = config.get_text_config()
    if getattr(text, "pad_token_id", None) is None:
        text.pad_token_id = 0

    def make() -> Any:
        with torch.device("meta"), sanitise.quiet():
            return model_class._from_config(config, attn_implementation=attention, dtype=dtype).eval()

    return make
