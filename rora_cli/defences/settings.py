"""Every setting of a run with a value: the user's, else the recipe's, else the specification's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from rora_cli.defences.recipes import ControlSpec, LoopSpec, Recipe
from rora_cli.options import Options
from rora_cli.training.specs import (
    AdapterSpec,
    RegulariserSpec,
    RescalingSpec,
    TrainSpec,
    require_penalisable,
    require_rescalable,
    spec_of,
)


@dataclass(frozen=True)
class Settings:
    """The specifications of a run."""

    adapter: AdapterSpec
    regularisers: RegulariserSpec
    rescaling: RescalingSpec
    train: TrainSpec
    loop: LoopSpec
    controls: ControlSpec

    @classmethod
    def of(cls, recipe: Recipe, given: Mapping[str, Any]) -> Settings:
        """The recipe's defaults under what the user gave (None is nothing); raises UsageError with the wrong option."""
        values = {**recipe.defaults, **{name: value for name, value in given.items() if value is not None}}
        if values.get("tr"):
            require_penalisable(values.get("variant") or AdapterSpec.variant)
        if values.get("pt"):
            require_rescalable(values.get("variant") or AdapterSpec.variant)
        return cls(
            spec_of(AdapterSpec, values),
            spec_of(RegulariserSpec, values),
            spec_of(RescalingSpec, values),
            spec_of(TrainSpec, values),
            spec_of(LoopSpec, values),
            spec_of(ControlSpec, values),
        )

    def having(self, **changes: Any) -> Settings:
        """These settings with some values changed, whichever specification has them."""
        changed: Any = {name: _changed(spec, changes) for name, spec in self._specs().items()}
        return replace(self, **changed)

    def flat(self) -> dict[str, Any]:
        """Every setting by the name of its option."""
        return {name: value for spec in self._specs().values() for name, value in asdict(spec).items()}

    def _specs(self) -> dict[str, Options]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


def _changed(spec: Options, changes: Mapping[str, Any]) -> Options:
    return replace(spec, **{name: value for name, value in changes.items() if hasattr(spec, name)})
