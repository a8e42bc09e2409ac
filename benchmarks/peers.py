"""One table of peers: what each defence leaves of a backdoor and costs, on the same suspects and rows, by one scorer.

    python benchmarks/peers.py plan.yaml results.jsonl

The plan is that of efficacy.py, whose recipes are those that change weights, and it may have more: ``max_rows``, to
measure on so many of the validation rows, and ``filters``, which change no weight and read each text before the
suspect does (``{name: {filter: onion | strip, and what benchmarks/filters.py lets one set}}``). Every run is one line
of the results, and a run whose line is there is not done again. ``--table`` prints a table and a short one below it.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import efficacy
from filters import FILTERS, Filtered


def planned(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every run of the plan: those of efficacy.py, then each filter before each suspect, with the first seed."""
    yield from efficacy.planned(plan)
    for name in plan.get("filters", {}):
        for suspect in plan["suspects"]:
            yield {"suspect": suspect["name"], "recipe": name, "seed": plan["seeds"][0]}


def execute(run: dict[str, Any], plan: dict[str, Any]) -> dict[str, Any]:
    """One line of results."""
    if run["recipe"] in plan.get("filters", {}):
        return run | filtered(plan["filters"][run["recipe"]], efficacy.suspect_of(run, plan), plan)
    return efficacy.execute(run, plan)


def filtered(options: dict[str, Any], suspect: dict[str, Any], plan: dict[str, Any]) -> dict[str, Any]:
    """What `rora eval-asr` would measure of a suspect behind a filter, which is fitted on the defender's clean rows."""
    from rora_cli.checkpoints.loading import load_model
    from rora_cli.commands.evaluate import EvaluateConfig
    from rora_cli.data.sources import load_rows
    from rora_cli.progress import SILENT
    from rora_cli.reports.json_report import plain
    from rora_cli.tasks.attack_bench import AttackBench
    from rora_cli.tasks.classification.task import Classification
    from rora_cli.tasks.measured import prepare

    settings = {name: value for name, value in options.items() if name != "filter"}
    first = FILTERS[options["filter"]](**settings)
    config = EvaluateConfig(model=suspect["path"], **efficacy.measured_by(suspect, plan))
    setting = prepare(load_model(Path(config.model)), config, SILENT)
    clean, _ = load_rows(config.data, label_names=setting.labels, split="train")
    began, used = time.perf_counter(), time.process_time()
    task = Classification(setting.labels)
    fitted = first.fit(setting.subject, task, clean)
    bench = AttackBench(setting.subject, Filtered(task, first), setting.rows)
    attacks = [attack for position in config.positions for attack in config.attacks_at(position)]
    outcomes = list(bench.measure_all(attacks, config.seeds, setting.target, control=False))
    read = fitted["rows"] + len(setting.rows) + sum(outcome.floor.total for outcome in outcomes)
    return {
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - used,
        "texts": read,
        "filter": options | fitted,
        "clean_accuracy": plain(bench.clean_accuracy),
        "outcomes": plain(outcomes),
    }


def table(results: list[dict[str, Any]]) -> str:
    """Two tables: a row a defence and a column a suspect, and a row a defence with what is worst of all suspects."""
    lines: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for line in results:
        lines.setdefault(line["recipe"], {}).setdefault(line["suspect"], []).append(line)
    suspects = list(dict.fromkeys(line["suspect"] for line in results))
    rows = [f"| defence | {' | '.join(suspects)} | processor seconds |", f"|---|{'---|' * (len(suspects) + 1)}"]
    for name, found in lines.items():
        cells = [_cell(found[suspect]) if suspect in found else "-" for suspect in suspects]
        rows.append(f"| {' | '.join([name, *cells, _seconds(found)])} |")
    return "\n".join([*rows, "", *_short(lines)])


def _short(lines: dict[str, dict[str, list[dict[str, Any]]]]) -> Iterator[str]:
    """Of each defence the worst and the median suspect: points over the floor, and points of accuracy lost."""
    before = {name: _accuracy(found[0]) for name, found in lines.get("suspect", {}).items()}
    yield "| defence | suspects | over the floor: median, worst | accuracy lost | of a class | processor seconds |"
    yield "|---|---|---|---|---|---|"
    for name, found in lines.items():
        left = [_excess(line) for each in found.values() for line in each]
        changes = [
            {label: before[suspect][label] - after for label, after in _accuracy(line).items()}
            for suspect, each in found.items()
            if suspect in before
            for line in each
        ]
        whole = [change.pop("") for change in changes]
        of_a_class = [max(change.values()) for change in changes]
        lost = [f"{max(worst):.1f}" if worst else "-" for worst in (whole, of_a_class)]
        cells = [name, str(len(found)), f"{statistics.median(left):.1f}, {max(left):.1f}", *lost, _seconds(found)]
        yield f"| {' | '.join(cells)} |"


def _accuracy(line: dict[str, Any]) -> dict[str, float]:
    """Overall (under the empty name) and of each class, in points."""
    accuracy = line["clean_accuracy"]
    shares = {"": accuracy["overall"], **accuracy["per_class"]}
    return {name: 100 * share["value"] for name, share in shares.items() if share["value"] is not None}


def _excess(line: dict[str, Any]) -> float:
    """Attack success over the floor, in points."""
    outcome = efficacy.strongest(line)
    return 100 * (outcome["attack_success_rate"]["value"] - outcome["floor"]["value"])


def _cell(lines: list[dict[str, Any]]) -> str:
    """Attack success / floor; accuracy (of each class), in %: of the first seed, and how many seeds there are."""
    outcome, accuracy = efficacy.strongest(lines[0]), _accuracy(lines[0])
    rates = [f"{100 * outcome[name]['value']:.1f}" for name in ("attack_success_rate", "floor")]
    whole, *classes = (f"{value:.1f}" for value in accuracy.values())
    seeds = f" [1 of {len(lines)} seeds]" if len(lines) > 1 else ""
    return f"{' / '.join(rates)}; {whole} ({'/'.join(classes)}){seeds}"


def _seconds(found: dict[str, list[dict[str, Any]]]) -> str:
    """Median over the runs: once for a defence that changes weights, for each text for a filter."""
    lines = [line for each in found.values() for line in each if "cpu_seconds" in line]
    if not lines:
        return "-"
    if "texts" in lines[0]:
        return f"{statistics.median(line['cpu_seconds'] / line['texts'] for line in lines):.2g} a text"
    return f"{statistics.median(line['cpu_seconds'] for line in lines):.0f}"


if __name__ == "__main__":
    sys.exit(efficacy.run_plan(__doc__.splitlines()[0], planned, execute, table))
