from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from rora_cli.errors import TrainingError, UsageError
from rora_cli.training.adapters import attach
from rora_cli.training.loop import finetune
from rora_cli.training.regularisers import SubspacePenalty, clean_strengthened
from rora_cli.training.run import Stage, make_accelerator
from rora_cli.training.specs import AdapterSpec, RegulariserSpec, TrainSpec
from rora_cli.training.state import RunState, trainable
from tests.conftest import objective_of, tiny_rows

FAST = TrainSpec(epochs=2, batch_size=16, learning_rate=5e-3, seed=5)


def _train(tiny_model: Any, config: TrainSpec = FAST, *, spec: AdapterSpec | None = None, **options: Any) -> dict:
    import copy

    model, tokenizer = copy.deepcopy(tiny_model[0]), tiny_model[1]
    torch.manual_seed(config.seed)
    texts, labels = tiny_rows(64)
    adapted, layers = attach(model, spec or AdapterSpec(rank=4, alpha=8))
    penalty = SubspacePenalty(layers, RegulariserSpec(tr=1.0, tr_k=4)) if options.pop("penalised", False) else None
    accelerator = make_accelerator(config.precision, "cpu")
    with clean_strengthened(model, layers, options.pop("cl", 0.0)):
        objective = objective_of(adapted, tokenizer, texts, labels)
        finetune(adapted, objective, config, accelerator=accelerator, penalty=penalty, **options)
    return {name: p.detach().clone() for name, p in trainable(adapted).items()}


def _equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_same_seed_same_bits_other_seed_other_bits(tiny_model: Any) -> None:
    first = _train(tiny_model, cl=0.1, penalised=True)
    assert _equal(first, _train(tiny_model, cl=0.1, penalised=True))
    other = TrainSpec(**{**FAST.__dict__, "seed": 6})
    assert not _equal(first, _train(tiny_model, other, cl=0.1, penalised=True))


def test_training_learns_the_task(tiny_model: Any) -> None:
    model, tokenizer = tiny_model
    texts, labels = tiny_rows(192)
    config = TrainSpec(epochs=8, batch_size=16, learning_rate=3e-3)
    outcome = finetune(
        model, objective_of(model, tokenizer, texts, labels), config, accelerator=make_accelerator(device="cpu")
    )
    assert outcome.epochs[-1]["ce"] < 0.5 * outcome.epochs[0]["ce"]
    held_out, truth = tiny_rows(64, seed=9)
    logits = model(**tokenizer(held_out, padding=True, return_tensors="pt")).logits
    assert (logits.argmax(-1) == torch.tensor(truth)).float().mean() > 0.9


def test_probabilities_as_labels_are_learned_as_such(tiny_model: Any) -> None:
    from rora_cli.evaluation.inference import predict_logits

    model, tokenizer = tiny_model
    texts, labels = tiny_rows(192)
    config = TrainSpec(epochs=8, batch_size=16, learning_rate=3e-3)
    wanted = [[0.7, 0.3] if label == 0 else [0.3, 0.7] for label in labels]
    finetune(model, objective_of(model, tokenizer, texts, wanted), config, accelerator=make_accelerator(device="cpu"))
    answers = torch.softmax(torch.from_numpy(predict_logits(model, tokenizer, texts)), dim=1)
    assert (answers.argmax(1) == torch.tensor(labels)).float().mean() > 0.9
    assert 0.6 < float(answers.max(1).values.median()) < 0.8


def test_gradient_accumulation_gives_the_same_update(tiny_model: Any) -> None:
    still = AdapterSpec(rank=4, lora_dropout=0.0)
    for module in tiny_model[0].modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    whole = _train(tiny_model, spec=still, penalised=True)
    pieces = _train(tiny_model, TrainSpec(**{**FAST.__dict__, "micro_batch_size": 5}), spec=still, penalised=True)
    for name in whole:
        torch.testing.assert_close(whole[name], pieces[name], rtol=1e-3, atol=1e-5)


def test_gradient_checkpointing_gives_the_same_bits_with_dropout_and_cl(tiny_model: Any) -> None:
    checkpointed = TrainSpec(**{**FAST.__dict__, "gradient_checkpointing": True})
    plain, recomputed = _train(tiny_model, cl=0.2), _train(tiny_model, checkpointed, cl=0.2)
    for name in plain:
        torch.testing.assert_close(plain[name], recomputed[name], rtol=1e-4, atol=1e-6)


class _StopAt:
    """Interrupts training at a given optimizer step."""

    def __init__(self, step: int) -> None:
        self.left = step

    def penalty(self, inner: Any) -> Any:
        def call() -> Any:
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
            return inner()

        return call


@pytest.mark.parametrize("stop", [1, 3, 4, 6])
def test_resumed_ends_with_the_uninterrupted_bits(tiny_model: Any, tmp_path: Path, stop: int) -> None:
    import copy

    config = TrainSpec(**{**FAST.__dict__, "epochs": 2, "checkpoint_every": 1})
    texts, labels = tiny_rows(64)
    accelerator = make_accelerator(device="cpu")

    def run(state: RunState | None, stop_at: int | None) -> dict[str, torch.Tensor]:
        model = copy.deepcopy(tiny_model[0])
        torch.manual_seed(1)
        adapted, layers = attach(model, AdapterSpec(rank=4))
        penalty: Any = SubspacePenalty(layers, RegulariserSpec(tr=1.0, tr_k=4))
        if stop_at is not None:
            penalty = _StopAt(stop_at).penalty(penalty)
        with clean_strengthened(adapted, layers, 0.1):
            objective = objective_of(adapted, tiny_model[1], texts, labels)
            stage = Stage("train", state)
            finetune(adapted, objective, config, accelerator=accelerator, penalty=penalty, stage=stage)
        return {name: p.detach().clone() for name, p in trainable(adapted).items()}

    whole = run(None, None)
    directory = tmp_path / "state"
    with pytest.raises(KeyboardInterrupt):
        run(RunState(directory, {"run": 1}, resume=False), stop)
    assert {p.suffix for p in directory.rglob("*") if p.is_file()} <= {".safetensors", ".json"}
    resumed = RunState(directory, {"run": 1}, resume=True)
    assert _equal(whole, run(resumed, None))
    assert _equal(whole, run(RunState(directory, {"run": 1}, resume=True), 0)), "a finished stage is not trained again"


def test_a_state_of_another_run_or_a_changed_one_is_refused(tiny_model: Any, tmp_path: Path) -> None:
    state = RunState(tmp_path / "state", {"seed": 1, "model": "a"}, resume=False)
    _train(tiny_model, stage=Stage("train", state))
    with pytest.raises(TrainingError, match="seed"):
        RunState(tmp_path / "state", {"seed": 2, "model": "a"}, resume=True)
    saved = next((tmp_path / "state").rglob("state.safetensors"))
    saved.write_bytes(saved.read_bytes()[:-1] + b"\x01")
    with pytest.raises(TrainingError, match="changed since it was saved"):
        RunState(tmp_path / "state", {"seed": 1, "model": "a"}, resume=True).load("train")
    (tmp_path / "state" / "journal.json").write_text("[]")
    with pytest.raises(TrainingError, match="journal"):
        RunState(tmp_path / "state", {"seed": 1, "model": "a"}, resume=True)


def test_a_non_finite_loss_stops_training(tiny_model: Any) -> None:
    with torch.no_grad():
        tiny_model[0].classifier.bias[0] = float("inf")
    with pytest.raises(TrainingError, match="finite"):
        _train(tiny_model)


def test_bf16_trains_in_the_same_process_as_fp32_and_keeps_float32_weights(tiny_model: Any) -> None:
    exact = _train(tiny_model)
    mixed = _train(tiny_model, TrainSpec(**{**FAST.__dict__, "precision": "bf16"}))
    assert all(weight.dtype == torch.float32 and weight.isfinite().all() for weight in mixed.values())
    assert not _equal(exact, mixed)
    for name in exact:
        torch.testing.assert_close(exact[name], mixed[name], rtol=0.2, atol=0.02)
    assert _equal(exact, _train(tiny_model)), "nothing of bf16 is left"


def test_a_model_that_was_trained_in_bf16_takes_an_adapter_afterwards(tiny_model: Any) -> None:
    import copy

    model, tokenizer = copy.deepcopy(tiny_model[0]), tiny_model[1]
    texts, labels = tiny_rows(32)
    spec = TrainSpec(**{**FAST.__dict__, "precision": "bf16", "epochs": 1})
    for adapted in (model, attach(model, AdapterSpec(rank=4, alpha=8))[0]):
        finetune(
            adapted, objective_of(adapted, tokenizer, texts, labels), spec, accelerator=make_accelerator("bf16", "cpu")
        )
    assert "forward" not in model.__dict__ and not model.training
    logits = adapted(**tokenizer(texts, padding=True, return_tensors="pt"), return_dict=True).logits
    assert logits.dtype == torch.float32 and logits.isfinite().all()


def test_a_second_training_of_a_model_computes_in_bf16_too(tiny_model: Any) -> None:
    import copy

    model, tokenizer = copy.deepcopy(tiny_model[0]), tiny_model[1]
    texts, labels = tiny_rows(16)
    computed: list[torch.dtype] = []
    layer = next(module for module in model.modules() if isinstance(module, torch.nn.Linear))
    layer.register_forward_hook(lambda _module, _inputs, output: computed.append(output.dtype))
    spec = TrainSpec(**{**FAST.__dict__, "precision": "bf16", "epochs": 1})
    accelerator = make_accelerator("bf16", "cpu")
    for _ in range(2):
        finetune(model, objective_of(model, tokenizer, texts, labels), spec, accelerator=accelerator)
    assert set(computed) == {torch.bfloat16}


def test_fp16_on_a_cpu_is_refused() -> None:
    with pytest.raises(UsageError, match="fp16"):
        make_accelerator("fp16", "cpu")


@pytest.mark.parametrize(
    "options",
    [{"epochs": 0}, {"learning_rate": float("nan")}, {"batch_size": -1}, {"schedule": "step"}, {"warmup_ratio": 1.0}],
)
def test_bad_configs_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        TrainSpec(**options)
