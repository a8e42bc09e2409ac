"""Measures whole weights, of a model or beside an adapter's updates, against the base's: DeltaW = W' - W."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from rora_cli.checkpoints.adapter_rules import is_embedding
from rora_cli.checkpoints.adapters import AdapterModule, BaseWeights, Update
from rora_cli.checkpoints.header import quoted
from rora_cli.checkpoints.reader import TensorReader
from rora_cli.commands.diagnose.rows import MovedRows, moved_far
from rora_cli.errors import CheckpointError
from rora_cli.layout import TASK_HEADS, TRAINED_HEADS
from rora_cli.results.spectra import ModuleSpectrum

if TYPE_CHECKING:
    from torch import Tensor

    from rora_cli.commands.diagnose.base_spectra import BaseSpectra

FORMAT = "difference"
#: Heads that a fine-tune makes anew, so that a base has no weight to compare them with.
_NEW_HEADS = TASK_HEADS - {"lm_head"}
#: Names of buffers that transformers computes itself: positions, masks, frequencies and counters.
_BUFFER = re.compile(
    r"(?:^|\.)(?:position_ids|token_type_ids|inv_freq|num_batches_tracked|masked_bias|attn\.bias|attention\.bias"
    r"|relative_position_index|bin_buckets)$"
)


def is_new_head(name: str) -> bool:
    """Whether the name of a module or weight is that of a head which a fine-tune makes anew."""
    return not _NEW_HEADS.isdisjoint(name.split("."))


class WholeWeights:
    """Measures tensors of ``ours`` against the weights of ``base`` that they replace.

    ``modules`` are the spectra of the differences that are matrices, ``far`` the embeddings with rows that moved far.
    """

    def __init__(self, ours: TensorReader, base: BaseWeights, spectra: BaseSpectra, *, intruders: bool) -> None:
        self.ours, self.base = ours, base
        self.spectra, self.intruders = spectra, intruders
        self.modules: list[ModuleSpectrum] = []
        self.far: list[MovedRows] = []

    def measure(self, name: str, target: str) -> str | None:
        """Measure the tensor ``name``, which replaces the parameter ``target``.

        Returns None if it was measured, else why it is set aside: it is no matrix, or unchanged. Raises CheckpointError
        if it cannot be compared.
        """
        module, _, parameter = target.rpartition(".")
        if _BUFFER.search(target):
            return "a buffer, which transformers computes itself: no weight"
        found, shape = self.base.find(module, parameter), tuple(self.ours.info(name).shape)
        if found is None:
            if not TRAINED_HEADS.isdisjoint(module.split(".")):
                return "a head that the base does not have"
            raise CheckpointError("the base has no tensor of this name")
        if self.base.shape(found) != shape:
            if is_new_head(module):
                return f"a head of another shape than the base's, which is {list(self.base.shape(found))}"
            raise CheckpointError(f"{quoted(found)} of the base is {list(self.base.shape(found))}, not {list(shape)}")
        if unreadable := self.base.unreadable(found):
            raise CheckpointError(unreadable)
        W = self.base.reader.read(found)
        delta = self.ours.read(name, require_finite=True).double() - W.double()
        if not bool(delta.any()):
            return "identical to the base's"
        if len(shape) < 2:
            return f"a vector, without a spectrum: differs from the base's by {float(delta.abs().max()):.3g}"
        if is_embedding(module) and len(shape) == 2:
            self.far += moved_far(module, delta.norm(dim=1), W.double().norm(dim=1))
        conv1d = bool(self.base.is_conv1d(module))
        W, delta = (t.flatten(1).T if conv1d else t.flatten(1) for t in (W, delta))
        self._matrix(module or name, parameter, delta, W.float())
        return None

    def _matrix(self, module: str, parameter: str, delta: Tensor, W: Tensor) -> None:
        from rora_cli.commands.diagnose.measure import against, describe_update

        shape, update = (delta.shape[0], delta.shape[1]), Update(dense=delta)
        described = describe_update(
            update, AdapterModule(module, FORMAT, shape, min(shape), 1.0, (), lambda _: update, parameter=parameter)
        )
        self.modules.append(against(described, update, W, self.spectra.top(W), intruders=self.intruders))
