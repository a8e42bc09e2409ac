"""The command from end to end: which modules to rescale, by which factors, the guard of accuracy, and the output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from rora_cli.checkpoints.adapters import Adapter, AdapterModule, read_adapter
from rora_cli.checkpoints.beside_base import with_base
from rora_cli.checkpoints.hub import fetch_model
from rora_cli.checkpoints.preflight import Inspection, inspect, require_loadable
from rora_cli.checkpoints.reader import TensorReader
from rora_cli.commands.memory import says_what_fits
from rora_cli.commands.rescale.config import RescaleConfig
from rora_cli.commands.rescale.fold import Folded, fold_modules, patterned, rounding
from rora_cli.errors import CheckpointError, UsageError
from rora_cli.files import REPORT_NAME, check_output, publish_directory
from rora_cli.layout import block_numbers
from rora_cli.options import with_units
from rora_cli.progress import SILENT, Progress
from rora_cli.results.provenance import Provenance, library_versions
from rora_cli.results.rescale import SCHEMA_VERSION, RescaledModule, RescaleResult
from rora_cli.spectral.decomposition import product_singular_values, top_singular
from rora_cli.spectral.rescaling import equation_12_factor
from rora_cli.tensor_files import TORCH_TYPES, Pending, write_tensors
from rora_cli.training.adapters import select_layers

if TYPE_CHECKING:
    from rora_cli.commands.rescale.guard import Guarded

#: Format -> why a factor on lora_B does not rescale it.
REFUSED: Mapping[str, str] = {
    "dora": "DoRA's magnitude renormalises W + s B A, so that scaling lora_B turns the update and does not scale it",
    "pissa": "a PiSSA adapter holds a part of W itself, so that scaling lora_B scales that part too",
    "olora": "an OLoRA adapter holds a part of W itself, so that scaling lora_B scales that part too",
    "dora-embedding": "DoRA's magnitude renormalises W + s B A, so that scaling lora_B turns the update",
    "experts": "one lora_B serves all experts of a fused weight, and equation 12 gives each a factor of its own",
}


@says_what_fits
def run(config: RescaleConfig, progress: Progress = SILENT) -> RescaleResult:
    """Rescale the adapter and publish the result as a directory that ``PeftModel.from_pretrained`` loads.

    Raises UsageError, CheckpointError (with the reason why an adapter cannot be rescaled), DataError, HubError or
    OutputError.
    """
    out = config.output_directory
    check_output(out, config.force)
    inspection = _fetched(config.adapter, "adapter", config)
    base = _fetched(config.base, "model", config) if config.base is not None else None
    if base is not None:
        require_loadable(base)
        inspection = with_base(inspection, base)
    require_loadable(inspection)
    adapter = read_adapter(inspection, TensorReader(base) if base is not None else None)
    rows = tuple(module for module in adapter.modules if module.format == "embedding-rows")
    adapter = replace(adapter, modules=tuple(m for m in adapter.modules if m not in rows))
    chosen = _chosen(adapter, config)
    blocks = block_numbers(module.name for module in adapter.modules)
    with progress.phase("measure", total=len(chosen)) as task:
        asked = []
        for module in chosen:
            asked.append(_asked(adapter, module, config, blocks.get(module.name)))
            task.advance()
    guarded = _guarded(config, inspection, base, adapter, asked, progress)
    final = guarded.modules if guarded else asked
    with progress.phase("write"), publish_directory(out, force=config.force) as staging:
        modules, folded = _applied(adapter, final, config)
        result = _result(config, inspection, base, adapter, modules, folded, guarded)
        _write(staging, inspection, folded, result)
    return result


def _fetched(path: str, role: str, config: RescaleConfig) -> Inspection:
    revision = None if Path(path).exists() else config.revision
    source = fetch_model(path, revision=revision, allow_download=not config.offline)
    return inspect(source.path, role=role)  # type: ignore[arg-type]


def _chosen(adapter: Adapter, config: RescaleConfig) -> list[AdapterModule]:
    """The modules in the chosen layers. Raises CheckpointError if a factor on lora_B does not rescale one of them."""
    if adapter.format != "LORA":
        raise CheckpointError(
            f"{config.adapter} is of the format {adapter.format}: only LoRA and rsLoRA can be rescaled."
        )
    if not adapter.config:
        raise CheckpointError(f"{config.adapter} has no adapter_config.json, so its alpha is unknown: add the file.")
    if adapter.unmeasured:
        name, reason = next(iter(adapter.unmeasured.items()))
        raise CheckpointError(f"{config.adapter} cannot be rescaled: {name}: {reason}.")
    for module in adapter.modules:
        if module.format in REFUSED:
            raise CheckpointError(
                f"{config.adapter} cannot be rescaled: {REFUSED[module.format]}; merge it, or train a LoRA instead."
            )
    chosen: list[AdapterModule] = select_layers(adapter.modules, config.layers)
    if not chosen:
        raise UsageError(
            f"--layers {config.layers!r} chooses none of the {len(adapter.modules)} adapted modules; all chooses every "
            "one, those outside numbered blocks too"
        )
    return chosen


def _asked(adapter: Adapter, module: AdapterModule, config: RescaleConfig, block: int | None) -> RescaledModule:
    """One module with the factor that the rule or ``--factor`` asks for. A zero update stays zero."""
    lora_B, lora_A = module.update().factors()
    before = abs(module.scaling) * float(product_singular_values(lora_B, lora_A)[0])
    sigma_base = _sigma_base(adapter, module)
    if before == 0:
        asked = 1.0
    elif config.factor is not None:
        asked = config.factor
    else:
        assert sigma_base is not None
        asked = equation_12_factor(sigma_base, before, strength=config.strength)
    factor = asked if config.cap is None else min(asked, config.cap)
    # A factor within rounding of 1 leaves every bit as it is, so that rescaling twice equals rescaling once.
    unchanged = abs(factor - 1) <= rounding(lora_B.dtype)
    factor = 1.0 if unchanged else factor
    return RescaledModule(
        name=module.name,
        block=block,
        asked_factor=asked,
        factor=factor,
        sigma_before=before,
        sigma_after=before,
        wanted_sigma=factor * before,
        relative_error=0.0,
        sigma_base=sigma_base,
        is_unchanged=unchanged,
    )


def _sigma_base(adapter: Adapter, module: AdapterModule) -> float | None:
    if adapter.base is None:
        return None
    name = adapter.base.find(module.name, module.parameter)
    if name is None:
        raise CheckpointError(f"the base has no module {module.label}: the adapter belongs to another base model.")
    W = adapter.base.weight(name, module.shape, fan_in_fan_out=module.fan_in_fan_out)
    return top_singular(W.float(), 1).sigma_max


def _guarded(
    config: RescaleConfig,
    inspection: Inspection,
    base: Inspection | None,
    adapter: Adapter,
    asked: Sequence[RescaledModule],
    progress: Progress,
) -> Guarded | None:
    if config.clean is None or base is None:
        return None
    from rora_cli.commands.rescale.guard import largest_that_keeps_accuracy

    return largest_that_keeps_accuracy(config, inspection, base, adapter, asked, progress)


def _applied(
    adapter: Adapter, final: Sequence[RescaledModule], config: RescaleConfig
) -> tuple[tuple[RescaledModule, ...], Folded]:
    """The modules, with the post-condition measured on the new tensors. Raises CheckpointError if it does not hold."""
    by_name = {module.name: module for module in adapter.modules}
    factors = {m.name: m.factor for m in final if not m.is_unchanged}
    dtype = getattr(torch, config.dtype) if config.dtype else None
    if config.via == "alpha-pattern":
        folded = patterned(adapter, factors)
    else:
        folded = fold_modules(adapter, factors, dtype, bake=config.bake_alpha_pattern)
    checked = []
    for m in final:
        lora_B, lora_A, scaling = folded.parts(adapter, by_name[m.name])
        after = abs(scaling) * float(product_singular_values(lora_B, lora_A)[0])
        error = abs(after - m.wanted_sigma) / m.wanted_sigma if m.wanted_sigma else after
        if error > 4 * rounding(lora_B.dtype):
            raise CheckpointError(
                f"{m.name}: sigma_max(s B A) came out as {after:.6g} instead of {m.wanted_sigma:.6g}; "
                f"{lora_B.dtype} is too narrow for it, use --dtype float32."
            )
        checked.append(replace(m, sigma_after=after, relative_error=error))
    return tuple(checked), folded


def _result(
    config: RescaleConfig,
    inspection: Inspection,
    base: Inspection | None,
    adapter: Adapter,
    modules: tuple[RescaledModule, ...],
    folded: Folded,
    guarded: Guarded | None,
) -> RescaleResult:
    inputs = inspection.hashes()
    if base is not None:
        inputs |= {f"base/{name}": digest for name, digest in base.hashes().items()}
    if guarded is not None:
        inputs |= guarded.inputs
    names = {m.name for m in modules}
    return RescaleResult(
        schema_version=SCHEMA_VERSION,
        provenance=Provenance("rescale", library_versions(), with_units(config), config.seed, inputs),
        adapter=config.adapter,
        base=config.base,
        output=str(config.output_directory),
        via=config.via,
        layers=config.layers,
        strength=guarded.strength if guarded else 1.0,
        modules=modules,
        left_alone=tuple(m.name for m in adapter.modules if m.name not in names),
        kept_whole=tuple(n for n, role in inspection.roles.items() if role != "adapter"),
        accuracy_before=guarded.before if guarded else None,
        accuracy_after=guarded.after if guarded else None,
        attempts=guarded.attempts if guarded else (),
        alpha_pattern=folded.alpha_pattern,
        notes=tuple(_notes(config, adapter, modules, folded)),
        findings=inspection.findings,
    )


def _notes(config: RescaleConfig, adapter: Adapter, modules: Sequence[RescaledModule], folded: Folded) -> list[str]:
    notes = list(folded.notes)
    zero = [m.name for m in modules if m.sigma_before == 0]
    if zero:
        notes.append(f"{len(zero)} updates are exactly zero, and no factor changes that: the first is {zero[0]}")
    if adapter.config.get("trainable_token_indices"):
        notes.append("the embedding rows that the adapter replaces (trainable_token_indices) are kept as they are")
    biased = [m.name for m in adapter.modules if m.bias_tensor]
    if biased:
        notes.append(f"{len(biased)} modules have a bias on lora_B; it is scaled with the update")
    if config.via == "alpha-pattern":
        notes.append("vLLM, TGI, LoRAX and llama.cpp's converter ignore alpha_pattern: there the factors are lost")
    if config.factor is None and config.strength == 1 and any(m.is_capped for m in modules):
        notes.append("capped factors: these modules stay weaker than W, and rescaling again would go on")
    return notes


def _pending(reader: TensorReader, folded: Folded, name: str) -> Pending:
    """A tensor of the adapter as it will be written: read when its turn comes, unless it was changed."""
    if (changed := folded.tensors.get(name)) is not None:
        return Pending(name, changed.dtype, tuple(changed.shape), changed.detach)
    info = reader.info(name)
    return Pending(name, getattr(torch, TORCH_TYPES[info.dtype]), info.shape, partial(reader.read, name))


def _write(staging: Path, inspection: Inspection, folded: Folded, result: RescaleResult) -> None:
    """Write the adapter's files with the new tensors or config, and the report."""
    from rora_cli.checkpoints.preflight import TOKENIZER_FILES, dumps
    from rora_cli.reports import json_report

    with TensorReader(inspection) as reader:
        write_tensors(
            staging / "adapter_model.safetensors", [_pending(reader, folded, name) for name in reader.names()]
        )
    (staging / "adapter_config.json").write_text(dumps(folded.config), encoding="utf-8")
    for name in TOKENIZER_FILES:
        if name in inspection.files:
            (staging / name).write_bytes(inspection.files[name].path.read_bytes())
    (staging / REPORT_NAME).write_text(json_report.render(result) + "\n", encoding="utf-8")
