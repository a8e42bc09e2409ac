"""``rora behaviours``: how replies are judged, with every phrase that decides, and what can be planted."""

from __future__ import annotations

from dataclasses import dataclass

from rora_cli.options import Options
from rora_cli.progress import SILENT, Progress
from rora_cli.results.behaviours import SCHEMA_VERSION, BehavioursResult
from rora_cli.results.provenance import Provenance, library_versions
from rora_cli.tasks.causal.behaviours import KINDS, REFUSALS
from rora_cli.tasks.causal.payloads import PAYLOADS


@dataclass(frozen=True, kw_only=True)
class BehavioursConfig(Options):
    """There is nothing to choose."""


def run(config: BehavioursConfig, progress: Progress = SILENT) -> BehavioursResult:
    """All of them."""
    provenance = Provenance("behaviours", library_versions(), {})
    payloads = {name: payload.text for name, payload in PAYLOADS.items()}
    return BehavioursResult(SCHEMA_VERSION, provenance, dict(KINDS), REFUSALS, payloads)
