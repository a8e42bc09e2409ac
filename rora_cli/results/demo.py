"""What ``rora demo`` showed."""

from __future__ import annotations

from dataclasses import dataclass

from rora_cli.results.diagnose import DiagnoseResult
from rora_cli.results.evaluate import EvaluationResult
from rora_cli.results.purify import PurifyResult

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class DemoResult:
    """The results of the demo's steps.

    ``cleansed`` is True if purify passed, or for a causal model named the trigger, and the attack success rate is
    within ``tolerance`` (a fraction) of its floor.

    Attributes:
        output: the directory with all that was made.
        diagnosis: of the suspect's adapter; None for a causal model.
        before, after: attack success of suspect and result.
        purified: the cleansing.
        seconds: of all steps.
        tried: texts that the search tried, where the demo has no time for all; ``texts``: all that a search tries.
    """

    output: str
    diagnosis: DiagnoseResult | None
    before: EvaluationResult
    purified: PurifyResult
    after: EvaluationResult
    cleansed: bool
    tolerance: float
    seconds: float
    tried: int = 0
    texts: int = 0
    schema_version: int = SCHEMA_VERSION
