"""Control: CROW's internal consistency regularisation (Min et al., arXiv:2411.12768), on a LoRA.

A trigger makes hidden states jump from one layer to the next. Training asks for alike neighbours, in the direction of
the embeddings in which they are least alike: loss = cross-entropy + alpha * L_cons(embeddings + epsilon * sign(grad)).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from rora_cli.commands.workbench import Cleansed, Workbench, update_spectra
from rora_cli.training.adapters import to_plain_lora


def cleanse(bench: Workbench) -> Cleansed:
    model, layers = bench.attach()
    settings = bench.settings
    with consistency(model, float(settings["consistency"]), float(settings["perturbation"])) as penalty:
        bench.train(model, layers, stage="train", penalty=penalty)
    to_plain_lora(model, layers)
    return bench.not_assessed(model, layers, update_spectra(layers))


class Consistency:
    """alpha * L_cons of the batch that went through ``model`` last, under the perturbation of size epsilon."""

    def __init__(self, model: nn.Module, alpha: float, epsilon: float) -> None:
        self._model, self._alpha, self._epsilon = model, alpha, epsilon
        self._batch: dict[str, Any] = {}
        self._shift: Tensor | None = None
        self._busy = False

    def see(self, _module: nn.Module, _inputs: Any, batch: dict[str, Any]) -> None:
        if not self._busy and self._model.training:
            self._batch = {name: value for name, value in batch.items() if name != "labels"}

    def shift(self, _module: nn.Module, _inputs: Any, embedded: Tensor) -> Tensor:
        if not self._busy:
            return embedded
        if self._shift is None:
            self._shift = torch.zeros_like(embedded, requires_grad=True)
        return embedded + self._shift

    def __call__(self) -> Tensor:
        self._busy, self._shift = True, None
        try:
            loss = self._inconsistency()
            assert self._shift is not None
            (gradient,) = torch.autograd.grad(loss, self._shift)
            self._shift = self._epsilon * gradient.sign()
            return self._alpha * self._inconsistency()
        finally:
            self._busy, self._shift = False, None

    def _inconsistency(self) -> Tensor:
        """Mean over layers and tokens of 1 - cos between a hidden state and the next layer's (Eq. 3)."""
        states = self._model(**self._batch, output_hidden_states=True).hidden_states
        mask = self._batch.get("attention_mask")
        mask = torch.ones(states[0].shape[:2], device=states[0].device) if mask is None else mask.float()
        apart = [1 - functional.cosine_similarity(a, b, dim=-1) for a, b in pairwise(states)]
        return (torch.stack(apart) * mask).sum() / (len(apart) * mask.sum())


@contextmanager
def consistency(model: nn.Module, alpha: float, epsilon: float) -> Iterator[Consistency]:
    """The penalty for a training loop that calls ``model`` on a batch first."""
    penalty = Consistency(model, alpha, epsilon)
    handles = [
        model.register_forward_pre_hook(penalty.see, with_kwargs=True),
        model.get_input_embeddings().register_forward_hook(penalty.shift),
    ]
    try:
        yield penalty
    finally:
        for handle in handles:
            handle.remove()
