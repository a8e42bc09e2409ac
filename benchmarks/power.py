"""Measure what a search finds of planted backdoors, with several numbers of them in one copy.

    python benchmarks/power.py MODEL CLEAN RESULTS [--power N] [--seed S] [--per-copy K ...] [--max-rows R] ...

The model itself is searched once; the stand-ins are those of the seed, whatever number shares a copy. Each measurement
becomes a line of RESULTS, with the search of the model itself.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from rora_cli.checkpoints.loading import load_model
from rora_cli.commands.hunt import HuntConfig
from rora_cli.data.sources import load_rows
from rora_cli.hunting.case import Case, SearchSettings
from rora_cli.hunting.hunt import search_triggers
from rora_cli.power.drawing import Called
from rora_cli.power.forms import FORMS
from rora_cli.power.measure import Asked, measure_power
from rora_cli.results.power import FORM_NAMES
from rora_cli.tasks.reference import ReferenceRun
from rora_cli.tasks.registry import make_task
from rora_cli.tasks.subjects import subject_of
from rora_cli.training.run import Run, make_accelerator


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model")
    parser.add_argument("clean")
    parser.add_argument("results", type=Path)
    parser.add_argument("--power", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--per-copy", type=int, nargs="*", default=[3])
    parser.add_argument("--max-rows", type=int, default=2000)
    parser.add_argument("--budget", default="fast")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--forms", default=",".join(FORM_NAMES), help="groups of forms, or forms")
    given = parser.parse_args()
    config = HuntConfig(model=given.model, clean=given.clean, max_rows=given.max_rows, seed=given.seed)

    loaded = load_model(Path(given.model))
    rows, _ = load_rows(
        config.clean, label_names=loaded.label_names, split=None, reading=config, max_rows=config.max_rows
    )
    wanted = set(given.forms.split(","))
    forms = [form for form in FORMS if wanted & {form.group, form.name}]
    run = Run(make_accelerator(given.precision, "cpu"), seed=given.seed)
    subject = subject_of(loaded, given.model).reading(config.max_length)
    task = make_task(subject.kind, loaded.label_names)
    reference = task.reference("auto", subject, rows, ReferenceRun(given.seed, accelerator=run.accelerator))
    settings = SearchSettings(given.budget, given.seed, None, run.rough)
    hunt = search_triggers(Case(subject, task, rows, reference, settings))
    called = [Called(trigger.text, trigger.target_label, trigger.token_ids) for trigger in hunt.called]
    own = {
        "called": [(t.text, t.target_label) for t in hunt.called],
        "verdicts": {label.target_label: label.verdict for label in hunt.labels},
        "forward_tokens": hunt.forward_tokens,
        "seconds": hunt.seconds,
    }
    print(json.dumps(own), flush=True)
    for each in given.per_copy:
        case = Case(subject, task, rows, reference, settings)
        power = measure_power(case, run, Asked(given.power, called, forms=forms, per_copy=each))
        print(each, power.sentence, flush=True)
        line = {"model": given.model, "rows": len(rows), "seed": given.seed, "per_copy": each, "search": own}
        with given.results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line | {"power": asdict(power)}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
