"""rora: find, cleanse and prove away backdoors in Hugging Face checkpoints and LoRA adapters.

RoRA here is regularized low-rank adaptation (arXiv:2601.06305), not the LoRA scaling factor of arXiv:2501.04315.

The functions below do all that the command line does. They are imported on first use, so that ``import rora_cli``
costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rora_cli.version import __version__

if TYPE_CHECKING:
    from rora_cli.api import check, diagnose, evaluate_asr, hunt, poison, purify, rescale, verify

__all__ = ["__version__", "check", "diagnose", "evaluate_asr", "hunt", "poison", "purify", "rescale", "verify"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from rora_cli import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
