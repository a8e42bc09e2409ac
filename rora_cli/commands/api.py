"""The Python API: a function a command, with the command line's options as keywords.

``options`` are the fields of the config class that each docstring names. Every function takes an optional ``progress``,
returns the command's frozen result, and raises RoraError, with one sentence, for what the caller can mend.
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rora_cli.progress import SILENT, Progress

if TYPE_CHECKING:
    from rora_cli.results.check import CheckResult, VerifyResult
    from rora_cli.results.diagnose import DiagnoseResult
    from rora_cli.results.evaluate import EvaluationResult
    from rora_cli.results.hunt import HuntResult
    from rora_cli.results.poison import PoisonResult
    from rora_cli.results.purify import PurifyResult
    from rora_cli.results.rescale import RescaleResult

Named = str | PathLike[str]


def purify(
    model: Named, *, clean: Named, output: Named | None = None, progress: Progress = SILENT, **options: Any
) -> PurifyResult:
    """Cleanse a suspect classifier (``commands.purify.PurifyConfig``)."""
    from rora_cli.commands.purify import PurifyConfig, run

    out = None if output is None else str(output)
    return run(PurifyConfig(model=str(model), clean=str(clean), output=out, **options), progress)


def hunt(model: Named, *, clean: Named, progress: Progress = SILENT, **options: Any) -> HuntResult:
    """Search a classifier for triggers (``commands.hunt.HuntConfig``)."""
    from rora_cli.commands.hunt import HuntConfig, run

    return run(HuntConfig(model=str(model), clean=str(clean), **options), progress)


def evaluate_asr(
    model: Named, *, data: Named, target_label: str, progress: Progress = SILENT, **options: Any
) -> EvaluationResult:
    """Attack success, floor and clean accuracy (``commands.evaluate.EvaluateConfig``)."""
    from rora_cli.commands.evaluate import EvaluateConfig, run

    return run(EvaluateConfig(model=str(model), data=str(data), target_label=target_label, **options), progress)


def diagnose(*paths: Named, progress: Progress = SILENT, **options: Any) -> DiagnoseResult:
    """Spectra, strength and alignment of adapters (``commands.diagnose.DiagnoseConfig``)."""
    from rora_cli.commands.diagnose import DiagnoseConfig, run

    return run(DiagnoseConfig(paths=tuple(map(str, paths)), **options), progress)


def rescale(
    adapter: Named, *, output: Named | None = None, progress: Progress = SILENT, **options: Any
) -> RescaleResult:
    """Equation 12 on a trained adapter (``commands.rescale.RescaleConfig``)."""
    from rora_cli.commands.rescale import RescaleConfig, run

    out = None if output is None else Path(output)
    return run(RescaleConfig(adapter=str(adapter), output=out, **options), progress)


def poison(
    model: Named, *, data: Named, output: Named, target_label: str, progress: Progress = SILENT, **options: Any
) -> PoisonResult:
    """Build a suspect for tests and demos (``commands.poison.PoisonConfig``)."""
    from rora_cli.commands.poison import PoisonConfig, run

    return run(PoisonConfig(str(model), str(data), str(output), target_label, **options), progress)


def check(*paths: Named, progress: Progress = SILENT, **options: Any) -> CheckResult:
    """Inspect checkpoints without loading them (``commands.check.CheckConfig``)."""
    from rora_cli.commands.check import CheckConfig, run

    return run(CheckConfig(paths=tuple(map(str, paths)), **options), progress)


def verify(path: Named, *, progress: Progress = SILENT) -> VerifyResult:
    """Compare a directory that rora wrote with its manifest."""
    from rora_cli.commands.verify import VerifyConfig, run

    return run(VerifyConfig(path=str(path)), progress)
