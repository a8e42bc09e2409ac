"""Writing the result of ``purify``: merged model, adapter, report and card, checked by loading them again."""

from __future__ import annotations

import gc
import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rora_cli.checkpoints.joint import join_into
from rora_cli.checkpoints.own_card import licence_files
from rora_cli.checkpoints.sanitise import quiet
from rora_cli.checkpoints.streaming import Change, stored_names, write_changed
from rora_cli.defences.bench import Bench, Cleansed
from rora_cli.defences.config import ADAPTER_DIRECTORY
from rora_cli.defences.inputs import Source, load, no_adapter_for_base
from rora_cli.errors import OutputError
from rora_cli.files import REPORT_NAME, sha256_file
from rora_cli.option_groups import OWN_DTYPE
from rora_cli.reports import json_report, model_card
from rora_cli.results.purify import PurifyResult
from rora_cli.training.adapters import ADAPTER, AdaptedLayer, head_weights
from rora_cli.training.heap import freed_at_once, give_back

if TYPE_CHECKING:
    from torch import Tensor

#: Held-out rows whose logits are compared after loading the written files again.
CHECKED_ROWS = 16
#: Largest change of a logit. Merging in float32 changes it by rounding only: beyond this, another model was written.
MAX_DIFFERENCE = 1e-3
#: The same where 16-bit types round the weights or what is computed, as a fraction of the largest logit (at least 1).
MAX_DIFFERENCE_ROUNDED = 0.25

#: Where config.json says how the cleansing ended; transformers keeps names that it does not know.
VERDICT_KEY = "rora_verdict"


@freed_at_once()
def write(staging: Path, bench: Bench, source: Source, cleansed: Cleansed, result: PurifyResult) -> PurifyResult:
    """Write everything into ``staging``; returns ``result`` with the hashes of the files and the logit differences.

    Raises:
        OutputError: the written files, loaded again, give other logits than the model in memory.
    """
    _let_go()
    config, subject = bench.config, bench.subject
    texts = bench.gauge.held_out.texts[:CHECKED_ROWS]
    expected = bench.task.logits(subject.having(cleansed.model), texts)
    differences: dict[str, float] = {}
    if cleansed.layers and (cleansed.alone or not no_adapter_for_base(bench, source)):
        _save_adapter(cleansed, source, staging / ADAPTER_DIRECTORY)
        (staging / ADAPTER_DIRECTORY / "README.md").write_text(model_card.render_adapter(result), encoding="utf-8")
    if not config.adapter_only:
        _save_merged(cleansed, bench, source, staging)
        _state_verdict(staging / "config.json", result.verdict)
    # What was written is loaded again: the model in memory makes room.
    if not bench.config.load_in_4bit:
        cleansed.model.to("meta")
        _let_go()
    if (staging / ADAPTER_DIRECTORY).is_dir():
        differences["adapter"] = _adapter_difference(staging / ADAPTER_DIRECTORY, bench, source, texts, expected)
        _let_go()
    if not config.adapter_only:
        differences["merged"] = _merged_difference(staging, bench, texts, expected)
    for what, difference in differences.items():
        if not difference <= _allowed(what, bench, source, expected):
            raise OutputError(
                f"the {what} model as written gives other logits than the one in memory (by up to {difference:.3g}); "
                "nothing was kept: please report this"
            )
    for inspection in source.inspections:
        for name, text in licence_files(inspection).items():
            (staging / name).write_bytes(text)
    outputs = {p.relative_to(staging).as_posix(): sha256_file(p) for p in sorted(staging.rglob("*")) if p.is_file()}
    result = replace(
        result,
        output=str(config.failed_directory if result.verdict == "fail" else config.output_directory),
        logit_difference=differences,
        provenance=replace(result.provenance, outputs=outputs),
    )
    (staging / "README.md").write_text(model_card.render_purified(result), encoding="utf-8")
    (staging / REPORT_NAME).write_text(json_report.render(result) + "\n", encoding="utf-8")
    return result


def _let_go() -> None:
    """Free what nobody uses, also models and optimizers that hold themselves in circles of references."""
    gc.collect()
    give_back()


def _allowed(what: str, bench: Bench, source: Source, expected: np.ndarray) -> float:
    """The largest change of a logit that rounding explains, beside the ``expected`` logits [rows, classes]."""
    if bench.config.load_in_4bit and what == "merged":
        return float("inf")  # it is made of the original weights, and what was trained read them in 4 bits
    asked = bench.config.output_dtype
    written = source.dtype if asked == OWN_DTYPE else asked
    held = {str(weight.dtype).removeprefix("torch.") for weight in bench.model.parameters()}
    if held == {"float32"} and (what == "adapter" or written == "float32"):
        return MAX_DIFFERENCE
    return MAX_DIFFERENCE_ROUNDED * max(1.0, float(np.abs(expected).max()))


def _save_merged(cleansed: Cleansed, bench: Bench, source: Source, directory: Path) -> None:
    """Write the whole model: an adapter's updates are added to the source's weights one by one, where names allow it.

    A model whose own weights were changed, or that transformers makes of other tensors, is written from memory.
    """
    import torch

    asked = bench.config.output_dtype
    dtype = getattr(torch, source.dtype if asked == OWN_DTYPE else asked)
    weights = None
    if cleansed.layers and not cleansed.alone and (changes := _changes(cleansed, source)) is not None:
        model: Any = cleansed.model.get_base_model()
        cast = None if asked == OWN_DTYPE else dtype
        weights = partial(write_changed, source.inspections[0], changes=changes, left_out=source.unused, dtype=cast)
    elif bench.config.load_in_4bit:
        raise OutputError(
            "transformers makes the adapted layers out of other tensors, so that the update cannot be merged into the "
            "original weights: add --adapter-only"
        )
    else:
        model = cleansed.model.cpu()
        model = model.merge_and_unload() if cleansed.layers else model
        model.to(dtype)
    model.config.dtype = str(dtype).removeprefix("torch.")
    model.config.__dict__.pop("quantization_config", None)  # what is written is the original's
    source.trained.save(model, directory, weights)


def _state_verdict(path: Path, verdict: str) -> None:
    """Put the verdict into config.json, which goes wherever the weights go."""
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(config | {VERDICT_KEY: verdict}, indent=2) + "\n", encoding="utf-8")


def _changes(cleansed: Cleansed, source: Source) -> dict[str, Change] | None:
    """What becomes of the source's weights, by their names in its files; None if one has no such name.

    Where a suspect adapter was merged in, its weights are those in memory, and the update is added to them.
    """
    bare: Any = cleansed.model.get_base_model()
    heads = head_weights(cleansed.model)
    weights = {name.replace(".base_layer.", "."): weight for name, weight in bare.named_parameters()} | heads
    layers = {f"{layer.name}.weight": layer for layer in cleansed.layers}
    own = {name: tuple(weights[name].shape) for name in set(source.merged) - heads.keys()}
    own |= {name: layer.stored_shape for name, layer in layers.items()}
    stored = stored_names(source.inspections[0], own)
    known = source.inspections[0].tensors
    if stored is None or not (heads.keys() <= known.keys() or all(name == file for name, file in stored.items())):
        return None  # a head that is added needs the prefix that the other weights have
    changes = {name: Change(tuple(weight.shape), partial(_as_it_is, weight)) for name, weight in heads.items()}
    for name, file in stored.items():
        held = weights[name] if name in source.merged else None
        changes[file] = Change(own[name], partial(_merged, layers.get(name), held))
    return changes


def _as_it_is(weight: Tensor, _: Tensor | None) -> Tensor:
    return weight.detach()


def _merged(layer: AdaptedLayer | None, held: Tensor | None, stored: Tensor | None) -> Tensor:
    """The new value [the same shape] of a weight as the source has it ``stored``, or as it is ``held`` in memory."""
    weight = stored if held is None else held.detach().float()
    assert weight is not None, "only heads are added"
    return weight if layer is None else layer.merged(weight)


def _save_adapter(cleansed: Cleansed, source: Source, directory: Path) -> None:
    """Write the adapter for the base that the user named."""
    model: Any = cleansed.model
    suspect = None if cleansed.alone else source.suspect_adapter()
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
    directory: Path, bench: Bench, source: Source, texts: tuple[str, ...], expected: np.ndarray
) -> float:
    """The largest change of a logit when PEFT loads the adapter onto the suspect as it lies on disk."""
    from peft import PeftModel

    head = (bench.targets or None) if source.adapter is not None else None
    suspect = load(source.model, None, bench.config, str(bench.run.device), head).model
    reloaded = PeftModel.from_pretrained(suspect, str(directory)).eval()
    logits = bench.task.logits(bench.subject.having(reloaded), texts)
    return float(np.abs(logits - expected).max())


def _merged_difference(directory: Path, bench: Bench, texts: tuple[str, ...], expected: np.ndarray) -> float:
    """The largest change of a logit when transformers alone loads the merged model and its tokenizer."""
    import transformers

    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    with quiet():
        auto_class = getattr(transformers, bench.subject.kind.auto_class)
        reloaded = auto_class.from_pretrained(directory, dtype="auto", **options).to(bench.run.device).eval()
        tokenizer = transformers.AutoTokenizer.from_pretrained(directory, **options)
    logits = bench.task.logits(replace(bench.subject, model=reloaded, tokenizer=tokenizer), texts)
    return float(np.abs(logits - expected).max())
