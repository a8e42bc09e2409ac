"""A bench without a language model: its task answers as a test says, and its training is only recorded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn

from rora_cli.data.rows import Rows
from rora_cli.defences.bench import Bench
from rora_cli.defences.config import PurifyConfig
from rora_cli.defences.default.escalation import Donor, Replaced, Surgery
from rora_cli.defences.default.lesson_plan import Course
from rora_cli.defences.gauge import Gauge
from rora_cli.evaluation.accuracy import accuracy_of_predictions
from rora_cli.results.accuracy import CleanAccuracy, Proportion
from rora_cli.results.purify import StageRecord
from rora_cli.subject import Subject
from rora_cli.tasks.classification.thresholds import CALLS, CLAIMS
from rora_cli.tasks.thresholds import CallThresholds, ClaimThresholds
from rora_cli.training.run import Run
from tests.tasks.made_up import MADE_UP, WordTokenizer

ROWS = Rows(("a fine film", "a dull film with lights", "quiet and plain"), (1, 0, 1))


def accuracy(right: int) -> CleanAccuracy:
    """``right`` of 100 rows."""
    share = Proportion(right, 100, 0.0, 1.0)
    return CleanAccuracy(share, {"no": share})


@dataclass(frozen=True)
class FakeTask:
    """Two behaviours, no and yes.

    Attributes:
        says_yes: whether the model shows yes on a text.
        quality_of: the clean accuracy of a model; without it, that of ``says_yes``.
        asked: the texts that ``answers`` was asked about.
    """

    says_yes: Callable[[str], bool] = lambda text: False
    quality_of: Callable[[nn.Module], CleanAccuracy] | None = None
    asked: list[str] = field(default_factory=list)
    correction: None = None
    kind: Any = MADE_UP
    calls: CallThresholds = CALLS
    claims: ClaimThresholds = CLAIMS

    @property
    def behaviours(self) -> tuple[Any, ...]:
        return tuple(SimpleNamespace(name=name) for name in ("no", "yes"))

    def carriers(self, rows: Rows, behaviour: int) -> list[int]:
        return [row for row, label in enumerate(rows.labels) if label != behaviour]

    def shows(self, subject: Subject, texts: Sequence[str], *, meter: Any = None) -> np.ndarray:
        return np.array([[not self.says_yes(text), self.says_yes(text)] for text in texts])

    def quality(self, subject: Subject, rows: Rows, *, shown: np.ndarray | None = None) -> CleanAccuracy:
        if self.quality_of is not None:
            return self.quality_of(subject.model)
        return accuracy_of_predictions(self.shows(subject, rows.texts).argmax(axis=1), rows.labels, ("no", "yes"))

    def answers(self, subject: Subject, texts: Sequence[str]) -> np.ndarray:
        """The softmax of logits 2 and 0: yes for texts of at most two words."""
        self.asked.extend(texts)
        logits = [[2.0, 0.0] if len(text.split()) > 2 else [0.0, 2.0] for text in texts]
        return torch.softmax(torch.tensor(logits, dtype=torch.float64), dim=1).numpy()

    def objective(
        self, subject: Subject, texts: Sequence[str], answers: Sequence[Any], *, transform: Any = None
    ) -> Any:
        return SimpleNamespace(texts=texts, answers=answers, transform=transform)


@dataclass
class FakeBench(Bench):
    """``on_train`` stands for what a training does to the model; ``trainings`` are the keywords of each."""

    on_train: Callable[[nn.Module], None] = lambda model: None
    trainings: list[dict[str, Any]] = field(default_factory=list)

    def train(self, model: nn.Module, layers: Sequence[Any], **options: Any) -> None:  # type: ignore[override]
        self.trainings.append(options)
        with torch.no_grad():
            self.on_train(model)
        self.run.record(options["stage"], 1.0)

    @property
    def stages(self) -> list[StageRecord]:
        return self.run.stages


def fake_bench(
    model: nn.Module | None = None, task: FakeTask | None = None, rows: Rows = ROWS, **options: Any
) -> FakeBench:
    """A bench of one process on a CPU, in which the suspect is already measured; ``options`` are those of purify."""
    config = PurifyConfig(model="suspect", clean="rows", **options)
    task = task or FakeTask()
    subject = Subject(model or nn.Linear(2, 2), WordTokenizer(2), MADE_UP, max_length=16)
    accelerator = SimpleNamespace(
        num_processes=1, is_main_process=True, device=torch.device("cpu"), mixed_precision="no"
    )
    run = Run(accelerator)
    gauge = Gauge(task, subject, rows, config.allowed_drop, run)  # type: ignore[arg-type]
    gauge.start()
    return FakeBench(subject, task, rows, gauge, run, config, config.settings())  # type: ignore[arg-type]


class FakeSurgery(Surgery):
    """Replaces as many blocks of four as the test says, or mixes a student in, and remembers what it was asked for."""

    def __init__(self, replaced: Mapping[str, int], mixed: bool = False) -> None:
        self.replaced, self.mixed = replaced, mixed
        self.seen: list[Any] = []

    def count_blocks(self) -> int:
        return 4

    def replace_upper(self, course: Course, fractions: Any, donor: Donor | None = None) -> Replaced:
        name = donor.name if donor else "drawn"
        self.seen.append((name, course.texts, tuple(fractions)))
        return Replaced(self.replaced.get(name, 0), {})

    def mix_in(self, ancestor: Mapping[str, torch.Tensor], name: str, excess_left: Any, share: float = 0.0) -> bool:
        self.seen.append(name)
        return self.mixed

    def teach_on(self, course: Course) -> None:
        self.seen.append(course.texts)
