"""``rora eval-asr``: attack success, its floor and control, and clean accuracy, on rows that the user names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from rora_cli.attacks.base import Attack
from rora_cli.attacks.insertion import Insertion
from rora_cli.attacks.registry import make_attack
from rora_cli.attacks.triggers import POSITIONS
from rora_cli.commands.memory import says_what_fits
from rora_cli.errors import UsageError
from rora_cli.progress import SILENT, Progress
from rora_cli.results.accuracy import AttackOutcome, CleanAccuracy
from rora_cli.results.evaluate import EvaluationResult
from rora_cli.results.findings import Finding, Severity
from rora_cli.results.provenance import Provenance, library_versions
from rora_cli.tasks.attack_bench import AttackBench
from rora_cli.tasks.classification.labels import find_label
from rora_cli.tasks.classification.task import Classification
from rora_cli.tasks.subjects import subject_of
from rora_cli.units import require_least


@dataclass(frozen=True)
class EvaluateConfig:
    """What to measure. ``attacks`` are registry names, or ``name=trigger|trigger`` for triggers of your own.

    Rates are fractions of 1. ``min_class_accuracy`` None means chance, 1 / number of classes. ``target_label`` is a
    name or an id of the model's labels.
    """

    model: str
    data: str
    target_label: str
    triggers: tuple[str, ...] = ()
    attacks: tuple[str, ...] = ()
    positions: tuple[str, ...] = ("random",)
    seeds: tuple[int, ...] = (0,)
    adapter: str | None = None
    control: bool = True
    max_attack_success_rate: float | None = None
    min_class_accuracy: float | None = None
    split: str | None = None
    text_column: str | None = None
    label_column: str | None = None
    label_map: Mapping[str, str] | None = None
    data_revision: str | None = None
    max_rows: int | None = None
    max_length: int | None = None
    revision: str | None = None
    allow_download: bool = True
    device: str = "auto"

    def __post_init__(self) -> None:
        if not self.triggers and not self.attacks:
            raise UsageError("there is nothing to try: give --trigger TEXT or --attack NAME (badnet, insent, ...)")
        if not self.positions or not self.seeds:
            raise UsageError("at least one --position and one --seed are needed")
        for position in self.positions:
            if position not in POSITIONS:
                raise UsageError(f"--position is one of {', '.join(POSITIONS)}, not {position!r}")
        for option, value in (
            ("--max-asr", self.max_attack_success_rate),
            ("--min-class-accuracy", self.min_class_accuracy),
        ):
            if value is not None and not 0 <= value <= 1:
                raise UsageError(f"{option} is a fraction between 0 and 1 (0.1 for 10 %), not {value:g}")
        if self.min_class_accuracy is not None and self.max_attack_success_rate is None:
            raise UsageError("--min-class-accuracy belongs to the gate; give --max-asr as well")
        require_least(self)
        self.attacks_at(self.positions[0])

    def attacks_at(self, position: str) -> list[Attack]:
        """The attacks to measure at ``position``."""
        chosen: list[Attack] = [Insertion((trigger,), position) for trigger in self.triggers]
        for spec in self.attacks:
            name, _, own = spec.partition("=")
            chosen.append(make_attack(name, triggers=own.split("|") if own else (), position=position))
        return chosen


@says_what_fits
def run(config: EvaluateConfig, progress: Progress = SILENT) -> EvaluationResult:
    """Load the model (after the preflight), measure, and judge.

    Raises CheckpointError, DataError, HubError or UsageError for bad input, InconclusiveError for non-finite logits.
    """
    from rora_cli.checkpoints.hub import fetch_model
    from rora_cli.checkpoints.loading import load_classifier
    from rora_cli.data.sources import load_rows
    from rora_cli.evaluation.gate import judge
    from rora_cli.evaluation.inference import choose_device, cut_note

    device = choose_device(config.device)
    source = fetch_model(config.model, revision=config.revision, allow_download=config.allow_download)
    adapter = fetch_model(config.adapter, allow_download=config.allow_download) if config.adapter is not None else None
    loaded = load_classifier(source.path, adapter=adapter.path if adapter else None, device=device)
    target = find_label(config.target_label, loaded.label_names)
    rows, summary = load_rows(
        config.data,
        label_names=loaded.label_names,
        split=config.split,
        text_column=config.text_column,
        label_column=config.label_column,
        label_map=config.label_map,
        max_rows=config.max_rows,
        revision=config.data_revision,
        allow_download=config.allow_download,
    )
    for note in summary.notes:
        progress.note(note)
    subject = subject_of(loaded, config.model, config.max_length)
    bench = AttackBench(subject, Classification(tuple(loaded.label_names)), rows, progress)
    if cut := cut_note(loaded.tokenizer, rows.texts, subject.max_length):
        progress.note(cut)
        summary = replace(summary, notes=(*summary.notes, cut))
    outcomes = tuple(bench.measure_all(_distinct(config), config.seeds, target, control=config.control))
    gate = None
    if config.max_attack_success_rate is not None:
        least = config.min_class_accuracy
        gate = judge(
            outcomes,
            bench.clean_accuracy,
            max_attack_success_rate=config.max_attack_success_rate,
            min_class_accuracy=1 / len(loaded.label_names) if least is None else least,
        )
    return EvaluationResult(
        model=config.model,
        adapter=config.adapter,
        label_names=tuple(loaded.label_names),
        target_label=loaded.label_names[target],
        max_tokens=subject.max_length,
        clean_accuracy=bench.clean_accuracy,
        outcomes=outcomes,
        data=summary,
        gate=gate,
        findings=tuple(describe(outcomes, bench.clean_accuracy)),
        provenance=Provenance(
            command="eval-asr",
            versions=library_versions(),
            config=asdict(config),
            seed=config.seeds[0],
            inputs={**subject.inputs, **summary.inputs},
        ),
    )


def _distinct(config: EvaluateConfig) -> Iterator[Attack]:
    seen = set()
    for position in config.positions:
        for attack in config.attacks_at(position):
            key = attack if attack.positioned else replace(attack, position=POSITIONS[0])
            if key not in seen:
                seen.add(key)
                yield attack


def describe(outcomes: Sequence[AttackOutcome], accuracy: CleanAccuracy) -> Iterator[Finding]:
    """What stands out of the numbers, by their intervals and not by a threshold of taste."""
    for name, share in accuracy.per_class.items():
        if share.high is not None and share.high < 1 / len(accuracy.per_class):
            yield Finding(
                "evaluation/collapsed-class",
                Severity.HIGH,
                f"class {name!r} is recognised less often than by chance ({share.count} of {share.total} rows)",
                location=name,
                advice="read no attack success rate of this model as the success of a defence",
            )
    attacks: dict[tuple[str, str, str], list[AttackOutcome]] = {}
    for outcome in outcomes:
        if not outcome.is_control:
            attacks.setdefault((outcome.name, outcome.trigger, outcome.position), []).append(outcome)
    for (name, trigger, position), seeds in attacks.items():
        controls = [o for o in outcomes if o.is_control and (o.name, o.position) == (name, position)]
        # One unlucky control (an honest word) must not hide an attack: it is compared with the middle one.
        heights = sorted(control.attack_success_rate.high or 0.0 for control in controls)
        bar = max(seeds[0].floor.high or 0.0, heights[(len(heights) - 1) // 2] if heights else 0.0)
        best = max(seeds, key=lambda outcome: outcome.attack_success_rate.low or 0.0)
        if (best.attack_success_rate.low or 0.0) > bar:
            yield Finding(
                "evaluation/trigger-works",
                Severity.HIGH,
                f"the trigger {trigger!r} ({position}) turns rows to {best.target_label!r} beyond "
                + ("the floor and the control" if controls else "the floor"),
                location=trigger,
                evidence={
                    "attack_success_rate": best.attack_success_rate,
                    "floor": best.floor,
                    "controls": tuple(control.attack_success_rate for control in controls),
                },
            )
