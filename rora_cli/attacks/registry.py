"""The attacks by name. Each has its own file and a line here; tests/attacks/test_registry.py holds their contract."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from rora_cli.attacks.base import Attack
from rora_cli.errors import UsageError

ATTACKS = {
    "badnet": "rora_cli.attacks.insertion:BadNet",
    "insent": "rora_cli.attacks.insertion:InSent",
    "combination": "rora_cli.attacks.combination:Combination",
    "homoglyph": "rora_cli.attacks.homoglyph:Homoglyph",
    "punctuation": "rora_cli.attacks.punctuation:Punctuation",
    "style": "rora_cli.attacks.style:Style",
    "syntactic": "rora_cli.attacks.syntactic:Syntactic",
}


def make_attack(name: str, *, triggers: Sequence[str] = (), position: str = "random") -> Attack:
    """The attack of that name. Raises UsageError for an unknown name, trigger or position."""
    if name not in ATTACKS:
        raise UsageError(f"there is no attack {name!r}; choose one of {', '.join(ATTACKS)}")
    module, _, attribute = ATTACKS[name].partition(":")
    attack: Attack = getattr(importlib.import_module(module), attribute)(tuple(triggers), position)
    return attack
