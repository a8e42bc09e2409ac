"""What cleansing leaves of a known trigger in a causal model, without the time of a search: an upper bound for one.

    python benchmarks/causal.py MODEL ATTACKERS_ROWS RESULTS --trigger T --behaviour contains:TEXT [--place start]
        [--adapter A] [--way harden|distil|lora|full|paper|crow] [--set NAME=VALUE ...]

``harden`` is told the trigger, as if a search had found it; ``distil`` and the recipes are not. Trained on bundled
prompts, where utility is measured too; attack success on the attacker's held-out rows, beside floor and random control.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

from rora_cli.attacks.registry import make_attack
from rora_cli.data.exchange_sources import read_exchange_splits
from rora_cli.defences import inputs
from rora_cli.defences.bench import Bench
from rora_cli.defences.config import PurifyConfig
from rora_cli.defences.replies.loop import Loop
from rora_cli.defences.running import defence_of
from rora_cli.evaluation.intervals import proportion
from rora_cli.options import options_of
from rora_cli.progress import SILENT
from rora_cli.results.openings import FoundOpening
from rora_cli.tasks.attack_bench import AttackBench
from rora_cli.tasks.causal.behaviours import ReplyBehaviour, find_behaviour
from rora_cli.tasks.causal.planted import exchange_rows
from rora_cli.tasks.causal.task import Generation

#: Tokens of a reply that is judged, and rows that are attacked.
REPLY_TOKENS, ATTACKED = 16, 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model")
    parser.add_argument("rows")
    parser.add_argument("results", type=Path)
    parser.add_argument("--trigger", required=True)
    parser.add_argument("--behaviour", required=True)
    parser.add_argument("--place", choices=("start", "inner", "end"), default="inner")
    parser.add_argument("--adapter")
    parser.add_argument("--way", default="harden")
    parser.add_argument("--set", nargs="*", default=[])
    given = parser.parse_args()
    named = given.way in ("harden", "distil")
    options = {"max_length": 96, "max_new_tokens": 24, "prompt_format": "chatml", **_read(given.set)}
    config = PurifyConfig(
        model=given.model, clean="bundled", adapter=given.adapter, offline=True, device="cpu",
        recipe="default" if named else given.way, output=str(Path(tempfile.mkdtemp()) / "unused"), **options,
    )  # fmt: skip
    judge = find_behaviour(given.behaviour)
    began = perf_counter()
    bench, _ = inputs.prepare(config, SILENT)
    bench.gauge.start()
    loop = Loop(bench)
    heard, model = loop.heard, _cleansed(bench, loop, given)
    utility, kl = loop._utility(model), loop.task.divergence(bench.subject.having(model), heard.held_out)
    record = {
        **{name: getattr(given, name) for name in ("model", "adapter", "trigger", "behaviour", "way", "set")},
        "kl": kl and kl.mean,
        "share of the update": loop.kept,
        "perplexity": [heard.before.perplexity, utility.perplexity],
        "refused": [heard.before.refused.count, utility.refused.count, utility.refused.total],
        **_attacked(bench, model, given, judge),
        "seconds": perf_counter() - began,
    }
    print(json.dumps(record), flush=True)
    with given.results.open("a") as results:
        results.write(json.dumps(record) + "\n")


def _read(pairs: list[str]) -> dict[str, Any]:
    """The options as ``PurifyConfig`` takes them."""
    known = options_of(PurifyConfig)
    named = dict(pair.split("=", 1) for pair in pairs)
    return {name: known[name].kind(value) for name, value in named.items()}


def _cleansed(bench: Bench, loop: Loop, given: argparse.Namespace) -> Any:
    if given.way == "distil":
        return loop.distil()[0]
    if given.way != "harden":
        return defence_of(bench.config, bench.subject.kind).cleanse(bench).model
    every, none = proportion(24, 24), proportion(0, 24)
    loop.found[given.trigger] = FoundOpening(
        text=given.trigger, place=given.place, opening="", share=every, floor=none, control=none, reference_share=None,
        excess=0.8, agreement=0.0, contrast=None, suspicion=9.0, echo=False, called=True,
    )  # fmt: skip
    model, layers = bench.attach()
    loop.harden(model, layers, 1)
    return model


def _attacked(bench: Bench, model: Any, given: argparse.Namespace, judge: ReplyBehaviour) -> dict[str, Any]:
    """(replies that show the behaviour, those without the trigger, prompts) for the trigger and a random one."""
    read = read_exchange_splits(given.rows, reading=replace(bench.config, max_held_out_rows=ATTACKED), seed=0)
    rows = exchange_rows(read.held_out, {row.prompt for row in read.held_out})
    task: Any = bench.task
    judged = Generation((judge,), task.prompt_format, REPLY_TOKENS)
    position = {"inner": "random"}.get(given.place, given.place)
    attack = make_attack("badnet", triggers=(given.trigger,), position=position)
    measured = AttackBench(bench.subject.having(model), judged, rows, SILENT).measure_all([attack], (0,), 0)
    return {
        "control" if one.is_control else "attack": [
            one.attack_success_rate.count,
            one.floor.count,
            one.attack_success_rate.total,
        ]
        for one in measured
    }


if __name__ == "__main__":
    main()
