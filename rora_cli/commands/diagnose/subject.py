"""One adapter, or one model against its base, from an inspection to a diagnosis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rora_cli.checkpoints.adapters import Adapter, AdapterModule, BaseWeights, Update, read_adapter
from rora_cli.checkpoints.header import quoted
from rora_cli.checkpoints.preflight import Inspection, require_loadable
from rora_cli.checkpoints.reader import ARRAY_TYPES, TensorReader
from rora_cli.commands.diagnose.config import DiagnoseConfig
from rora_cli.commands.diagnose.describe import FactorReader
from rora_cli.commands.diagnose.judge import by_block, grouped, judge, spread, with_z_scores
from rora_cli.errors import CheckpointError
from rora_cli.layout import TASK_HEADS
from rora_cli.results.diagnose import Coverage, Diagnosis
from rora_cli.results.spectra import ModuleSpectrum
from rora_cli.spectral.factors import require_finite

if TYPE_CHECKING:
    from torch import Tensor

    from rora_cli.commands.diagnose.base_spectra import BaseSpectra
    from rora_cli.commands.diagnose.calibration import Calibration


def diagnose_subject(
    path: str,
    inspection: Inspection,
    base: Inspection | None,
    config: DiagnoseConfig,
    calibration: Calibration | None = None,
) -> Diagnosis:
    """Measure what ``inspection`` holds. Raises CheckpointError where its tensors cannot be read at all."""
    if not inspection.tensors:
        require_loadable(inspection)
        raise CheckpointError(f"{path} has no tensors; give an adapter or a model in safetensors.")
    if inspection.role == "model":
        from rora_cli.commands.diagnose.run import require_base

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
        spread_of_norms=spread(modules),
        coverage=coverage,
        set_aside=measured.aside,
        unmeasured=measured.unmeasured,
        findings=tuple(judge(modules, inspection, measured.unmeasured, measured.missing, calibration)),
        files=tuple(dict.fromkeys((*inspection.weight_files, *inspection.files))),
    )


def _base_spectra(config: DiagnoseConfig) -> BaseSpectra:
    from rora_cli.commands.diagnose.base_spectra import BaseSpectra

    return BaseSpectra(config.top_k, seed=config.seed, cache=config.cache)


class _Updates:
    """The modules of an adapter; one that cannot be measured is ``unmeasured``, with the reason."""

    def __init__(self, inspection: Inspection, base: Inspection | None, config: DiagnoseConfig) -> None:
        adapter: Adapter = read_adapter(inspection, TensorReader(base) if base is not None else None)
        self.format = adapter.format
        self.aside = dict(adapter.aside)
        self.unmeasured = dict(adapter.unmeasured)
        self.missing: list[str] = []
        self.modules: list[ModuleSpectrum] = []
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
            self._require_finite(reader)
        if self.missing and len(self.missing) == len(adapter.modules):
            raise CheckpointError(
                f"none of the {len(self.missing)} modules of {inspection.path} is in the base {config.base} (the first "
                f"is {quoted(self.missing[0])}); give the base that the adapter was trained on with --base"
            )

    def _measured(self, module: AdapterModule, adapter: Adapter, config: DiagnoseConfig) -> ModuleSpectrum:
        from rora_cli.commands.diagnose.measure import measure_module

        return measure_module(module, adapter.base, _base_spectra(config), intruders=config.intruders)

    def _require_finite(self, reader: TensorReader) -> None:
        """What is set aside is not measured, but a NaN in it breaks the model all the same."""
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
        self.ours, self.theirs = TensorReader(inspection), BaseWeights(TensorReader(base), base.config)
        self.spectra, self.intruders = _base_spectra(config), config.intruders
        self.aside: dict[str, str] = {}
        self.unmeasured: dict[str, str] = {}
        self.missing: list[str] = []
        self.modules: list[ModuleSpectrum] = []
        if not any(self._in_base(name) for name in inspection.tensors):
            raise CheckpointError(
                f"none of the {len(inspection.tensors)} tensors of {inspection.path} is in the base {base.path}; give "
                "the model that it was made from with --base"
            )
        for name in inspection.tensors:
            try:
                self._tensor(name)
            except CheckpointError as error:
                self.unmeasured[name] = str(error)

    def _in_base(self, name: str) -> bool:
        module, _, parameter = name.rpartition(".")
        return self.theirs.find(module, parameter) is not None

    def _tensor(self, name: str) -> None:
        module, _, parameter = name.rpartition(".")
        found = self.theirs.find(module, parameter)
        shape = self.ours.info(name).shape
        if found is None:
            if any(part in TASK_HEADS | {"pooler"} for part in module.split(".")):
                self.aside[name] = "a head that the base does not have"
                return
            raise CheckpointError("the base has no tensor of this name")
        if self.theirs.shape(found) != tuple(shape):
            raise CheckpointError(f"{quoted(found)} of the base is {list(self.theirs.shape(found))}, not {list(shape)}")
        unreadable = self.theirs.unreadable(found)
        if unreadable:
            raise CheckpointError(unreadable)
        W = self.theirs.reader.read(found)
        delta = self.ours.read(name, require_finite=True).double() - W.double()
        if not bool(delta.any()):
            self.aside[name] = "identical to the base's"
        elif len(shape) < 2:
            self.aside[name] = (
                f"a vector, without a spectrum: differs from the base's by {float(delta.abs().max()):.3g}"
            )
        else:
            conv1d = bool(self.theirs.is_conv1d(module))
            W, delta = (t.flatten(1).T if conv1d else t.flatten(1) for t in (W, delta))
            self._matrix(module or name, parameter, delta, W.float())

    def _matrix(self, module: str, parameter: str, delta: Tensor, W: Tensor) -> None:
        from rora_cli.commands.diagnose.measure import against, describe_update

        shape, update = (delta.shape[0], delta.shape[1]), Update(dense=delta)
        described = describe_update(
            update,
            AdapterModule(module, "difference", shape, min(shape), 1.0, (), lambda _: update, parameter=parameter),
        )
        self.modules.append(against(described, update, W, self.spectra.top(W), intruders=self.intruders))


def reasons(unmeasured: Mapping[str, str]) -> dict[str, list[str]]:
    """The tensors of each reason."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in unmeasured.items():
        by_reason.setdefault(reason, []).append(name)
    return by_reason
