"""Control: CROW's internal consistency regularisation (Min et al., arXiv:2411.12768), on a LoRA.

A trigger makes hidden states jump from one layer to the next. Training asks for hidden states that change little
between layers, also when the embeddings are moved in the direction in which they change most:
loss = cross-entropy + alpha * L_cons(embeddings + epsilon * sign(grad L_cons)).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from rora_cli.defences.bench import Bench, Cleansed
from rora_cli.defences.spectra import update_spectra
from rora_cli.errors import UsageError
from rora_cli.evaluation.inference import embedding_table
from rora_cli.training.adapters import to_plain_lora


def check(bench: Bench) -> None:
    """Raise UsageError if no adapter fits, or the hidden states cannot be compared from layer to layer."""
    bench.check_adapter()
    model, tokenizer = bench.model.to(bench.run.device), bench.subject.tokenizer
    row = tokenizer([bench.clean.texts[0]], truncation=True, max_length=bench.subject.max_length, return_tensors="pt")
    with consistency(model, 0.0, 0.0) as penalty, torch.no_grad():
        penalty.look_at({name: value.to(bench.run.device) for name, value in row.items()})


def cleanse(bench: Bench) -> Cleansed:
    """Train a LoRA with the consistency as its penalty."""
    model, layers = bench.attach()
    settings = bench.settings.controls
    with consistency(model, settings.consistency, settings.perturbation) as penalty:
        bench.train(model, layers, stage="train", penalty=penalty)
    to_plain_lora(model, layers)
    return bench.not_assessed(model, layers, update_spectra(layers))


class Consistency:
    """alpha * L_cons of the batch that went through ``model`` last, under a perturbation of size epsilon: a scalar.

    Each stack of an encoder-decoder is a chain of hidden states of its own, and both embeddings of the text are
    perturbed.
    """

    def __init__(self, model: nn.Module, alpha: float, epsilon: float) -> None:
        self._model, self._alpha, self._epsilon = model, alpha, epsilon
        self._batch: dict[str, Any] = {}
        self._shifts: list[Tensor] = []
        self._embedded = 0
        self._busy = False

    def see(self, _module: nn.Module, _inputs: Any, batch: dict[str, Any]) -> None:
        """Hook of the model: remember the batch of a training step."""
        if not self._busy and self._model.training:
            self._batch = {name: value for name, value in batch.items() if name != "labels"}

    def shift(self, _module: nn.Module, _inputs: Any, embedded: Tensor) -> Tensor:
        """Hook of an embedding: its output [batch, tokens, width], perturbed while the penalty is computed."""
        if not self._busy:
            return embedded
        if self._embedded == len(self._shifts):
            self._shifts.append(torch.zeros_like(embedded, requires_grad=True))
        self._embedded += 1
        return embedded + self._shifts[self._embedded - 1]

    def look_at(self, batch: dict[str, Any]) -> None:
        """Raise UsageError unless the hidden states of ``batch`` have one shape in each stack."""
        self._batch, self._busy = batch, True
        try:
            chains = self._chains()
        finally:
            self._busy = False
        alike = all(state.shape == chain[0].shape for chain in chains for state in chain)
        if not alike or not self._embedded or not any(len(chain) > 1 for chain in chains):
            raise UsageError(
                f"the recipe crow compares the hidden states of neighbouring layers, which a "
                f"{type(self._model).__name__} does not give in one shape; use the recipe lora or full"
            )

    def __call__(self) -> Tensor:
        self._busy, self._shifts = True, []
        try:
            loss = self._inconsistency()
            gradients = torch.autograd.grad(loss, self._shifts)
            self._shifts = [self._epsilon * gradient.sign() for gradient in gradients]
            return self._alpha * self._inconsistency()
        finally:
            self._busy, self._shifts = False, []

    def _chains(self) -> list[tuple[Tensor, ...]]:
        """The hidden states [batch, tokens, width] from layer to layer, of each stack."""
        self._embedded = 0
        output = self._model(**self._batch, output_hidden_states=True)
        names = ("hidden_states", "encoder_hidden_states", "decoder_hidden_states")
        return [chain for name in names if (chain := getattr(output, name, None))]

    def _inconsistency(self) -> Tensor:
        """Mean over layers and tokens of 1 - cos between a hidden state and the next layer's (Eq. 3)."""
        chains = self._chains()
        mask = self._batch.get("attention_mask")
        mask = torch.ones(chains[0][0].shape[:2], device=chains[0][0].device) if mask is None else mask.float()
        apart = [1 - functional.cosine_similarity(a, b, dim=-1) for chain in chains for a, b in pairwise(chain)]
        return (torch.stack(apart) * mask).sum() / (len(apart) * mask.sum())


@contextmanager
def consistency(model: nn.Module, alpha: float, epsilon: float) -> Iterator[Consistency]:
    """The penalty for a training loop, which must call ``model`` on a batch before it; inside, hooks remember it."""
    penalty = Consistency(model, alpha, epsilon)
    table = embedding_table(model)
    embeddings = [m for m in model.modules() if isinstance(m, nn.Embedding) and m.weight is table]
    handles = [
        model.register_forward_pre_hook(penalty.see, with_kwargs=True),
        *(module.register_forward_hook(penalty.shift) for module in embeddings),
    ]
    try:
        yield penalty
    finally:
        for handle in handles:
            handle.remove()
