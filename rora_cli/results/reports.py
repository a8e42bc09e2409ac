"""Which report each command prints, by its type: what the JSON Schemas, the documentation and the tests go through."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

#: Command, or option of commands, -> module of this room and class of its JSON report.
REPORTS: Mapping[str, tuple[str, str]] = {
    "check": ("check", "CheckResult"),
    "diagnose": ("diagnose", "DiagnoseResult"),
    "hunt": ("hunt", "HuntResult"),
    "purify": ("purify", "PurifyResult"),
    "eval-asr": ("evaluate", "EvaluationResult"),
    "rescale": ("rescale", "RescaleResult"),
    "poison": ("poison", "PoisonResult"),
    "verify": ("verify", "VerifyResult"),
    "rules": ("rules", "RulesResult"),
    "behaviours": ("behaviours", "BehavioursResult"),
    "demo": ("demo", "DemoResult"),
    "dry-run": ("plan", "RunPlan"),
}


def report(name: str) -> tuple[type, int]:
    """The type of a report and the version of its form, which rises where a field goes or means something else."""
    module, kind = REPORTS[name]
    loaded = import_module(f"rora_cli.results.{module}")
    return getattr(loaded, kind), loaded.SCHEMA_VERSION
