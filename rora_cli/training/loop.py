"""The training loop: accelerate's, for one process or many, on rows of text with a label each."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from rora_cli.errors import RoraError, TrainingError, UsageError
from rora_cli.progress import SILENT, Progress, Task
from rora_cli.training.batches import epoch_batches, micro_batches, rank_share, steps_per_epoch
from rora_cli.training.launch import only_data_parallel
from rora_cli.training.specs import TrainSpec
from rora_cli.training.state import RunState, restore, take_snapshot

#: (text of a row, its index, epoch) -> the text to train on: how hardening puts triggers into clean rows.
RowTransform = Callable[[str, int, int], str]
#: Called on the bare model, in eval mode, after the last epoch; what it returns is kept with it and shown.
Evaluate = Callable[[nn.Module], Mapping[str, Any]]


@dataclass(frozen=True)
class TrainOutcome:
    """``seconds`` counts training steps only, not evaluation; ``epochs`` has each one's losses, and last the scores."""

    steps: int
    seconds: float
    epochs: tuple[Mapping[str, Any], ...] = field(default_factory=tuple)


def make_accelerator(precision: str = "fp32", device: str = "auto") -> Any:
    """The process's accelerate handle; ``device`` is ``auto``, ``cpu`` or ``cuda``. Raises UsageError without one."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import DistributedType, InitProcessGroupKwargs

    on_cpu = device == "cpu" or not (torch.cuda.is_available() or torch.backends.mps.is_available())
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError("--device cuda was asked for, but torch sees no CUDA device; use --device cpu")
    if on_cpu and precision == "fp16":
        raise UsageError("fp16 training needs a GPU; use --precision bf16 or fp32 on a CPU")
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if not on_cpu and torch.cuda.is_available() and local >= torch.cuda.device_count():
        raise UsageError(
            f"process {local} of this machine (counted from 0) needs a GPU of its own, and torch sees "
            f"{torch.cuda.device_count()}; start as many processes as there are GPUs, or use --device cpu"
        )
    if not torch.distributed.is_initialized():
        # accelerate keeps one state a process, and refuses a second run of another precision or device.
        AcceleratorState._reset_state(reset_partial_state=True)
    # The main process may search or evaluate alone for long while the others wait for it.
    patience = InitProcessGroupKwargs(timeout=timedelta(hours=12))
    mixed = "no" if precision == "fp32" else precision
    accelerator = Accelerator(mixed_precision=mixed, cpu=on_cpu, kwargs_handlers=[patience])
    known = {DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU}
    if accelerator.distributed_type not in known:
        raise UsageError(only_data_parallel("accelerate", accelerator.distributed_type.value))
    return accelerator


def on_main(accelerator: Any, compute: Callable[[], Any]) -> Any:
    """``compute()`` on the main process, its result, or the RoraError that it raises, on every process."""
    if accelerator.num_processes == 1:
        return compute()
    outcome: list[Any] = [None, None]
    if accelerator.is_main_process:
        try:
            outcome[0] = compute()
        except RoraError as error:
            outcome[1] = error
    torch.distributed.broadcast_object_list(outcome, src=0)
    if outcome[1] is not None:
        raise outcome[1]
    return outcome[0]


def finetune(
    model: nn.Module,
    tokenizer: Any,
    texts: Sequence[str],
    labels: Sequence[int] | Sequence[Sequence[float]],
    config: TrainSpec,
    *,
    accelerator: Any | None = None,
    penalty: Callable[[], Tensor] | None = None,
    transform: RowTransform | None = None,
    evaluate: Evaluate | None = None,
    state: RunState | None = None,
    stage: str = "train",
    progress: Progress = SILENT,
) -> TrainOutcome:
    """Train the trainable parameters of ``model`` in place on cross-entropy plus ``penalty()``.

    ``labels`` are class ids [n] or probabilities [n, classes].

    Every process must call this with the same arguments. The gradient of a global batch is the mean over its rows, for
    any number of processes and accumulation steps. With ``state``, a finished stage is restored instead of trained,
    and an unfinished one goes on from its last snapshot. Raises TrainingError when a loss is not finite.
    """
    accelerator = accelerator or make_accelerator(config.precision)
    run = _Run(model, tokenizer, texts, labels, config, accelerator, penalty, transform, evaluate, state, stage)
    try:
        return run.train(progress)
    finally:
        run.close()


class _Run:
    """The state of one call to ``finetune``."""

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        texts: Sequence[str],
        labels: Sequence[int] | Sequence[Sequence[float]],
        config: TrainSpec,
        accelerator: Any,
        penalty: Callable[[], Tensor] | None,
        transform: RowTransform | None,
        evaluate: Evaluate | None,
        state: RunState | None,
        stage: str,
    ) -> None:
        self.bare, self.tokenizer, self.texts, self.labels = model, tokenizer, texts, labels
        self.config, self.accelerator, self.penalty = config, accelerator, penalty
        self.transform, self.evaluate, self.state, self.stage = transform, evaluate, state, stage
        self.total_steps = config.epochs * steps_per_epoch(len(texts), config.batch_size)
        self.history: list[Mapping[str, Any]] = []
        self.seconds = 0.0
        self.encoded: list[list[int]] = []
        torch.manual_seed(config.seed * 1_000_003 + accelerator.process_index)
        if config.gradient_checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        model.to(accelerator.device).train()
        self.model, self.optimizer = accelerator.prepare(model, _adamw(model, config))
        self.schedule = torch.optim.lr_scheduler.LambdaLR(_inner(self.optimizer), self._rate)

    def _rate(self, step: int) -> float:
        """The learning rate's share at ``step``: warm-up, then linear or cosine to 0, or constant."""
        warmup = int(self.config.warmup_ratio * self.total_steps)
        if step < warmup:
            return (step + 1) / warmup
        done = (step - warmup) / max(self.total_steps - warmup, 1)
        if self.config.schedule == "cosine":
            return 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
        return max(0.0, 1 - done) if self.config.schedule == "linear" else 1.0

    def train(self, progress: Progress) -> TrainOutcome:
        start = self._resume()
        per_epoch = steps_per_epoch(len(self.texts), self.config.batch_size)
        step = start
        with progress.phase(self.stage, self.total_steps) as task:
            if start:
                task.advance(start)
            for epoch in range(start // per_epoch, self.config.epochs):
                skip = step - epoch * per_epoch
                step = self._epoch(epoch, step, skip, task)
                self._finish_epoch(epoch, step, task)
        return TrainOutcome(step, self.seconds, tuple(self.history))

    def _epoch(self, epoch: int, step: int, skip: int, task: Task) -> int:
        self._encode(epoch)
        lengths = [len(ids) for ids in self.encoded]
        batches = epoch_batches(lengths, self.config.batch_size, seed=self.config.seed, epoch=epoch)
        # Losses stay on the device until they are shown: reading one every step would stall a GPU.
        seen: list[dict[str, Tensor]] = []
        began = perf_counter()
        for batch in batches[skip:]:
            seen.append(self._step(batch, step))
            step += 1
            shown = {} if step % 10 and step % len(batches) else self._shown(seen, step)
            task.advance(1, **shown)
            every = self.config.checkpoint_every
            if every and step % every == 0 and step % len(batches):
                self.seconds += perf_counter() - began
                self._save(step)
                began = perf_counter()
        self.seconds += perf_counter() - began
        self._epoch_losses = {name: sum(float(s[name]) for s in seen) / len(seen) for name in seen[0]} if seen else {}
        return step

    def _shown(self, seen: list[dict[str, Tensor]], step: int) -> dict[str, float | str]:
        parts: dict[str, float | str] = {name: float(value) for name, value in seen[-1].items()}
        if not all(math.isfinite(v) for v in parts.values() if isinstance(v, float)):
            raise TrainingError(
                f"the loss became non-finite at step {step} of {self.stage} (parts: {parts}); lower --learning-rate or "
                "--tr, or use --precision fp32"
            )
        return parts

    def _step(self, batch: Sequence[int], step: int) -> dict[str, Tensor]:
        """One optimizer step on one global batch; returns the loss parts of this process's share."""
        processes = self.accelerator.num_processes
        share = rank_share(batch, self.accelerator.process_index, processes)
        pieces = micro_batches(share, self.config.micro_batch_size)
        parts: dict[str, Tensor] = {}
        for number, piece in enumerate(pieces):
            last = number == len(pieces) - 1
            with self._synchronised(last):
                # DDP averages over processes: weighting by rows makes that the mean over the global batch.
                loss = self._cross_entropy(piece) * (processes / len(batch))
                parts["ce"] = parts.get("ce", 0.0) + loss.detach()
                if last and self.penalty is not None:
                    extra = self.penalty()
                    parts["tr"] = extra.detach()
                    loss = loss + extra
                self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self._trainable(), self.config.max_grad_norm)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()
        return parts

    def _trainable(self) -> list[nn.Parameter]:
        return [p for p in self.model.parameters() if p.requires_grad]

    def _cross_entropy(self, rows: Sequence[int]) -> Tensor:
        """The summed cross-entropy of some rows; a process without a row in a small last batch adds a zero."""
        used = rows or [0]
        batch = self._collate([self.encoded[i] for i in used])
        targets = torch.tensor([self.labels[i] for i in used], device=self.accelerator.device)
        total = functional.cross_entropy(self.model(**batch).logits.float(), targets, reduction="sum")
        return total if rows else total * 0.0

    def _collate(self, sequences: list[list[int]]) -> Mapping[str, Tensor]:
        padded = self.tokenizer.pad({"input_ids": sequences}, padding="longest", return_tensors="pt")
        return {key: value.to(self.accelerator.device) for key, value in padded.items()}

    def _synchronised(self, last: bool) -> AbstractContextManager[Any]:
        return nullcontext() if last else self.accelerator.no_sync(self.model)

    def _encode(self, epoch: int) -> None:
        if self.encoded and self.transform is None:
            return
        texts = self.texts
        if self.transform is not None:
            texts = [self.transform(text, i, epoch) for i, text in enumerate(texts)]
        self.encoded = self.tokenizer(
            list(texts), truncation=True, max_length=self.config.max_length, return_attention_mask=False
        )["input_ids"]

    def _finish_epoch(self, epoch: int, step: int, task: Task) -> None:
        entry: dict[str, Any] = {"epoch": epoch + 1, **self._epoch_losses}
        if bad := [name for name, value in self._epoch_losses.items() if not math.isfinite(value)]:
            raise TrainingError(
                f"the loss ({', '.join(bad)}) was not finite in epoch {epoch + 1} of {self.stage}; lower "
                "--learning-rate or --tr, or use --precision fp32"
            )
        last = epoch + 1 == self.config.epochs
        if last and self.evaluate is not None and self.accelerator.is_main_process:
            self.bare.eval()
            entry |= self.evaluate(self.bare)
            self.bare.train()
            task.advance(0, **{k: v for k, v in entry.items() if isinstance(v, float | str)})
        self.accelerator.wait_for_everyone()
        self.history.append(entry)
        self._save(step)

    def _random_states(self) -> dict[str, Tensor]:
        """Every process's random states, known to the main process."""
        mine = {"cpu": torch.get_rng_state()}
        if self.accelerator.device.type == "cuda":
            mine["cuda"] = torch.cuda.get_rng_state(self.accelerator.device)
        if self.accelerator.num_processes == 1:
            everyone = [mine]
        else:
            everyone = [{} for _ in range(self.accelerator.num_processes)]
            torch.distributed.all_gather_object(everyone, mine)
        return {f"{rank}/{kind}": state for rank, states in enumerate(everyone) for kind, state in states.items()}

    def _save(self, step: int) -> None:
        if self.state is None:
            return
        states = self._random_states()
        if self.accelerator.is_main_process:
            meta = {"step": step, "total": self.total_steps, "seconds": self.seconds, "history": list(self.history)}
            self.state.save(self.stage, take_snapshot(self.bare, _inner(self.optimizer), states, meta))
        self.accelerator.wait_for_everyone()

    def _resume(self) -> int:
        snapshot = self.state.load(self.stage) if self.state is not None else None
        if snapshot is None:
            return 0
        restore(snapshot, self.bare, _inner(self.optimizer))
        rank = self.accelerator.process_index
        torch.set_rng_state(snapshot.tensors[f"random/{rank}/cpu"].cpu())
        if self.accelerator.device.type == "cuda":
            torch.cuda.set_rng_state(snapshot.tensors[f"random/{rank}/cuda"].cpu(), self.accelerator.device)
        step = int(snapshot.meta["step"])
        _fast_forward(self.schedule, step)
        self.seconds, self.history = float(snapshot.meta["seconds"]), list(snapshot.meta["history"])
        return step

    def close(self) -> None:
        """Give the bare model back: in eval mode, without accelerate's wrappers, hooks and references."""
        self.optimizer.zero_grad()
        self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        self.accelerator.free_memory()
        if self.config.gradient_checkpointing:
            self.bare.gradient_checkpointing_disable()
        self.bare.eval()


def _adamw(model: nn.Module, config: TrainSpec) -> torch.optim.AdamW:
    """AdamW; biases and normalisation weights are not decayed, as in the Trainer."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    fused = all(p.device.type in ("cpu", "cuda") and p.dtype.is_floating_point for p in parameters)
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=config.learning_rate, fused=fused)


def _inner(optimizer: Any) -> torch.optim.Optimizer:
    """The torch optimizer inside accelerate's wrapper."""
    return getattr(optimizer, "optimizer", optimizer)


def _fast_forward(schedule: Any, step: int) -> None:
    schedule.last_epoch = step
    schedule._step_count = step + 1
    for group, base, rate in zip(schedule.optimizer.param_groups, schedule.base_lrs, schedule.lr_lambdas, strict=True):
        group["lr"] = base * rate(step)
    schedule._last_lr = [group["lr"] for group in schedule.optimizer.param_groups]
