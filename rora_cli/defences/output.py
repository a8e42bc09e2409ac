"""What ``purify`` leaves behind: merged model, adapter, report and card, checked by loading them again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from rora_cli.checkpoints.joint import join_into
from rora_cli.checkpoints.writer import load_as_written, save_classifier
from rora_cli.defences.bench import Cleansed, Workbench
from rora_cli.defences.config import ADAPTER_DIRECTORY
from rora_cli.defences.inputs import Source, load, no_adapter_for_base
from rora_cli.errors import OutputError
from rora_cli.evaluation.inference import predict_logits
from rora_cli.files import REPORT_NAME, sha256_file
from rora_cli.reports import json_report, model_card
from rora_cli.results.purify import PurifyResult
from rora_cli.training.adapters import ADAPTER

#: Held-out rows whose logits are compared after loading the written files again.
CHECKED_ROWS = 16
#: float32 merging changes a logit by rounding only; more than this means that another model was written.
LARGEST_DIFFERENCE = 1e-3


def write(staging: Path, bench: Workbench, source: Source, cleansed: Cleansed, result: PurifyResult) -> PurifyResult:
    """Write everything into ``staging``; returns ``result`` with the hashes of the files and the logit differences.

    Raises OutputError when what was written does not give the logits of the model in memory.
    """
    config, device = bench.config, bench.accelerator.device
    texts = bench.held_out.texts[:CHECKED_ROWS]
    expected = predict_logits(cleansed.model, bench.tokenizer, texts, max_length=bench.max_length)
    differences: dict[str, float] = {}
    if cleansed.layers and not no_adapter_for_base(bench, source):
        _save_adapter(cleansed.model, source, staging / ADAPTER_DIRECTORY)
        differences["adapter"] = _adapter_difference(staging / ADAPTER_DIRECTORY, bench, source, texts, expected)
    if not config.adapter_only:
        merged = cleansed.model.cpu()
        if cleansed.layers:
            merged = merged.merge_and_unload()
        _to_dtype(merged, config.dtype, source)
        save_classifier(merged, bench.tokenizer, staging)
        differences["merged"] = _merged_difference(staging, bench, texts, expected)
    for what, difference in differences.items():
        if not difference <= LARGEST_DIFFERENCE and (what != "merged" or config.dtype == "float32"):
            raise OutputError(
                f"the {what} model as written gives other logits than the one in memory (by up to {difference:.3g}); "
                "nothing was kept: please report this"
            )
    outputs = {p.relative_to(staging).as_posix(): sha256_file(p) for p in sorted(staging.rglob("*")) if p.is_file()}
    result = replace(
        result,
        output=str(config.output_directory),
        logit_difference=differences,
        provenance=replace(result.provenance, outputs=outputs),
    )
    (staging / "README.md").write_text(model_card.render_purified(result), encoding="utf-8")
    (staging / REPORT_NAME).write_text(json_report.render(result) + "\n", encoding="utf-8")
    cleansed.model.to(device)
    return result


def _save_adapter(model: Any, source: Source, directory: Path) -> None:
    """Write the adapter for the base that the user named."""
    suspect = source.suspect_adapter()
    settings = model.peft_config[ADAPTER]
    settings.base_model_name_or_path = source.model.requested
    settings.revision = source.model.commit
    # PEFT keeps a set, whose order in the file would change from run to run.
    if not isinstance(settings.target_modules, str):
        settings.target_modules = sorted(settings.target_modules)
    model.save_pretrained(directory)
    if suspect is not None:
        join_into(directory, suspect)


def _adapter_difference(
    directory: Path, bench: Workbench, source: Source, texts: tuple[str, ...], expected: np.ndarray
) -> float:
    """The largest change of a logit when PEFT loads the adapter onto the suspect as it lies on disk."""
    from peft import PeftModel

    head = bench.label_names if source.adapter is not None else None
    suspect = load(source.model, None, head).model
    reloaded = PeftModel.from_pretrained(suspect, str(directory)).eval()
    logits = predict_logits(reloaded, bench.tokenizer, texts, max_length=bench.max_length)
    return float(np.abs(logits - expected).max())


def _merged_difference(directory: Path, bench: Workbench, texts: tuple[str, ...], expected: np.ndarray) -> float:
    """The same when transformers alone loads the merged model and its tokenizer."""
    reloaded, tokenizer = load_as_written(directory)
    logits = predict_logits(reloaded, tokenizer, texts, max_length=bench.max_length)
    return float(np.abs(logits - expected).max())


def _to_dtype(model: Any, dtype: str, source: Source) -> None:
    import torch

    if dtype == "auto":
        dtype = source.dtype
    model.to(getattr(torch, dtype))
    model.config.dtype = dtype
