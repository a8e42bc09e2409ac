"""Recipes: named sets of defaults for ``purify``, and the defence that each one runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: What every recipe starts from.
BASE: Mapping[str, Any] = {
    "variant": "lora",
    "rank": 8,
    "alpha": 16.0,
    "lora_dropout": 0.1,
    "cl": 0.0,
    "tr": 0.0,
    "tr_k": 32,
    "tr_reduction": "mean",
    "pt": 0.0,
    "pt_layers": "top3",
    "pt_cap": 10.0,
    "pt_guard": True,
    "epochs": 20,
    "batch_size": 32,
    "learning_rate": 2e-4,
    "weight_decay": 0.01,
    "schedule": "linear",
    "warmup_ratio": 0.0,
    "max_rounds": 1,
}


@dataclass(frozen=True)
class Recipe:
    """``defence`` is ``module:function`` in ``rora_cli.commands``; ``defaults`` go over ``BASE``, options over both."""

    name: str
    summary: str
    defence: str
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def resolve(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Every setting of ``BASE``: the user's where it is not None, else this recipe's, else the base's."""
        settings = {**BASE, **self.defaults}
        return settings | {k: v for k, v in given.items() if k in settings and v is not None}


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            "default",
            "search for triggers, train with Cl against what is found, guarded Pt, until nothing is found",
            "defences.hunted:cleanse",
            {"epochs": 3, "learning_rate": 5e-4, "cl": 0.1, "pt": 0.5, "max_rounds": 3},
        ),
        Recipe(
            "paper",
            "RoRA to the letter: Cl .1, Tr 10, then Eq. 12 in full, unguarded; query and value, 20 epochs at 2e-4",
            "defences.adapted:cleanse",
            {"cl": 0.1, "tr": 10.0, "pt": 1.0, "pt_cap": None, "pt_guard": False},
        ),
        Recipe("lora", "control: the paper's training without Cl, Tr and Pt", "defences.adapted:cleanse"),
        Recipe(
            "full",
            "control: fine-tuning of every weight, without an adapter",
            "defences.full:cleanse",
            {"learning_rate": 5e-5, "lora_dropout": 0.0},
        ),
    )
}
