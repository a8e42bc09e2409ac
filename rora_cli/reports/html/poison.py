"""The values of ``poison.html.j2``."""

from __future__ import annotations

from typing import Any

from rora_cli.reports import in_words
from rora_cli.results.poison import PoisonResult


def values(result: PoisonResult) -> dict[str, Any]:
    """The moments at which the suspect was measured, by name."""
    moments = [("before", result.before)] if result.before is not None else []
    moments += [("suspect", result.suspect), *((f"after {check.recipe}", check.after) for check in result.persistence)]
    return {"said": in_words.of_poison(result), "moments": moments}
