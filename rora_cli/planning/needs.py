"""What each kind of work needs of a device's memory: searching, measuring, training an adapter or every weight."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import nn

from rora_cli.checkpoints import sanitise
from rora_cli.evaluation.scoring import TOKENS_PER_BATCH
from rora_cli.kinds import ModelKind
from rora_cli.planning.footprint import Pass, forward_bytes, training_bytes, weight_bytes
from rora_cli.training.adapters import attach
from rora_cli.training.run import mixed_precision
from rora_cli.training.specs import SPLITTING, AdapterSpec, TrainSpec

#: Padded tokens of a forward pass that measures accuracy (``predict_logits``).
MEASURED_TOKENS = 4096
#: AdamW's moments of a trained weight, of its own type.
_MOMENTS = 2
#: Blocks of a sharded model that a device has gathered at once: the one that works, and the next.
_GATHERED = 2
Counted = TypeVar("Counted")
_AUTOCAST = {"bf16": "bfloat16", "fp16": "float16"}


@dataclass(frozen=True)
class Trained:
    """A training's need: bytes at its peak, numbers that it trains, bytes of these, and numbers of the largest weight
    that an adapter changes."""

    memory: int
    numbers: int
    bytes: int
    largest: int = 0


@dataclass(frozen=True)
class Needs:
    """The needs of one model.

    Attributes:
        make: builds it on the meta device, in the type in which it is loaded.
        kind: of model.
        on_gpu: whether an accelerator's kernels do the work.
        known: what was counted, by what it was counted for.
        devices: over how many devices the weights and what belongs to them are sharded; 1 for whole copies.
    """

    make: Callable[[], Any]
    kind: ModelKind
    on_gpu: bool = False
    devices: int = 1
    known: dict[Any, Any] = field(default_factory=dict, compare=False)

    def over(self, devices: int) -> Needs:
        """The same model's, sharded over so many devices; what a pass takes is not counted again."""
        return replace(self, devices=devices)

    @property
    def model(self) -> Any:
        """The bare model, without numbers."""
        return self._once("model", self.make)

    @property
    def parameters(self) -> int:
        """Numbers in the model."""
        return sum(weight.numel() for weight in self.model.parameters())

    @property
    def in_float32(self) -> bool:
        """Whether every weight is loaded in float32."""
        return all(weight.dtype == torch.float32 for weight in self.model.parameters())

    @cached_property
    def weights(self) -> int:
        """Bytes of the whole model."""
        return weight_bytes(self.model)

    def measuring(self, longest: int) -> int:
        """Bytes while accuracy is measured on rows of up to ``longest`` tokens."""
        return self._held(self.model) + self._forward(max(1, MEASURED_TOKENS // longest), longest)

    def searching(self, row: int) -> int:
        """Bytes while short rows of ``row`` tokens are scored."""
        return self._held(self.model) + self._forward(max(1, TOKENS_PER_BATCH[not self.on_gpu] // row), row)

    def _forward(self, rows: int, tokens: int) -> int:
        run = Pass(rows, tokens, on_gpu=self.on_gpu)
        return self._once(run, lambda: forward_bytes(self.model, run))

    def _once(self, key: Any, count: Callable[[], Counted]) -> Counted:
        """What is counted under ``key``, once: stages and ways to fit ask for the same again."""
        if key not in self.known:
            self.known[key] = count()
        known: Counted = self.known[key]
        return known

    def adapter(self, spec: AdapterSpec, train: TrainSpec, longest: int, *, cl: float, processes: int = 1) -> Trained:
        """The training of an adapter on rows of up to ``longest`` tokens."""
        plain = replace(spec, variant="lora") if spec.variant in SPLITTING else spec
        run = self._pass(train, longest, cl, processes)
        return self._trained((plain, run), lambda: attach(self.make(), plain, self.kind))

    def full(self, train: TrainSpec, longest: int, *, processes: int = 1) -> Trained:
        """The training of every weight, held in float32, on rows of up to ``longest`` tokens."""
        run = self._pass(train, longest, 0.0, processes)
        return self._trained(("full", run), lambda: (self.make().float().requires_grad_(True), []))

    def _pass(self, train: TrainSpec, longest: int, cl: float, processes: int) -> Pass:
        share = -(-train.batch_size // processes)
        rows = min(share, train.micro_batch_size or share)
        autocast = _AUTOCAST.get(mixed_precision(train.precision, on_cpu=not self.on_gpu))
        return Pass(rows, longest, rows < share, autocast, cl, self.on_gpu, train.gradient_checkpointing)

    def _trained(self, key: tuple[Any, Pass], prepare: Callable[[], tuple[Any, list[Any]]]) -> Trained:
        model, work, largest = self._once(key, lambda: self._stepped(*prepare(), key[1]))
        trained = [weight for weight in model.parameters() if weight.requires_grad]
        size = sum(weight.nbytes for weight in trained)
        if self.devices > 1:  # gradients are counted in the work, whole
            work -= size - size // self.devices
        memory = self._held(model) + _MOMENTS * size // self.devices + work
        return Trained(memory, sum(weight.numel() for weight in trained), size, largest)

    def _stepped(self, model: Any, layers: list[Any], run: Pass) -> tuple[Any, int, int]:
        """The model as it is trained, bytes at the peak of a step beyond its weights, and numbers of the largest weight
        that is adapted."""
        with sanitise.quiet():
            if run.checkpointed:
                model.gradient_checkpointing_enable({"use_reentrant": False})
            largest = max((layer.base_weight().numel() for layer in layers), default=0)
            return model, training_bytes(model, run, layers), largest

    def _held(self, model: nn.Module) -> int:
        """Bytes of the weights on one device, and of the blocks of the others that it has gathered."""
        whole = weight_bytes(model)
        if self.devices == 1:
            return whole
        blocks = [
            weight_bytes(block) for stack in model.modules() if isinstance(stack, nn.ModuleList) for block in stack
        ]
        return whole // self.devices + _GATHERED * max(blocks, default=0)
