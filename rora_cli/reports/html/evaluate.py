"""The values of ``evaluate.html.j2``."""

from __future__ import annotations

from typing import Any

from rora_cli.reports import in_words
from rora_cli.reports.terminal.evaluate import beside, explanation
from rora_cli.reports.terminal.replies import utility_rows
from rora_cli.results.evaluate import EvaluationResult


def values(result: EvaluationResult) -> dict[str, Any]:
    """Each outcome with its transcripts, where there are any."""
    replies = result.replies or (None,) * len(result.outcomes)
    return {
        "said": in_words.of_evaluation(result),
        "outcomes": [(outcome, beside(outcome)) for outcome in result.outcomes],
        "replies": [(o, said) for o, said in zip(result.outcomes, replies, strict=True) if said and not o.is_control],
        "utility": [] if result.utility is None else list(utility_rows(result.clean_accuracy, result.utility)),
        "explanation": explanation(result, result.target_label),
    }
