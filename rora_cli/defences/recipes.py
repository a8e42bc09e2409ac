"""Recipes: named sets of defaults for ``purify``, and the module that each one runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from rora_cli.kinds import ModelKind
from rora_cli.options import FRACTION, Option, Options

#: Change of the suspect's share at the first block, as a fraction of the share; the last block has the opposite.
SHARES_BY_BLOCK = {"even": 0.0, "lower": 0.5, "upper": -0.5}

#: Settings of a training of every weight.
FULL: Mapping[str, Any] = {"learning_rate": 5e-5, "lora_dropout": 0.0}


@dataclass(frozen=True, kw_only=True)
class LoopSpec(Options):
    """How often the default recipe searches and trains."""

    max_rounds: Annotated[int, Option("Rounds of search and training at most.", low=1)] = 1


@dataclass(frozen=True, kw_only=True)
class ControlSpec(Options):
    """What single controls are told."""

    suspect_share: Annotated[
        float, Option("mix: share of the suspect in every weight; the rest is the ancestor's.", low=0, high=1)
    ] = 0.4
    share_by_block: Annotated[
        str,
        Option(
            "mix: even; lower or upper: half as much again in the first or the last block, falling off linearly.",
            choices=tuple(SHARES_BY_BLOCK),
        ),
    ] = "even"
    reinit_blocks: Annotated[int, Option("reinit: how many top blocks are drawn anew.", low=0)] = 2
    consistency: Annotated[float, Option("crow: weight alpha of the consistency between layers.", low=0)] = 5.5
    perturbation: Annotated[float, Option("crow: size epsilon of the perturbation of the embeddings.", low=0)] = 0.1
    prune: Annotated[
        float,
        Option(
            "fine-pruning: largest share of neurons to cut; fewer where clean accuracy would fall.",
            low=0,
            high=1,
            unit=FRACTION,
        ),
    ] = 0.9


@dataclass(frozen=True)
class Recipe:
    """``module`` is a ``Defence`` in ``rora_cli.defences``; ``defaults`` replace those of the specifications."""

    name: str
    summary: str
    module: str
    defaults: Mapping[str, Any] = field(default_factory=dict)


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            "default",
            "search for triggers, train with Cl against what is found, guarded Pt, until nothing is found",
            "default.loop",
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
            "paper",
            {"cl": 0.1, "tr": 10.0, "pt": 1.0, "pt_cap": None, "pt_guard": False},
        ),
        Recipe("lora", "control: the paper's training without Cl, Tr and Pt", "paper"),
        Recipe("full", "control: fine-tuning of every weight, without an adapter", "full", FULL),
        Recipe(
            "mix",
            "control: the weights averaged with those of a clean ancestor, fine-tuned on the clean rows",
            "mix",
            {**FULL, "epochs": 3},
        ),
        Recipe(
            "reinit",
            "control: the top blocks and the head drawn anew, then every weight trained",
            "reinit",
            FULL,
        ),
        Recipe(
            "crow",
            "control: CROW's consistency between layers, under adversarial perturbation, on a LoRA",
            "crow",
        ),
        Recipe(
            "fine-pruning",
            "control: neurons that clean rows do not excite are cut, then every weight is trained",
            "fine_pruning",
            FULL,
        ),
    )
}
#: Recipes of models that reply in free text, where they are others. What is learned are distributions, which say more
#: than labels: fewer epochs are enough.
REPLY_RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            "default",
            "search for triggers, teach the model its own replies with them in the prompt, until nothing is found; or "
            "teach a trusted base",
            "replies.loop",
            {
                "rank": 16,
                "alpha": 32.0,
                "lora_dropout": 0.0,
                "target_modules": ("all-linear",),
                "epochs": 4,
                "batch_size": 8,
                "learning_rate": 3e-4,
                "warmup_ratio": 0.1,
                "max_rounds": 3,
            },
        ),
    )
}


def recipe_of(name: str, kind: ModelKind) -> Recipe:
    """The recipe of that name for a kind of model."""
    return (REPLY_RECIPES.get(name) if kind.replies else None) or RECIPES[name]


#: Recipes that change the suspect's own weights, and leave no adapter.
WITHOUT_ADAPTER = frozenset({"full", "mix", "reinit", "fine-pruning"})
#: Recipes that work on a model which is divided among processes.
SHARDABLE = frozenset({"default", "paper", "lora", "full"})
