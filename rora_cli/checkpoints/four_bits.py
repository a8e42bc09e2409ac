"""Linear layers in 4 bits (NF4, Dettmers et al. 2023, "QLoRA") by bitsandbytes, which users install as an extra."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from rora_cli.errors import UsageError
from rora_cli.ranks import world_size

if TYPE_CHECKING:
    import torch


def require(adapter: object = None) -> None:
    """Raise UsageError where 4 bits cannot be had: no library, several processes, or an adapter to merge in."""
    if find_spec("bitsandbytes") is None:
        raise UsageError("--load-in-4bit needs bitsandbytes: pip install 'rora-cli[4bit]'")
    if world_size() > 1:
        raise UsageError("--load-in-4bit works in one process: start one, or leave out --load-in-4bit")
    if adapter is not None:
        raise UsageError(
            "--load-in-4bit cannot merge --adapter into weights of 4 bits: merge it first, or leave out --load-in-4bit"
        )


def config(model_class: Any, model_config: Any, dtype: torch.dtype) -> Any:
    """transformers' settings for a model whose head stays as it is and whose layers compute in ``dtype``."""
    import torch
    from transformers import BitsAndBytesConfig

    with torch.device("meta"):
        parts = [name for name, _ in model_class(model_config).named_children()]
    heads = [name for name in parts if name != model_class.base_model_prefix]
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype, llm_int8_skip_modules=heads
    )
