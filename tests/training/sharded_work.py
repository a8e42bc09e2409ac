"""What each process of tests/training/test_sharding.py does; rank 0 writes what the test reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rora_cli.sharded import part
from rora_cli.training.adapters import AdaptedLayer, attach
from rora_cli.training.loop import finetune
from rora_cli.training.regularisers import SubspacePenalty, clean_strengthened
from rora_cli.training.rescaling import rescale_trained
from rora_cli.training.run import Stage, make_accelerator
from rora_cli.training.sharding import Sharding, gather_trained, shard
from rora_cli.training.specs import AdapterSpec, RegulariserSpec, RescalingSpec, TrainSpec
from rora_cli.training.state import RunState, trainable
from tests.conftest import objective_of, tiny_rows

ADAPTER = AdapterSpec(rank=4, alpha=8, lora_dropout=0.0, target_modules=("all-linear",))
#: Batches of ten rows in pieces of three: in two processes with five each, and the last batch with two.
TRAIN = TrainSpec(epochs=1, batch_size=10, micro_batch_size=3, learning_rate=1e-2, checkpoint_every=2, seed=5)


@dataclass(frozen=True)
class Work:
    """The directories of the models, by name, and where the weights are written."""

    models: dict[str, str]
    place: str


class Stop(Exception):
    """Where a run is interrupted."""


def loaded(directory: str) -> tuple[Any, Any]:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(directory, local_files_only=True)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    model.config.attention_dropout = 0.0
    return model, AutoTokenizer.from_pretrained(directory, local_files_only=True)


def adapted(directory: str, *, sharded: bool, precision: str = "no") -> tuple[Any, list[AdaptedLayer], Any]:
    model, tokenizer = loaded(directory)
    torch.manual_seed(1)
    model, layers = attach(model, ADAPTER)
    if sharded:
        shard(model, Sharding(), torch.device("cpu"), precision)
    return model, layers, tokenizer


def trained(
    directory: str,
    *,
    sharded: bool,
    precision: str = "no",
    cl: float = 0.0,
    state: RunState | None = None,
    stop: bool = False,
) -> tuple[Any, list[AdaptedLayer]]:
    """A model trained with Tr; with ``stop`` it is interrupted after its first saved state."""
    model, layers, tokenizer = adapted(directory, sharded=sharded, precision=precision)
    texts, labels = tiny_rows(42)
    calls = 0
    penalty = SubspacePenalty(layers, RegulariserSpec(tr=1.0, tr_k=4))

    def penalise() -> torch.Tensor:
        nonlocal calls
        calls += 1
        if stop and calls == 4:
            raise Stop
        return penalty()

    with clean_strengthened(model, layers, cl):
        finetune(
            model,
            objective_of(model, tokenizer, texts, labels),
            TRAIN,
            # A sharded model has a precision of its own.
            accelerator=make_accelerator("fp32", "cpu"),
            penalty=penalise,
            stage=Stage("train", state),
        )
    return model, layers


def rescaled(layers: list[AdaptedLayer]) -> dict[str, float]:
    """Pt at half of Eq. 12, without a guard; returns the factors."""
    from rora_cli.evaluation.accuracy import accuracy_of_predictions

    nothing = accuracy_of_predictions(torch.zeros(1).numpy(), [0], ("a", "b"))
    outcome = rescale_trained(layers, RescalingSpec(pt=0.5, pt_guard=False), lambda: nothing)
    return dict(outcome.factors)


def run(work: Work, progress: object) -> dict[str, Any]:
    """Everything, in each of two processes."""
    make_accelerator("fp32", "cpu")
    rank, place = torch.distributed.get_rank(), Path(work.place)
    found: dict[str, Any] = {"marks": marks(work.models["bert"], rank)}
    for name, directory in work.models.items():
        model, layers = trained(directory, sharded=True)
        keep(model, place / f"{name}.pt", rank)
        found[f"factors of {name}"] = rescaled(layers)
        keep(model, place / f"{name}-rescaled.pt", rank)
    found["resumed"] = resumes(work.models["bert"], place / "state", rank)
    model, _ = trained(work.models["llama"], sharded=True, precision="bf16")
    keep(model, place / "llama-bf16.pt", rank)
    found["dtypes"] = {(str(p.dtype), p.requires_grad) for p in model.parameters()}
    return found


def marks(directory: str, rank: int) -> dict[str, list[float]]:
    """Each process marks its part of lora_B and of the head with its number; the marks of each row gathered."""
    model, _, _ = adapted(directory, sharded=True)
    for parameter in trainable(model).values():
        part(parameter).fill_(rank + 1)
    gathered = gather_trained(model, keep=rank == 0)
    assert bool(gathered) == (rank == 0)
    return {name: tensor.reshape(len(tensor), -1)[:, 0].tolist() for name, tensor in gathered.items()}


def resumes(directory: str, place: Path, rank: int) -> bool:
    """Whether a run that was interrupted, and goes on, ends with the bits of one that was not; with Cl's masks."""
    states = [RunState(place / name, {"run": 1}, resume=False) for name in ("whole", "again")]
    model, _ = trained(directory, sharded=True, cl=0.2, state=states[0])
    expected = {name: part(p).clone() for name, p in trainable(model).items()}
    try:
        trained(directory, sharded=True, cl=0.2, state=states[1], stop=True)
        raise AssertionError("it was not interrupted")
    except Stop:
        torch.distributed.barrier()
    model, _ = trained(directory, sharded=True, cl=0.2, state=RunState(place / "again", {"run": 1}, resume=True))
    return all(torch.equal(part(p), expected[name]) for name, p in trainable(model).items())


def keep(model: Any, path: Path, rank: int) -> None:
    gathered = gather_trained(model, keep=rank == 0)
    if rank == 0:
        torch.save(gathered, path)
