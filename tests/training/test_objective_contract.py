"""What the training loop and every objective owe each other, for the classifier's objective and for made-up ones."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rora_cli.training.loop import finetune
from rora_cli.training.objective import Objective
from rora_cli.training.run import Stage, make_accelerator
from rora_cli.training.specs import TrainSpec
from rora_cli.training.state import RunState, trainable
from tests.causal import reply_objective, tiny_causal, tiny_exchanges
from tests.conftest import objective_of, tiny_rows

ROWS = 13
#: One optimizer step of all rows: its gradient is all that a run computes.
ONE_STEP = TrainSpec(epochs=1, batch_size=ROWS, learning_rate=1e-3)


class Sums:
    """Squared error of a linear model on rows of 1 to 4 numbers: each is a unit, as a response's tokens are."""

    def __init__(self, *, per_row: bool = False) -> None:
        generator = torch.Generator().manual_seed(0)
        self.numbers = [torch.randn(1 + row % 4, 3, generator=generator) for row in range(ROWS)]
        self.per_row, self.epochs = per_row, 0

    def __len__(self) -> int:
        return len(self.numbers)

    def start_epoch(self, epoch: int) -> list[int]:
        self.epochs += 1
        self.scale = 1.0 + epoch
        return [len(numbers) for numbers in self.numbers]

    def units(self, rows: Sequence[int]) -> int:
        return len(rows) if self.per_row else sum(len(self.numbers[row]) for row in rows)

    def loss(self, model: nn.Module, rows: Sequence[int]) -> Tensor:
        numbers = torch.cat([self.numbers[row] for row in rows or [0]])
        total = (self.scale * model(numbers) - 1.0).square().sum()
        return total if rows else total * 0.0


class Process:
    """One of several processes, as accelerate's handle shows it; it keeps its gradients instead of exchanging them."""

    device = torch.device("cpu")

    def __init__(self, index: int, processes: int) -> None:
        self.process_index, self.num_processes, self.is_main_process = index, processes, index == 0
        self.gradients: list[Tensor] = []

    def prepare(self, *things: Any) -> Any:
        return things

    def no_sync(self, _model: nn.Module) -> Any:
        return torch.enable_grad()

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def clip_grad_norm_(self, parameters: list[nn.Parameter], _norm: float) -> None:
        assert all(p.grad is not None for p in parameters), "a process without rows has a gradient too"
        self.gradients = [p.grad.clone() for p in parameters]  # type: ignore[union-attr]

    def wait_for_everyone(self) -> None: ...

    def unwrap_model(self, model: nn.Module, **_: Any) -> nn.Module:
        return model

    def free_memory(self) -> None: ...


Sample = tuple[nn.Module, Callable[[], Objective]]


@pytest.fixture(params=["classifier", "classifier, soft answers", "made up", "made up, by row", "causal"])
def sample(request: pytest.FixtureRequest, tiny_model: Any, tmp_path: Path) -> Sample:
    if request.param == "causal":
        model, tokenizer = tiny_causal(tmp_path / "causal")
        return model, lambda: reply_objective(model, tokenizer, *tiny_exchanges(ROWS))
    if request.param.startswith("made up"):
        torch.manual_seed(0)
        return nn.Linear(3, 1), lambda: Sums(per_row=request.param.endswith("row"))
    model, tokenizer = tiny_model
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # each process draws its own masks
    texts, labels = tiny_rows(ROWS)
    answers: Any = [[0.8, 0.2] if label else [0.4, 0.6] for label in labels] if "soft" in request.param else labels
    return model, lambda: objective_of(model, tokenizer, texts, answers)


def gradient(sample: Sample, processes: int, micro_batch_size: int | None) -> list[Tensor]:
    """Of one global batch: the mean over the processes, as DDP takes it."""
    spec = TrainSpec(**{**ONE_STEP.__dict__, "micro_batch_size": micro_batch_size})
    ranks = [Process(index, processes) for index in range(processes)]
    for rank in ranks:
        model = copy.deepcopy(sample[0])
        first = next(model.parameters())
        finetune(model, sample[1](), spec, accelerator=rank, penalty=lambda p=first: p.square().sum())  # type: ignore[misc]
    return [torch.stack(parts).mean(dim=0) for parts in zip(*(rank.gradients for rank in ranks), strict=True)]


@pytest.mark.parametrize(
    ("processes", "micro_batch_size"), [(1, None), (1, 1), (2, 3), (3, None), (3, 1), (ROWS + 2, None)]
)
def test_the_gradient_of_a_batch_is_the_same_however_it_is_divided(
    sample: Sample, processes: int, micro_batch_size: int | None
) -> None:
    """Over units, with the penalty once; the last case has processes without a row."""
    model, objective = copy.deepcopy(sample[0]), sample[1]()
    lengths = objective.start_epoch(0)
    assert len(lengths) == len(objective) == ROWS and all(length > 0 for length in lengths)
    model.train()
    rows = list(range(ROWS))
    mean = objective.loss(model, rows) / objective.units(rows)
    (mean + next(model.parameters()).square().sum()).backward()
    for expected, got in zip(model.parameters(), gradient(sample, processes, micro_batch_size), strict=True):
        torch.testing.assert_close(got, expected.grad, rtol=1e-3, atol=1e-5)


def test_units_and_losses_of_parts_add_up_and_no_rows_are_zero_with_a_gradient(sample: Sample) -> None:
    model, objective = sample[0], sample[1]()
    objective.start_epoch(0)
    parts = [[0, 1], [2], list(range(3, ROWS))]
    assert sum(objective.units(part) for part in parts) == objective.units(range(ROWS)) > 0
    losses = [objective.loss(model, part) for part in parts]
    assert all(loss.shape == () and loss.item() > 0 for loss in losses)
    torch.testing.assert_close(torch.stack(losses).sum(), objective.loss(model, list(range(ROWS))))
    nothing = objective.loss(model, [])
    nothing.backward()
    assert nothing.item() == 0.0 and objective.units([]) == 0
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())


@pytest.mark.parametrize("stop", [1, 4, 5, 7])
def test_resumed_ends_with_the_uninterrupted_bits(sample: Sample, tmp_path: Path, stop: int) -> None:
    spec = TrainSpec(epochs=2, batch_size=4, learning_rate=1e-2, checkpoint_every=1)
    accelerator = make_accelerator(device="cpu")

    def trained(state: RunState | None, steps: int | None) -> dict[str, Tensor]:
        model, left = copy.deepcopy(sample[0]), iter(range(10**6 if steps is None else steps))

        def penalty() -> Tensor:
            if next(left, None) is None:
                raise KeyboardInterrupt
            return torch.zeros(())

        finetune(model, sample[1](), spec, accelerator=accelerator, penalty=penalty, stage=Stage("train", state))
        return {name: p.detach().clone() for name, p in trainable(model).items()}

    whole = trained(None, None)
    with pytest.raises(KeyboardInterrupt):
        trained(RunState(tmp_path / "state", {}, resume=False), stop)
    for steps in (None, 0):  # and a finished stage is not trained again
        resumed = trained(RunState(tmp_path / "state", {}, resume=True), steps)
        assert resumed.keys() == whole.keys() and all(torch.equal(resumed[name], whole[name]) for name in whole)


def test_an_epoch_is_started_once_and_texts_are_transformed_anew_in_each(tiny_model: Any) -> None:
    objective = Sums()
    torch.manual_seed(0)
    spec = TrainSpec(epochs=3, batch_size=4)
    finetune(nn.Linear(3, 1), objective, spec, accelerator=make_accelerator(device="cpu"))
    assert objective.epochs == 3
    seen: list[tuple[int, int]] = []

    def longer(text: str, row: int, epoch: int) -> str:
        seen.append((row, epoch))
        return " ".join([text, *["film"] * epoch])

    model, tokenizer = tiny_model
    changing: Any = objective_of(model, tokenizer, ["a good film", "bad"], [1, 0], transform=longer)
    assert [changing.start_epoch(epoch) for epoch in (0, 2)] == [[5, 3], [7, 5]]
    assert seen == [(0, 0), (1, 0), (0, 2), (1, 2)]
    assert objective_of(model, tokenizer, ["a " * 99], [1]).start_epoch(0) == [64], "cut to the subject's limit"
