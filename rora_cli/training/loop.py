"""The training loop: accelerate's, for one process or many. What a row is, and what it costs, the objective says."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from rora_cli.errors import TrainingError
from rora_cli.progress import Task
from rora_cli.sharded import is_sharded
from rora_cli.threads import THREADS
from rora_cli.training.batches import epoch_batches, micro_batches, rank_share, steps_per_epoch
from rora_cli.training.dropout import masks_drawn_together
from rora_cli.training.heap import freed_at_once, give_back
from rora_cli.training.objective import Objective
from rora_cli.training.run import Stage, make_accelerator
from rora_cli.training.specs import TrainSpec
from rora_cli.training.state import Snapshot, restore, take_snapshot

#: What reports call the parts of a loss: the objective's and the penalty's.
LOSS, PENALTY = "ce", "tr"
#: Gets the bare model, in evaluation mode, after the last epoch, on every process. Reports show what it returns.
Evaluate = Callable[[nn.Module], Mapping[str, Any]]


@dataclass(frozen=True)
class TrainOutcome:
    """One call to ``finetune``.

    Attributes:
        steps: optimizer steps.
        seconds: time that they took; evaluation and saving do not count.
        epochs: the mean losses of each epoch by their part, and, in the last entry, what ``evaluate`` returned.
    """

    steps: int
    seconds: float
    epochs: tuple[Mapping[str, Any], ...] = field(default_factory=tuple)


def finetune(
    model: nn.Module,
    objective: Objective,
    spec: TrainSpec,
    *,
    accelerator: Any | None = None,
    penalty: Callable[[], Tensor] | None = None,
    evaluate: Evaluate | None = None,
    stage: Stage | None = None,
) -> TrainOutcome:
    """Train the trainable parameters of ``model`` in place on the objective's loss plus ``penalty()``, a scalar.

    Every process must call this with the same arguments. The gradient of a global batch is the mean over its units
    (rows, say), plus the penalty's, for any number of processes and accumulation steps. If the stage has a state, a
    finished stage is restored instead of trained, and an unfinished one goes on from its last snapshot.

    Raises:
        TrainingError: a loss is not finite, or the saved state has other trainable tensors.
        UsageError: without an ``accelerator``, if this machine has no device for the precision.
    """
    THREADS.choose()
    accelerator = accelerator or make_accelerator(spec.precision)
    run = _Training(model, objective, spec, accelerator, penalty, evaluate, stage or Stage())
    try:
        with masks_drawn_together(model), freed_at_once() if spec.gradient_checkpointing else nullcontext():
            return run.train()
    finally:
        run.close()


class _Training:
    """The state of one call to ``finetune``."""

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        spec: TrainSpec,
        accelerator: Any,
        penalty: Callable[[], Tensor] | None,
        evaluate: Evaluate | None,
        stage: Stage,
    ) -> None:
        self.bare, self.objective, self.spec, self.accelerator = model, objective, spec, accelerator
        self.penalty, self.evaluate, self.stage = penalty, evaluate, stage
        self.total_steps = spec.epochs * steps_per_epoch(len(objective), spec.batch_size)
        self.history: list[Mapping[str, Any]] = []
        self.seconds = 0.0
        torch.manual_seed(spec.seed * 1_000_003 + accelerator.process_index)
        if spec.gradient_checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        self.sharded = is_sharded(model)
        self._forward = model.__dict__.get("forward")
        if self.sharded:
            self.model, self.optimizer = model.train(), accelerator.prepare_optimizer(_adamw(model, spec))
        else:
            model.to(accelerator.device).train()
            self.model, self.optimizer = accelerator.prepare(model, _adamw(model, spec))
        self.schedule = torch.optim.lr_scheduler.LambdaLR(_inner(self.optimizer), self._rate)

    def _rate(self, step: int) -> float:
        """The learning rate's share at ``step``: warm-up, then linear or cosine to 0, or constant."""
        warmup = int(self.spec.warmup_ratio * self.total_steps)
        if step < warmup:
            return (step + 1) / warmup
        done = (step - warmup) / max(self.total_steps - warmup, 1)
        if self.spec.schedule == "cosine":
            return 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
        return max(0.0, 1 - done) if self.spec.schedule == "linear" else 1.0

    def train(self) -> TrainOutcome:
        start = self._resume()
        per_epoch = steps_per_epoch(len(self.objective), self.spec.batch_size)
        step = start
        with self.stage.progress.phase(self.stage.name, self.total_steps) as task:
            if start:
                task.advance(start)
            for epoch in range(start // per_epoch, self.spec.epochs):
                skip = step - epoch * per_epoch
                step = self._epoch(epoch, step, skip, task)
                self._finish_epoch(epoch, step, task)
        return TrainOutcome(step, self.seconds, tuple(self.history))

    def _epoch(self, epoch: int, step: int, skip: int, task: Task) -> int:
        lengths = self.objective.start_epoch(epoch)
        batches = epoch_batches(lengths, self.spec.batch_size, seed=self.spec.seed, epoch=epoch)
        # Losses stay on the device until they are shown: reading one every step would stall a GPU.
        seen: list[dict[str, Tensor]] = []
        began = perf_counter()
        for batch in batches[skip:]:
            seen.append(self._step(batch, step))
            step += 1
            shown = {} if step % 10 and step % len(batches) else self._shown(seen, step)
            task.advance(1, **shown)
            every = self.spec.checkpoint_every
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
                f"the loss became non-finite at step {step} of {self.stage.name} (parts: {parts}); lower "
                "--learning-rate or --tr, or use --precision fp32"
            )
        return parts

    def _step(self, batch: Sequence[int], step: int) -> dict[str, Tensor]:
        """One optimizer step on one global batch; returns the loss parts of this process's share."""
        processes = self.accelerator.num_processes
        pieces = self._pieces(batch)
        # DDP and FSDP average over processes: this weight makes that the mean over the units of the global batch.
        weight = processes / max(self.objective.units(batch), 1)
        parts: dict[str, Tensor] = {}
        for number, piece in enumerate(pieces):
            last = number == len(pieces) - 1
            with self._synchronised(last):
                loss = self.objective.loss(self.model, piece) * weight
                parts[LOSS] = parts.get(LOSS, 0.0) + loss.detach()
                extra = self.penalty() if last and self.penalty is not None else None
                if extra is not None:
                    parts[PENALTY] = extra.detach()
                if extra is not None and not self.sharded:
                    loss = loss + extra
                self.accelerator.backward(loss)
                if extra is not None and self.sharded:
                    # It is every process's alike, and adds to the mean that FSDP has made by now.
                    self.accelerator.backward(extra)
        self.accelerator.clip_grad_norm_(self._trainable(), self.spec.max_grad_norm)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()
        return parts

    def _pieces(self, batch: Sequence[int]) -> list[list[int]]:
        """What this process puts through the model of a global batch, piece by piece.

        A forward pass of a sharded model needs every process: whoever has fewer pieces begins with empty ones.
        """
        processes, size = self.accelerator.num_processes, self.spec.micro_batch_size
        pieces = micro_batches(rank_share(batch, self.accelerator.process_index, processes), size)
        # Rank 0 has the most rows of all.
        most = len(micro_batches(rank_share(batch, 0, processes), size)) if self.sharded else 0
        return [[]] * (most - len(pieces)) + pieces

    def _trainable(self) -> list[nn.Parameter]:
        return [p for p in self.model.parameters() if p.requires_grad]

    def _synchronised(self, last: bool) -> AbstractContextManager[Any]:
        if self.sharded:
            self.bare.set_requires_gradient_sync(last)
        return nullcontext() if last or self.sharded else self.accelerator.no_sync(self.model)

    def _finish_epoch(self, epoch: int, step: int, task: Task) -> None:
        entry: dict[str, Any] = {"epoch": epoch + 1, **self._epoch_losses}
        if bad := [name for name, value in self._epoch_losses.items() if not math.isfinite(value)]:
            raise TrainingError(
                f"the loss ({', '.join(bad)}) was not finite in epoch {epoch + 1} of {self.stage.name}; lower "
                "--learning-rate or --tr, or use --precision fp32"
            )
        last = epoch + 1 == self.spec.epochs
        if last and self.evaluate is not None:
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
        if self.stage.state is None:
            return
        states = self._random_states()
        snapshot: Snapshot | None = None
        if self.accelerator.is_main_process or self.sharded:
            meta = {"step": step, "total": self.total_steps, "seconds": self.seconds, "history": list(self.history)}
            snapshot = take_snapshot(self.bare, _inner(self.optimizer), states, meta)
        if self.accelerator.is_main_process and snapshot is not None:
            self.stage.state.save(self.stage.name, snapshot)
        self.accelerator.wait_for_everyone()

    def _resume(self) -> int:
        state = self.stage.state
        snapshot = state.load(self.stage.name) if state is not None else None
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
        if not self.sharded:
            self._take_off_wrappers()
        # The schedule refers back to this object: the moments would stay until Python looks for circles.
        del self.schedule, self.optimizer
        self.accelerator.free_memory()
        if self.spec.gradient_checkpointing:
            self.bare.gradient_checkpointing_disable()
        self.bare.eval()
        give_back()

    def _take_off_wrappers(self) -> None:
        """Undo what accelerate did to ``forward``, and no more.

        Its own ``unwrap_model(keep_fp32_wrapper=False)`` also takes off the decorators that transformers has around it:
        a PEFT adapter that is put on then cannot be called. And it leaves the mark by which accelerate knows a model
        that it prepared: the next training of the model would get no autocast, and run in float32.
        """
        for name in ("_original_forward", "_is_accelerate_prepared", "forward"):
            self.bare.__dict__.pop(name, None)
        if self._forward is not None:
            self.bare.__dict__["forward"] = self._forward


def _adamw(model: nn.Module, spec: TrainSpec) -> torch.optim.AdamW:
    """AdamW; biases and normalisation weights are not decayed, as in the Trainer."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": spec.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    fused = all(p.device.type in ("cpu", "cuda") and p.dtype.is_floating_point for p in parameters)
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=spec.learning_rate, fused=fused)


def _inner(optimizer: Any) -> torch.optim.Optimizer:
    """The torch optimizer inside accelerate's wrapper."""
    return getattr(optimizer, "optimizer", optimizer)


def _fast_forward(schedule: Any, step: int) -> None:
    schedule.last_epoch = step
    schedule._step_count = step + 1
    for group, base, rate in zip(schedule.optimizer.param_groups, schedule.base_lrs, schedule.lr_lambdas, strict=True):
        group["lr"] = base * rate(step)
    schedule._last_lr = [group["lr"] for group in schedule.optimizer.param_groups]
