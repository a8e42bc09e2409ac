"""The values of ``hunt.html.j2``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from rora_cli.reports import in_words
from rora_cli.reports.html.power import power_section
from rora_cli.reports.subjects import rules
from rora_cli.results.hunt import FoundTrigger, HuntResult
from rora_cli.results.openings import FoundOpening

#: Called triggers, and candidates below the threshold, that a page shows.
_CALLED, _OTHERS = 50, 5
_Candidate = TypeVar("_Candidate", FoundTrigger, FoundOpening)


def values(result: HuntResult) -> dict[str, Any]:
    """A section for each label, those with triggers first, then those that stay open."""
    order = ("trigger", "inconclusive", "nothing")
    labels = sorted(result.labels, key=lambda label: order.index(label.verdict))
    return {
        "said": in_words.of_hunt(result),
        "labels": [(label, _shown(label.triggers)) for label in labels],
        "openings": None if result.openings is None else _shown(result.openings.triggers),
        "power": power_section(result.power),
        "rules": rules(result),
    }


def _shown(triggers: Sequence[_Candidate]) -> list[_Candidate]:
    called = [trigger for trigger in triggers if trigger.called]
    others = [trigger for trigger in triggers if not trigger.called]
    return called[:_CALLED] + others[:_OTHERS]
