"""What the processes of a run share: a value of one, a work of all, and the journal of a run that goes on."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from rora_cli.evaluation.scoring import SharedScorer
from rora_cli.ranks import Share
from rora_cli.training.run import Run, make_accelerator
from rora_cli.training.state import RunState

ALONE: Any = SimpleNamespace(num_processes=1, is_main_process=True, process_index=0)


def test_a_work_of_all_is_done_once_and_then_known(tmp_path: Path) -> None:
    run = Run(ALONE, RunState(tmp_path / "state", {"run": 1}, resume=False))
    asked: list[int] = []
    for _ in range(2):
        assert run.recall_together("search 1", lambda: asked.append(1) or {"found": []}) == {"found": []}
    assert len(asked) == 1
    resumed = Run(ALONE, RunState(tmp_path / "state", {"run": 1}, resume=True))
    assert resumed.recall_together("search 1", lambda: {"found": ["other"]}) == {"found": []}
    assert Run(ALONE).recall_together("search 1", lambda: {"found": [1]}) == {"found": [1]}, "without a state"


class Model:
    """Log-probabilities that tell the sequence, and a count of what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, ...]] = []

    @property
    def forward_tokens(self) -> int:
        return sum(map(len, self.asked))

    def log_probabilities(self, sequences: Any) -> np.ndarray:
        self.asked += [tuple(ids) for ids in sequences]
        return np.array([[ids[0], len(ids)] for ids in sequences], dtype=np.float32).reshape(len(sequences), 2)


def test_shared_scores_are_those_of_one_and_each_process_does_a_part() -> None:
    """Three processes in one: what each hands over is collected first, then all get all."""
    sequences = [(i, *range(i % 5)) for i in range(60)]
    whole, models = Model().log_probabilities(sequences), [Model() for _ in range(3)]
    handed: list[Any] = []

    def first(value: Any) -> list[Any]:
        handed.append(value)
        raise InterruptedError

    for rank, model in enumerate(models):
        with suppress(InterruptedError):
            SharedScorer(model, Share(rank, 3, first)).log_probabilities(sequences)
    scorers = [SharedScorer(Model(), Share(rank, 3, lambda value: handed)) for rank in range(3)]
    for scorer in scorers:
        np.testing.assert_array_equal(scorer.log_probabilities(sequences), whole)
        assert scorer.forward_tokens == sum(map(len, sequences))
    assert sorted(ids for model in models for ids in model.asked) == sorted(sequences), "each once"
    assert all(8 <= len(model.asked) <= 32 for model in models)
    again = Model()
    with suppress(InterruptedError):
        SharedScorer(again, Share(1, 3, first)).log_probabilities(sequences[::-1])
    assert set(again.asked) == set(models[1].asked), "who scored a sequence is asked again"


@pytest.mark.parametrize(
    ("instruction", "mixed"), [("_is_avx512_bf16_supported", "bf16"), ("_is_amx_tile_supported", "bf16"), (None, "no")]
)
def test_auto_is_bf16_on_processors_that_compute_in_it(
    monkeypatch: pytest.MonkeyPatch, instruction: str | None, mixed: str
) -> None:
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda name=name: name == instruction, raising=False)
    accelerator = make_accelerator("auto", "cpu")
    assert accelerator.mixed_precision == mixed
    layer, row = torch.nn.Linear(2, 2), torch.ones(1, 2)
    with torch.inference_mode(), Run(accelerator).rough():
        assert layer(row).dtype == (torch.bfloat16 if mixed == "bf16" else torch.float32)
    assert layer(row).dtype == torch.float32
