"""Does the removal of planted backdoors predict the removal of the one that is there?

    python benchmarks/prediction.py plan.yaml results.jsonl

The plan is that of efficacy.py; ``stand_ins`` (3) is how many backdoors of rora's own are planted in a copy of each
suspect and seed, before anything is cleansed, as `rora hunt --power` plants them, and ``max_train_rows`` how many
clean rows they are planted among and the recipes have. The copies are kept beside the results. Every recipe then
cleanses the copy, and stand-ins and true trigger are measured on the same validation rows. ``--table`` prints
what is left of each, the rank correlation of both, and how often the stand-ins were gone and the true trigger was not.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import efficacy

from rora_cli.attacks.base import Attack
from rora_cli.attacks.registry import make_attack
from rora_cli.checkpoints.loading import load_model
from rora_cli.commands.evaluate import EvaluateConfig
from rora_cli.data.rows import Rows
from rora_cli.data.sources import load_rows
from rora_cli.files import publish_directory
from rora_cli.power.drawing import Called, Drawer, Drawn
from rora_cli.power.forms import FORMS, WordOrder
from rora_cli.power.measure import MAX_UNPLANTED
from rora_cli.power.planting import MOST_HELD_OUT, MOST_TRAINED, PlantedCopy, Planter
from rora_cli.progress import SILENT
from rora_cli.reports.json_report import plain
from rora_cli.subject import Subject
from rora_cli.tasks.attack_bench import AttackBench
from rora_cli.tasks.classification.thresholds import CLAIMS
from rora_cli.tasks.registry import make_task
from rora_cli.tasks.subjects import subject_of
from rora_cli.tasks.task import Task
from rora_cli.training.run import Run, make_accelerator

#: The run that plants: its line says what the copy is like before a recipe cleanses it.
PLANTED = "planted"
#: Inside a copy's directory, beside the model: the stand-ins.
STAND_INS = "stand-ins.json"


@dataclass(frozen=True)
class Ground:
    """A suspect or a copy of it, with the rows that a plan gives to train on and to measure on."""

    subject: Subject
    task: Task
    train: Rows
    held_out: Rows

    @classmethod
    def of(cls, model: str, suspect: dict[str, Any], plan: dict[str, Any]) -> Ground:
        """Load the model, and read the rows of the suspect's clean data."""
        loaded = load_model(Path(model))
        most = {"train": plan.get("max_train_rows", MOST_TRAINED), "validation": plan.get("max_rows", MOST_HELD_OUT)}
        rows = {
            split: load_rows(suspect["clean"], label_names=loaded.label_names, split=split, max_rows=count)[0]
            for split, count in most.items()
        }
        subject = subject_of(loaded, model)
        return cls(subject, make_task(subject.kind, loaded.label_names), rows["train"], rows["validation"])

    def label(self, name: str) -> int:
        """The index of a label."""
        return [behaviour.name for behaviour in self.task.behaviours].index(name)

    def measured(self, attacks: Sequence[tuple[Attack, str]]) -> list[dict[str, Any]]:
        """Attack success and floor of each attack, on the rows to measure on; attacks come with their target."""
        bench = AttackBench(self.subject, self.task, self.held_out)
        return [plain(bench.measure(attack, self.label(target), 0)) for attack, target in attacks]

    def accuracy(self) -> dict[str, Any]:
        """On the rows to measure on."""
        found: dict[str, Any] = plain(self.task.quality(self.subject, self.held_out))
        return found


def planned(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every run: of each suspect and seed the planting, then the recipes."""
    for seed in plan["seeds"]:
        for suspect in plan["suspects"]:
            for name in (PLANTED, *plan["recipes"]):
                yield {"suspect": suspect["name"], "recipe": name, "seed": seed}


def execute(run: dict[str, Any], plan: dict[str, Any]) -> dict[str, Any]:
    """Plant, or cleanse what was planted; returns one line of results."""
    suspect = efficacy.suspect_of(run, plan)
    directory = plan["results"].with_suffix("") / f"{run['suspect']}-{run['seed']}"
    if run["recipe"] == PLANTED:
        line = plant(directory, suspect, run["seed"], plan)
        return run | line | left(str(directory), directory, suspect, plan)
    recipe = {"max_train_rows": plan.get("max_train_rows", MOST_TRAINED)} | plan["recipes"][run["recipe"]]
    with tempfile.TemporaryDirectory() as scratch:
        line, result = efficacy.cleanse(str(directory), suspect["clean"], run["seed"], recipe, scratch)
        return run | line | left(result, directory, suspect, plan)


def plant(directory: Path, suspect: dict[str, Any], seed: int, plan: dict[str, Any]) -> dict[str, Any]:
    """Write a copy of the suspect with stand-ins in it; returns how that went."""
    ground = Ground.of(suspect["path"], suspect, plan)
    began, run = time.process_time(), Run(make_accelerator("fp32", "cpu"), seed=seed)
    planter = Planter(ground.subject, ground.task, (ground.train, ground.held_out), run, SILENT)
    stand_ins = drawn(ground, planter, suspect, seed, plan.get("stand_ins", 3))
    copy = planter.plant(stand_ins)
    facts = [described(each, number, copy, ground) for number, each in enumerate(stand_ins)]
    with publish_directory(directory, force=True) as staging:
        copy.model.save_pretrained(staging)
        ground.subject.tokenizer.save_pretrained(staging)
        (staging / STAND_INS).write_text(json.dumps(facts))
    return {"cpu_seconds": time.process_time() - began, "rounds": copy.rounds, "kept": copy.kept}


def drawn(ground: Ground, planter: Planter, suspect: dict[str, Any], seed: int, count: int) -> tuple[Drawn, ...]:
    """The stand-ins of a seed, none of which holds the true trigger or what is near to it."""
    tokenizer, names = ground.subject.tokenizer, [behaviour.name for behaviour in ground.task.behaviours]
    called = [
        Called(text, target, tuple(tokenizer(text, add_special_tokens=False)["input_ids"]))
        for attack, target in true_attacks(suspect)
        for text in attack.triggers
    ]

    def unmoved(attack: Attack, target: int) -> bool:
        return (planter.success(ground.subject.model, attack, target).value or 0.0) <= MAX_UNPLANTED

    aims = names, range(len(names))
    draw = Drawer(ground.subject, ground.train, called, aims, unmoved, FORMS).draw(count, seed)
    if not draw.stand_ins:
        sys.exit(f"no stand-in can be drawn for {suspect['name']}: {dict(draw.left_out)}")
    return draw.stand_ins


def described(stand_in: Drawn, number: int, copy: PlantedCopy, ground: Ground) -> dict[str, Any]:
    """A stand-in in plain values, with what makes it firm or not."""
    return {
        "form": stand_in.form,
        "attack": stand_in.attack.name,
        "triggers": stand_in.attack.triggers,
        "target": ground.task.behaviours[stand_in.target].name,
        "poisoned_rows": copy.poisoned[number],
        "after_lora": plain(copy.after[number]),
        "firm": copy.is_firm(number),
    }


def true_attacks(suspect: dict[str, Any]) -> list[tuple[Attack, str]]:
    """The attacks of the suspect's own backdoor, with their target."""
    config = EvaluateConfig(model=suspect["path"], **efficacy.measured_by(suspect, {}))
    return [(attack, str(suspect["target"])) for position in config.positions for attack in config.attacks_at(position)]


def left(model: str, directory: Path, suspect: dict[str, Any], plan: dict[str, Any]) -> dict[str, Any]:
    """What a model shows of the stand-ins of a copy, and of the true trigger, and its accuracy."""
    ground = Ground.of(model, suspect, plan)
    facts = json.loads((directory / STAND_INS).read_text())
    own = [(attack_of(fact["attack"], fact["triggers"]), fact["target"]) for fact in facts]
    measured = ground.measured(own)
    return {
        "stand_ins": [fact | {"outcome": outcome} for fact, outcome in zip(facts, measured, strict=True)],
        "outcomes": ground.measured(true_attacks(suspect)),
        "clean_accuracy": ground.accuracy(),
    }


def attack_of(name: str, triggers: Sequence[str]) -> Attack:
    """The attack of a stand-in, by its name."""
    return WordOrder() if name == WordOrder.name else make_attack(name, triggers=tuple(triggers))


@dataclass(frozen=True)
class Remains:
    """What a cleansing left over the floor [fraction]: of each firm stand-in, and of the true trigger."""

    stand_ins: tuple[float, ...]
    true: float

    @classmethod
    def of(cls, line: dict[str, Any]) -> Remains:
        """Of a line of results."""
        firm = [each["outcome"] for each in line["stand_ins"] if each["firm"]]
        return cls(tuple(map(excess, firm)), excess(efficacy.strongest(line)))

    @property
    def promised(self) -> bool:
        """Whether every stand-in is gone, as ``--max-residual`` of a verdict counts it."""
        return bool(self.stand_ins) and max(self.stand_ins) <= CLAIMS.max_residual

    @property
    def kept(self) -> bool:
        """Whether the true trigger is gone."""
        return self.true <= CLAIMS.max_residual


def excess(outcome: dict[str, Any]) -> float:
    """Attack success over the floor [fraction]."""
    return float(outcome["attack_success_rate"]["value"] - outcome["floor"]["value"])


def table(results: list[dict[str, Any]]) -> str:
    """What the runs say together, then a row a run: what is left of each stand-in and of the true trigger."""
    rows = [
        "| suspect | seed | recipe | stand-ins left, points over the floor | true trigger left | clean accuracy % |",
        "|---|---|---|---|---|---|",
    ]
    for line in results:
        parts = [
            f"{each['form']} {100 * excess(each['outcome']):.1f}{'' if each['firm'] else ' (not firm)'}"
            for each in line["stand_ins"]
        ]
        accuracy = 100 * line["clean_accuracy"]["overall"]["value"]
        cells = [line["suspect"], str(line["seed"]), line["recipe"], ", ".join(parts)]
        rows.append(f"| {' | '.join(cells)} | {100 * Remains.of(line).true:.1f} | {accuracy:.1f} |")
    cleansed = [Remains.of(line) for line in results if line["recipe"] != PLANTED]
    return "\n".join([*said([each for each in cleansed if each.stand_ins]), "", *rows])


def said(remains: Sequence[Remains]) -> Iterator[str]:
    """Rank correlation over the runs with firm stand-ins, and how often their promise was false."""
    from scipy.stats import spearmanr

    means, true = [statistics.mean(each.stand_ins) for each in remains], [each.true for each in remains]
    if len(set(means)) > 1 and len(set(true)) > 1:
        found = spearmanr(means, true)
        yield f"rank correlation {found.statistic:.2f} (p {found.pvalue:.3f}) over {len(remains)} runs"
    promised = [each for each in remains if each.promised]
    false = sum(not each.kept for each in promised)
    missed = sum(each.kept and not each.promised for each in remains)
    yield f"stand-ins gone in {len(promised)} runs, in {false} of them the true trigger was not"
    yield f"stand-ins not gone in {len(remains) - len(promised)} runs, in {missed} of them the true trigger was"


if __name__ == "__main__":
    sys.exit(efficacy.run_plan(__doc__.splitlines()[0], planned, execute, table))
