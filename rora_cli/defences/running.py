"""The defence of a recipe, found by its name."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from rora_cli.defences.config import PurifyConfig
from rora_cli.defences.recipes import RECIPES

if TYPE_CHECKING:
    from rora_cli.defences.bench import Workbench


def defence_of(config: PurifyConfig) -> Any:
    module, function = _defence(config)
    return getattr(module, function)


def check_recipe(bench: Workbench) -> None:
    """Raise RoraError where the recipe cannot work on this suspect."""
    module, _ = _defence(bench.config)
    module.check(bench)


def _defence(config: PurifyConfig) -> tuple[Any, str]:
    module, _, function = RECIPES[config.recipe].defence.partition(":")
    return importlib.import_module(f"rora_cli.defences.{module}"), function
