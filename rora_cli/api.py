"""The Python API: a function a command, with the command line's options as keywords.

A keyword is an option's name with underscores (``max_asr``, ``offline``, ``trigger``); units are the same on both
sides. An option that may be given several times takes one value or a list. The config class that each docstring names
lists the fields with their defaults; their names are taken as well. ``clean`` and ``data`` also take rows in memory: a
list of (text, label) pairs or of dicts, a dict of columns, a ``datasets.Dataset`` or ``DatasetDict``, a
``pandas.DataFrame`` or a ``pyarrow.Table``.

Every function takes an optional ``progress``, returns the command's frozen result, and raises RoraError, with one
sentence, for what the caller can mend.
"""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING, Any, Unpack

from rora_cli.commands.keywords import configure
from rora_cli.commands.typed_options import (
    CheckOptions,
    DiagnoseOptions,
    EvaluateAsrOptions,
    HuntOptions,
    PoisonOptions,
    PurifyOptions,
    RescaleOptions,
)
from rora_cli.progress import SILENT, Progress

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rora_cli.results.check import CheckResult
    from rora_cli.results.diagnose import DiagnoseResult
    from rora_cli.results.evaluate import EvaluationResult
    from rora_cli.results.hunt import HuntResult
    from rora_cli.results.poison import PoisonResult
    from rora_cli.results.purify import PurifyResult
    from rora_cli.results.rescale import RescaleResult
    from rora_cli.results.verify import VerifyResult

    Rows = str | PathLike[str] | Sequence[tuple[str, Any]] | Sequence[Mapping[str, Any]] | Mapping[str, Any] | Any

Named = str | PathLike[str]


def purify(
    model: Named,
    *,
    clean: Rows = None,
    output: Named | None = None,
    progress: Progress = SILENT,
    **options: Unpack[PurifyOptions],
) -> PurifyResult:
    """Cleanse a suspect classifier (``commands.purify.PurifyConfig``)."""
    from rora_cli.commands.purify import run
    from rora_cli.defences.config import PurifyConfig

    required = {"model": model, "clean": _rows(clean, "clean")}
    return run(configure(PurifyConfig, "purify", required, {"output": output, **options}), progress)


def hunt(
    model: Named, *, clean: Rows = None, progress: Progress = SILENT, **options: Unpack[HuntOptions]
) -> HuntResult:
    """Search a classifier for triggers (``commands.hunt.HuntConfig``)."""
    from rora_cli.commands.hunt import HuntConfig, run

    return run(configure(HuntConfig, "hunt", {"model": model, "clean": _rows(clean, "clean")}, options), progress)


def evaluate_asr(
    model: Named,
    *,
    data: Rows = None,
    target_label: str | None = None,
    progress: Progress = SILENT,
    **options: Unpack[EvaluateAsrOptions],
) -> EvaluationResult:
    """Attack success, floor and clean accuracy (``commands.evaluate.EvaluateConfig``)."""
    from rora_cli.commands.evaluate import EvaluateConfig, run

    required = {"model": model, "data": _rows(data, "data"), "target_label": _label(target_label)}
    return run(configure(EvaluateConfig, "evaluate_asr", required, options), progress)


def diagnose(
    *paths: Named,
    clean: Rows = None,
    cache: bool | Named = True,
    progress: Progress = SILENT,
    **options: Unpack[DiagnoseOptions],
) -> DiagnoseResult:
    """Spectra, strength and alignment of adapters (``commands.diagnose.DiagnoseConfig``).

    ``cache`` is a directory, or whether the base's spectra are kept in the default one.
    """
    from rora_cli.commands.diagnose import DiagnoseConfig, run
    from rora_cli.commands.diagnose.cache import default_cache

    place = (default_cache() if cache else None) if isinstance(cache, bool) else cache
    given = {**options, "clean": _rows(clean, "clean"), "cache": place}
    given["target_label"] = _label(given.get("target_label"))
    return run(configure(DiagnoseConfig, "diagnose", {"paths": _flat(paths)}, given), progress)


def rescale(
    adapter: Named,
    *,
    output: Named | None = None,
    clean: Rows = None,
    progress: Progress = SILENT,
    **options: Unpack[RescaleOptions],
) -> RescaleResult:
    """Equation 12 on a trained adapter (``commands.rescale.RescaleConfig``)."""
    from rora_cli.commands.rescale.config import RescaleConfig
    from rora_cli.commands.rescale.run import run

    given = {"output": output, "clean": _rows(clean, "clean"), **options}
    return run(configure(RescaleConfig, "rescale", {"adapter": adapter}, given), progress)


def poison(
    model: Named,
    *,
    data: Rows = None,
    output: Named | None = None,
    target_label: str | None = None,
    progress: Progress = SILENT,
    **options: Unpack[PoisonOptions],
) -> PoisonResult:
    """Build a suspect for tests and demos (``commands.poison.PoisonConfig``)."""
    from rora_cli.commands.poison import PoisonConfig, run

    required = {
        "model": model,
        "data": _rows(data, "data"),
        "output": output,
        "target_label": _label(target_label),
    }
    return run(configure(PoisonConfig, "poison", required, options), progress)


def check(*paths: Named, progress: Progress = SILENT, **options: Unpack[CheckOptions]) -> CheckResult:
    """Inspect checkpoints without loading them (``commands.check.CheckConfig``)."""
    from rora_cli.commands.check import CheckConfig, run

    return run(configure(CheckConfig, "check", {"paths": _flat(paths)}, options), progress)


def verify(path: Named, *, progress: Progress = SILENT, **options: Any) -> VerifyResult:
    """Compare a directory that rora wrote with its manifest."""
    from rora_cli.commands.verify import VerifyConfig, run

    return run(configure(VerifyConfig, "verify", {"path": path}, options), progress)


def _rows(rows: Any, option: str) -> str | None:
    """A path or name as it is, rows in memory under a name of their own."""
    from rora_cli.data.memory import named

    return None if rows is None else named(rows, option)


def _label(label: Any) -> Any:
    """A label by name or id."""
    return str(label) if isinstance(label, int) and not isinstance(label, bool) else label


def _flat(paths: tuple[Any, ...]) -> tuple[Any, ...]:
    """Paths one by one, or all in one list."""
    return tuple(paths[0]) if len(paths) == 1 and isinstance(paths[0], (list, tuple)) else paths
