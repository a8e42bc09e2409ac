"""The Python API: a function a command, with the command line's options as keywords.

Each takes an optional ``progress`` and returns the command's frozen result; RoraError is what they raise on purpose.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rora_cli.progress import SILENT, Progress

if TYPE_CHECKING:
    from rora_cli.results.evaluate import EvaluationResult
    from rora_cli.results.purify import PurifyResult


def purify(model: str, *, clean: str, progress: Progress = SILENT, **options: Any) -> PurifyResult:
    """Cleanse a suspect classifier; ``options`` are the fields of ``commands.purify.PurifyConfig``."""
    from rora_cli.commands.purify import PurifyConfig, run

    return run(PurifyConfig(model=str(model), clean=str(clean), **options), progress)


def evaluate_asr(
    model: str, *, data: str, target_label: str, progress: Progress = SILENT, **options: Any
) -> EvaluationResult:
    """Attack success, floor and clean accuracy; ``options`` are the fields of ``commands.evaluate.EvaluateConfig``."""
    from rora_cli.commands.evaluate import EvaluateConfig, run

    return run(EvaluateConfig(model=str(model), data=str(data), target_label=target_label, **options), progress)
