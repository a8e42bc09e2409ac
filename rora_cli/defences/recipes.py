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
    "target_modules": (),
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
    "suspect_share": 0.4,
    "share_by_block": "even",
    "reinit_blocks": 2,
    "consistency": 5.5,
    "perturbation": 0.1,
    "prune": 0.9,
}

#: How the suspect's share runs over the blocks: by how much of itself it is more in the first, and less in the last.
SHARES_BY_BLOCK = {"even": 0.0, "lower": 0.5, "upper": -0.5}

#: Every weight is trained, at the rate of full fine-tuning.
FULL: Mapping[str, Any] = {"learning_rate": 5e-5, "lora_dropout": 0.0}


@dataclass(frozen=True)
class Recipe:
    """``defence`` is ``module:function`` in ``rora_cli.defences``; ``defaults`` go over ``BASE``, options over both."""

    name: str
    summary: str
    defence: str
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def resolve(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Every setting of ``BASE``: the user's where one is given, else this recipe's, else the base's."""
        settings = {**BASE, **self.defaults}
        return settings | {k: v for k, v in given.items() if k in settings and v not in (None, ())}


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            "default",
            "search for triggers, train with Cl against what is found, guarded Pt, until nothing is found",
            "default.loop:cleanse",
            {
                "rank": 16,
                "alpha": 32.0,
                "target_modules": ("all-linear",),
                "epochs": 3,
                "learning_rate": 5e-4,
                "cl": 0.1,
                "pt": 0.5,
                "max_rounds": 3,
            },
        ),
        Recipe(
            "paper",
            "RoRA to the letter: Cl .1, Tr 10, then Eq. 12 in full, unguarded; query and value, 20 epochs at 2e-4",
            "paper:cleanse",
            {"cl": 0.1, "tr": 10.0, "pt": 1.0, "pt_cap": None, "pt_guard": False},
        ),
        Recipe("lora", "control: the paper's training without Cl, Tr and Pt", "paper:cleanse"),
        Recipe(
            "full",
            "control: fine-tuning of every weight, without an adapter",
            "full:cleanse",
            FULL,
        ),
        Recipe(
            "mix",
            "control: the weights averaged with those of a clean ancestor, fine-tuned on the clean rows",
            "mix:cleanse",
            {**FULL, "epochs": 3},
        ),
        Recipe(
            "reinit",
            "control: the top blocks and the head drawn anew, then every weight trained",
            "reinit:cleanse",
            FULL,
        ),
        Recipe(
            "crow",
            "control: CROW's consistency between layers, under adversarial perturbation, on a LoRA",
            "crow:cleanse",
        ),
        Recipe(
            "fine-pruning",
            "control: neurons that clean rows do not excite are cut, then every weight is trained",
            "fine_pruning:cleanse",
            FULL,
        ),
    )
}
#: Recipes that change the suspect's weights themselves, and leave no adapter.
WITHOUT_ADAPTER = frozenset({"full", "mix", "reinit", "fine-pruning"})
