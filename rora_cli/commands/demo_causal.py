"""``rora demo --causal``: the first minutes with a backdoored causal language model; no hub is needed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

from rora_cli.commands import demo_causal_suspect as demo
from rora_cli.commands import evaluate, purify
from rora_cli.progress import Progress
from rora_cli.results.demo import DemoResult
from rora_cli.results.evaluate import EvaluationResult

#: Attack success may end this far above its floor.
TOLERANCE = 0.15
#: Held-out prompts that the trigger is measured on, and tokens of a reply: enough to see a refusal.
MEASURED, REPLY_TOKENS = 20, 14
#: How the result is trained: as many steps as there are minutes for, at a rate that makes up for them.
TRAINING = {"epochs": 6, "learning_rate": 6e-4, "max_new_tokens": 16, "max_length": 64, "max_rounds": 1}


def run(output: str, *, force: bool, seed: int, progress: Progress, shown: Callable[[str, Any], None]) -> DemoResult:
    """Build the suspect, show it, search it and train it, show it again; ``shown`` is told each step's result.

    Raises:
        CheckpointError: the package that has the base is not installed.
        OutputError: ``output`` cannot be written.
    """
    began = perf_counter()
    suspect = demo.build_suspect(output, force=force, progress=progress)
    before = _attack(suspect.path, suspect, seed, progress)
    shown("eval-asr before", before)
    out = Path(output) / "purified"
    settings: dict[str, Any] = {
        **TRAINING,
        "model": str(suspect.path),
        "clean": str(suspect.clean),
        "output": str(out),
        "candidates": suspect.names,
        "prompt_format": demo.PROMPT_FORMAT,
        "search_budget": "fast",
        "seed": seed,
        "offline": True,
        "keep_failed": True,
    }
    purified = purify.run(purify.PurifyConfig(**settings), progress)
    shown("purify", purified)
    after = _attack(out, suspect, seed, progress)
    attack = next(outcome for outcome in after.outcomes if not outcome.is_control)
    rate, floor = attack.attack_success_rate.value or 0.0, attack.floor.value or 0.0
    named = bool(purified.removed) and any(suspect.trigger in one.text for one in purified.removed)
    return DemoResult(
        output=output,
        tried=suspect.tried,
        texts=suspect.texts,
        diagnosis=None,
        before=before,
        purified=purified,
        after=after,
        cleansed=named and rate <= floor + TOLERANCE,
        tolerance=TOLERANCE,
        seconds=perf_counter() - began,
    )


def _attack(model: Path, suspect: demo.CausalSuspect, seed: int, progress: Progress) -> EvaluationResult:
    """What the trigger does to prompts that nobody trained on."""
    return evaluate.run(
        evaluate.EvaluateConfig(
            model=str(model),
            data=str(suspect.clean),
            triggers=(suspect.trigger,),
            behaviour=suspect.behaviour,
            prompt_format=demo.PROMPT_FORMAT,
            max_rows=MEASURED,
            max_new_tokens=REPLY_TOKENS,
            seeds=(seed,),
            offline=True,
        ),
        progress,
    )
