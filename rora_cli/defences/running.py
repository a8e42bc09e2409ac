"""The defence of a recipe, found by its name."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Protocol

from rora_cli.defences.config import PurifyConfig
from rora_cli.defences.recipes import recipe_of
from rora_cli.kinds import ModelKind

if TYPE_CHECKING:
    from rora_cli.defences.bench import Bench, Cleansed

#: The steps of a run, as its progress counts them. Training and the search after it may come again.
LOAD, SEARCH, TRAIN, AGAIN, WRITE = "load", "search", "train", "search again", "write"


def steps_of(config: PurifyConfig) -> tuple[str, ...]:
    """The steps of a run with this recipe."""
    return (LOAD, SEARCH, TRAIN, AGAIN, WRITE) if config.recipe == "default" else (LOAD, TRAIN, WRITE)


class Defence(Protocol):
    """What the module of a recipe has."""

    def check(self, bench: Bench) -> None:
        """Raise RoraError if the recipe cannot work on this suspect; called before any work."""

    def cleanse(self, bench: Bench) -> Cleansed:
        """Purify the suspect. Every process calls this."""


def defence_of(config: PurifyConfig, kind: ModelKind) -> Defence:
    """The module of the recipe, for a kind of model."""
    module: Any = importlib.import_module(f"rora_cli.defences.{recipe_of(config.recipe, kind).module}")
    return module
