"""Who forgets what: purify suspects with several recipes and seeds, and measure attack success on rows held out.

    python benchmarks/efficacy.py plan.yaml results.jsonl

The plan names suspects (directory, attack, target label), clean data (with a train and a validation split), and
recipes (options of purify). Each finished run is one line of the results file, with the resolved configuration, the
versions, counts and intervals; a run whose line is there is not done again, so that the command can be interrupted.
``--table`` prints medians and ranges over seeds instead. Attack success is measured on the validation split, which
purify sees as held-out clean rows only, without any trigger.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

#: Every run of a plan; one run and its plan in, a line of results out; the table of lines of results.
Planned = Callable[[dict[str, Any]], Iterable[dict[str, Any]]]
Execute = Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]]
Table = Callable[[list[dict[str, Any]]], str]


def planned(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every run of the plan: suspect, recipe, seed, options."""
    for suspect in plan["suspects"]:
        yield {"suspect": suspect["name"], "recipe": "suspect", "seed": 0}
    for seed in plan["seeds"]:
        for suspect in plan["suspects"]:
            if seed not in suspect.get("seeds", plan["seeds"]):
                continue
            for name, recipe in plan["recipes"].items():
                if name in suspect.get("recipes", plan["recipes"]) and seed in recipe.get("seeds", plan["seeds"]):
                    yield {"suspect": suspect["name"], "recipe": name, "seed": seed}


def execute(run: dict[str, Any], plan: dict[str, Any]) -> dict[str, Any]:
    """Purify (unless the suspect itself is measured) and evaluate; returns one line of results."""
    import rora_cli
    from rora_cli.reports.json_report import plain

    suspect = suspect_of(run, plan)
    line: dict[str, Any] = dict(run)
    with tempfile.TemporaryDirectory() as scratch:
        model = suspect["path"]
        if run["recipe"] != "suspect":
            found, model = cleanse(model, suspect["clean"], run["seed"], plan["recipes"][run["recipe"]], scratch)
            line |= found
        measured = rora_cli.evaluate_asr(model, **measured_by(suspect, plan))
    line["clean_accuracy"] = plain(measured.clean_accuracy)
    line["outcomes"] = plain(measured.outcomes)
    return line


def suspect_of(run: dict[str, Any], plan: dict[str, Any]) -> dict[str, Any]:
    """The plan's entry for the suspect of a run, with its clean data."""
    found = next(s for s in plan["suspects"] if s["name"] == run["suspect"])
    return {"clean": plan.get("clean")} | found


def cleanse(model: str, clean: str, seed: int, recipe: dict[str, Any], scratch: str) -> tuple[dict[str, Any], str]:
    """Purify into ``scratch``: what is said of it in a line of results, and the directory of the result.

    ``seconds`` are of the clock; ``cpu_seconds`` of the processor, which other programs do not lengthen as much.
    """
    import rora_cli
    from rora_cli.reports.json_report import plain

    options = {name: value for name, value in recipe.items() if name != "seeds"}
    began, used = time.perf_counter(), time.process_time()
    output = f"{scratch}/out"
    result = rora_cli.purify(model, clean=clean, output=output, keep_failed=True, seed=seed, **options)
    return {
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - used,
        "verdict": result.verdict,
        "reason": result.reason,
        "config": plain(result.provenance.config),
        "stages": plain(result.stages),
        "residual": plain(result.residual),
        "versions": plain(result.provenance.versions),
    }, output


def measured_by(suspect: dict[str, Any], plan: dict[str, Any]) -> dict[str, Any]:
    """The options of ``rora eval-asr`` by which a suspect is measured, before and after."""
    return {
        "data": suspect["clean"],
        "target_label": str(suspect["target"]),
        "attacks": tuple(suspect.get("attacks", ())),
        "triggers": tuple(suspect.get("triggers", ())),
        "positions": tuple(suspect.get("positions", ("random",))),
        "max_rows": plan.get("max_rows"),
    }


def table(results: list[dict[str, Any]]) -> str:
    """One row a suspect and recipe: medians over seeds, with the range where there are several."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for line in results:
        groups.setdefault((line["suspect"], line["recipe"]), []).append(line)
    rows = ["| suspect | recipe | seeds | clean accuracy % | per class % | attack success % | floor % | minutes |"]
    rows.append("|---|---|---|---|---|---|---|---|")
    for (suspect, recipe), lines in groups.items():
        accuracy = [100 * line["clean_accuracy"]["overall"]["value"] for line in lines]
        per_class = [
            statistics.median(100 * line["clean_accuracy"]["per_class"][name]["value"] for line in lines)
            for name in lines[0]["clean_accuracy"]["per_class"]
        ]
        worst = [strongest(line) for line in lines]
        success = [100 * o["attack_success_rate"]["value"] for o in worst]
        floor = [100 * o["floor"]["value"] for o in worst]
        minutes = [line["seconds"] / 60 for line in lines if "seconds" in line]
        cells = [suspect, recipe, str(len(lines)), _spread(accuracy), "/".join(f"{v:.1f}" for v in per_class)]
        cells += [_spread(success), _spread(floor), _spread(minutes) if minutes else "-"]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def strongest(line: dict[str, Any]) -> dict[str, Any]:
    """The outcome of the attack that succeeds most, of those measured; controls do not count."""
    attacks = [outcome for outcome in line["outcomes"] if not outcome["is_control"]]
    return max(attacks, key=lambda outcome: outcome["attack_success_rate"]["value"])


def _spread(values: list[float]) -> str:
    middle = f"{statistics.median(values):.1f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.1f} to {max(values):.1f})"


def run_plan(summary: str, planned: Planned, execute: Execute, table: Table) -> int:
    """A benchmark's command line: do what the plan has and the results have not, or print the table; an exit code."""
    parser = argparse.ArgumentParser(description=summary)
    parser.add_argument("plan", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("--limit", type=int, help="do at most this many runs")
    parser.add_argument("--table", action="store_true", help="print the table of what is there")
    arguments = parser.parse_args()
    plan = yaml.safe_load(arguments.plan.read_text())
    known = [json.loads(line) for line in arguments.results.open()] if arguments.results.exists() else []
    if arguments.table:
        print(table(known))
        return 0
    done = {(line["suspect"], line["recipe"], line["seed"]) for line in known}
    left = [run for run in planned(plan) if tuple(run.values()) not in done]
    for run in left[: arguments.limit]:
        line = execute(run, plan | {"results": arguments.results})
        with arguments.results.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(table([line]).splitlines()[-1], file=sys.stderr, flush=True)
    return 0 if left else 3


if __name__ == "__main__":
    sys.exit(run_plan(__doc__.splitlines()[0], planned, execute, table))
