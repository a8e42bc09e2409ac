"""Diagnoses one adapter, or one model against its base, from its inspection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rora_cli.checkpoints.adapter_rules import target_name
from rora_cli.checkpoints.adapters import Adapter, AdapterModule, BaseWeights, read_adapter
from rora_cli.checkpoints.beside_base import with_base
from rora_cli.checkpoints.header import quoted
from rora_cli.checkpoints.preflight import Inspection, require_loadable
from rora_cli.checkpoints.reader import ARRAY_TYPES, TensorReader
from rora_cli.commands.diagnose.config import DiagnoseConfig
from rora_cli.commands.diagnose.describe import FactorReader
from rora_cli.commands.diagnose.judge import by_block, grouped, judge, spread, with_z_scores
from rora_cli.commands.diagnose.rows import MovedRows, moved_far, ways_of_rows
from rora_cli.commands.diagnose.whole import FORMAT, WholeWeights, is_new_head
from rora_cli.errors import CheckpointError
from rora_cli.layout import TASK_HEADS
from rora_cli.results.diagnose import Coverage, Diagnosis
from rora_cli.results.spectra import ModuleSpectrum
from rora_cli.spectral.factors import require_finite

if TYPE_CHECKING:
    from rora_cli.commands.diagnose.base_spectra import BaseSpectra
    from rora_cli.commands.diagnose.calibration import Calibration


def diagnose_subject(
    path: str,
    inspection: Inspection,
    base: Inspection | None,
    config: DiagnoseConfig,
    calibration: Calibration | None = None,
) -> Diagnosis:
    """Measure what ``inspection`` holds. Raises CheckpointError if there are no tensors, or none can be read."""
    if not inspection.tensors:
        require_loadable(inspection)
        raise CheckpointError(f"{path} has no tensors; give an adapter or a model in safetensors.")
    if base is not None:
        inspection = with_base(inspection, base)
    if inspection.role == "model":
        measured: _Difference | _Updates = _Difference(inspection, require_base(base, path), config)
    else:
        measured = _Updates(inspection, base, config)
    modules = with_z_scores(measured.modules)
    coverage = Coverage(
        tensors=len(inspection.tensors),
        measured=len(inspection.tensors) - len(measured.aside) - len(measured.unmeasured),
        aside=len(measured.aside),
        unmeasured=len(measured.unmeasured),
        modules=len(modules),
        modules_with_base=sum(m.base_sigma_max is not None for m in modules),
    )
    return Diagnosis(
        path=path,
        format=measured.format,
        modules=modules,
        groups=grouped(modules),
        blocks=by_block(modules),
        spread_of_norms=spread([m for m in modules if m.format != FORMAT] or modules),
        coverage=coverage,
        set_aside=measured.aside,
        unmeasured=measured.unmeasured,
        findings=tuple(judge(modules, inspection, measured.unmeasured, measured.missing, calibration, measured.far)),
        files=tuple(dict.fromkeys((*inspection.weight_files, *inspection.files))),
    )


def _base_spectra(config: DiagnoseConfig) -> BaseSpectra:
    from rora_cli.commands.diagnose.base_spectra import BaseSpectra

    return BaseSpectra(config.top_k, seed=config.seed, cache=config.cache)


class _Updates:
    """The measured modules of an adapter; ``unmeasured`` maps the tensors of the others to the reason."""

    def __init__(self, inspection: Inspection, base: Inspection | None, config: DiagnoseConfig) -> None:
        adapter: Adapter = read_adapter(inspection, TensorReader(base) if base is not None else None)
        self.format = adapter.format
        self.aside = dict(adapter.aside)
        self.unmeasured = dict(adapter.unmeasured)
        self.missing: list[str] = []
        self.modules: list[ModuleSpectrum] = []
        self.far: list[MovedRows] = []
        with TensorReader(inspection) as reader:
            factors = FactorReader(reader, adapter.modules)
            for module in adapter.modules:
                present = adapter.base is not None and adapter.base.find(module.name, module.parameter) is not None
                if adapter.base is not None and not present:
                    self.missing.append(module.label)
                try:
                    alone = not present and factors.reads(module)
                    self.modules.append(factors.describe(module) if alone else self._measured(module, adapter, config))
                except CheckpointError as error:
                    self.unmeasured |= dict.fromkeys(module.tensors, str(error))
            self._whole(reader, adapter, inspection.roles, config)
            self._require_finite(reader)
        no_heads = [name for name in self.missing if not TASK_HEADS & set(name.split("."))]
        if no_heads and len(self.missing) == len(adapter.modules):
            raise CheckpointError(
                f"none of the {len(self.missing)} modules of {inspection.path} is in the base {config.base} (the first "
                f"is {quoted(self.missing[0])}); give the base that the adapter was trained on with --base"
            )

    def _measured(self, module: AdapterModule, adapter: Adapter, config: DiagnoseConfig) -> ModuleSpectrum:
        from rora_cli.commands.diagnose.measure import base_weight, measure_module

        measured = measure_module(module, adapter.base, _base_spectra(config), intruders=config.intruders)
        if "embedding" in module.format and adapter.base is not None:
            W = base_weight(module, adapter.base)
            if W is not None:
                update = module.update(W.float() if module.needs_base else None)
                self.far += moved_far(module.name, ways_of_rows(update), W.double().norm(dim=0))
        return measured

    def _whole(self, reader: TensorReader, adapter: Adapter, roles: Mapping[str, str], config: DiagnoseConfig) -> None:
        """Measure weights that the adapter replaces whole against the base's, which has none for a new head."""
        names = [name for name in reader.names() if name in adapter.whole]
        weights = None
        if adapter.base is not None and names:
            weights = WholeWeights(reader, adapter.base, _base_spectra(config), intruders=config.intruders)
        for name in names:
            target = target_name(name)
            try:
                if weights is not None:
                    reason = weights.measure(name, target)
                elif is_new_head(target):
                    reason = "a head, saved whole: it has no weight in a base to be compared with"
                elif roles[name] == "base":
                    reason = "a weight of the base, hidden in the adapter: a finding of its own"
                else:
                    raise CheckpointError(f"it replaces a whole {_what(roles[name])} of the base; give the base model")
            except CheckpointError as error:
                del self.aside[name]
                self.unmeasured[name] = str(error)
                continue
            if reason is None:
                del self.aside[name]
            else:
                self.aside[name] = reason
        if weights is not None:
            self.modules += weights.modules
            self.far += weights.far

    def _require_finite(self, reader: TensorReader) -> None:
        """Report NaN in tensors that are set aside: they are not measured, but a NaN in them breaks the model too."""
        for name in sorted(self.aside.keys() & set(reader.names())):
            try:
                if reader.info(name).dtype in ARRAY_TYPES:
                    require_finite(reader.read_array(name), quoted(name))
                else:
                    reader.read(name, require_finite=True)
            except CheckpointError as error:
                del self.aside[name]
                self.unmeasured[name] = str(error)


class _Difference:
    """A whole model against its base: DeltaW = W' - W, tensor by tensor."""

    format = "full model"

    def __init__(self, inspection: Inspection, base: Inspection, config: DiagnoseConfig) -> None:
        theirs = BaseWeights(TensorReader(base), base.config)
        weights = WholeWeights(TensorReader(inspection), theirs, _base_spectra(config), intruders=config.intruders)
        self.aside: dict[str, str] = {}
        self.unmeasured: dict[str, str] = {}
        self.missing: list[str] = []
        if not any(theirs.find(*name.rpartition(".")[::2]) for name in inspection.tensors):
            raise CheckpointError(
                f"none of the {len(inspection.tensors)} tensors of {inspection.path} is in the base {base.path}; give "
                "the model that it was made from with --base"
            )
        for name in inspection.tensors:
            try:
                reason = weights.measure(name, name)
                if reason is not None:
                    self.aside[name] = reason
            except CheckpointError as error:
                self.unmeasured[name] = str(error)
        self.modules, self.far = weights.modules, weights.far


def _what(role: str) -> str:
    return {"embedding": "embedding", "embedding-copy": "embedding", "module": "module", "bias": "bias"}.get(
        role, "weight"
    )


def require_base(base: Inspection | None, path: str) -> Inspection:
    """``base``. Raises CheckpointError if it is None, because a whole model needs a base to be compared with."""
    if base is None:
        raise CheckpointError(f"{path} is a whole model, not an adapter: give the model it was made from with --base.")
    return base
