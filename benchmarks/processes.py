"""What a second process is worth: seconds of measuring, searching and training with one process and with several.

    python benchmarks/processes.py [--model DIRECTORY] [--processes 1 2] [--repeats 3] [--rows 600]

The numbers of processes take turns, so that drift of the machine's speed hits all alike; each process has one thread.
The model is the demo's suspect, a backdoored MiniLM. "measure" is clean accuracy on the bundled rows, five times,
"search" a fast search of one label against a bag of words, and "train" an epoch of a LoRA on those rows. Loading and
starting do not count. The efficiency is seconds of one process / (n x seconds of n), the median over the turns. A run
ends with an error if n processes measure or find anything else than one.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

PHASES = ("measure", "search", "train")
MEASURED = 5


@dataclass(frozen=True)
class Config:
    """What the processes work on: a checkpoint, whether the demo's adapter belongs on it, and how many bundled rows."""

    model: str
    demo: bool
    rows: int


def work(config: Config, progress: Any) -> tuple[dict[str, float], str]:
    """Seconds of each phase, and what came out in words; every process runs it at the same time."""
    import torch

    from rora_cli.checkpoints.loading import load_classifier
    from rora_cli.commands.demo_suspect import ADAPTER, LABEL_NAMES
    from rora_cli.data.sources import load_splits
    from rora_cli.hunting.case import Case, SearchSettings
    from rora_cli.hunting.hunt import search_triggers
    from rora_cli.option_groups import SplitOptions
    from rora_cli.tasks.reference import ReferenceRun
    from rora_cli.tasks.registry import make_task
    from rora_cli.tasks.subjects import subject_of
    from rora_cli.training.adapters import attach
    from rora_cli.training.loop import finetune
    from rora_cli.training.run import Run, make_accelerator
    from rora_cli.training.specs import AdapterSpec, TrainSpec

    run = Run(make_accelerator("fp32", "cpu"))
    torch.manual_seed(0)  # of a head that the model lacks
    adapter = ADAPTER if config.demo else None
    loaded = load_classifier(Path(config.model), adapter=adapter, new_head=LABEL_NAMES)
    subject = subject_of(loaded, "benchmark", 128).shared(run.share)
    reading = SplitOptions(max_train_rows=config.rows)
    rows = load_splits("bundled", label_names=loaded.label_names, reading=reading).train
    task = make_task(subject.kind, loaded.label_names)
    seconds: dict[str, float] = {}

    def timed(phase: str, call: Callable[[], Any]) -> Any:
        run.share.gather(None)  # all begin together
        began = perf_counter()
        value = call()
        seconds[phase] = perf_counter() - began
        return value

    measured = timed("measure", lambda: [task.quality(subject, rows).overall.count for _ in range(MEASURED)])
    reference = task.reference("bag-of-words", subject, rows, ReferenceRun())
    settings = SearchSettings("fast", targets=(1,))
    found = timed("search", lambda: search_triggers(Case(subject, task, rows, reference, settings)))
    adapted, _ = attach(loaded.model, AdapterSpec(), subject.kind)
    objective = task.objective(subject, rows.texts, rows.labels)
    timed("train", lambda: finetune(adapted, objective, TrainSpec(epochs=1), accelerator=run.accelerator))
    texts = [(trigger.text, trigger.flip_rate.count) for label in found.labels for trigger in label.triggers]
    return seconds, f"{set(measured)} of {len(rows)} right; {found.forward_tokens:,} tokens; {texts}"


def main() -> None:
    """Measure by turns and print a table."""
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    import processes as by_name  # the children import the work by the name of its module

    from rora_cli.tasks.reference import PACKAGED
    from rora_cli.training.launch import launch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=None)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rows", type=int, default=600)
    given = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    model = given.model or next(str(path) for encoder in PACKAGED if (path := encoder.path()))
    turns: list[dict[int, dict[str, float]]] = []
    for _ in range(given.repeats):
        done = {
            n: launch(by_name.work, by_name.Config(model, given.model is None, given.rows), n) for n in given.processes
        }
        if len({outcome for _, outcome in done.values()}) > 1:
            sys.exit(f"the processes do not agree: { {n: outcome for n, (_, outcome) in done.items()} }")
        turns.append({n: seconds for n, (seconds, _) in done.items()})
        print(turns[-1], next(iter(done.values()))[1], flush=True)
    first = given.processes[0]
    print("| processes | " + " | ".join(f"{phase} s | efficiency" for phase in PHASES) + " |")
    for n in given.processes:
        cells = [
            f"{statistics.median(turn[n][phase] for turn in turns):.1f} | "
            f"{statistics.median(first * turn[first][phase] / (n * turn[n][phase]) for turn in turns):.2f}"
            for phase in PHASES
        ]
        print(f"| {n} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
