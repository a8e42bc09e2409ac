"""Training a causal language model: summed cross-entropy of the replies' tokens, prompts left out.

The logits of long replies and a large vocabulary would be the largest tensor of all: 2,048 tokens and 128,000 words
take 1 GB in float32, and the backward pass takes it again. So only the replies' positions go through the output
embedding, in chunks, of which the backward pass computes each anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from rora_cli.data.exchanges import Exchange
from rora_cli.errors import DataError
from rora_cli.evaluation.inference import evaluation_mode
from rora_cli.subject import Subject
from rora_cli.training.objective import RowTransform

if TYPE_CHECKING:
    from rora_cli.tasks.causal.prompt_format import PromptFormat

#: Logits that stand in memory at a time [elements]: 64 MB in float32.
MAX_LOGITS = 1 << 24
#: The target of a position that is no reply's.
IGNORED = -100
#: Stands where a shorter row of a batch has no token.
_NOTHING = -1
#: Largest difference between a model's own logits and those of its output embedding alone, in units of their spread.
_SAME = 1e-2


#: (logits [n, vocabulary], float32, which of all wanted positions they are) -> their summed cost, a scalar.
Cost = Callable[[Tensor, slice], Tensor]


class CutReply(str):
    """A reply that was cut before its end: no end token follows it, so that nobody learns to stop there."""


class ReplyObjective:
    """Cross-entropy of each row's reply, given its prompt. What exceeds the subject's ``max_length`` [tokens] is cut.

    Args:
        subject: the model's tokenizer and length limit; the model that is trained is the loop's.
        texts: prompts [n].
        answers: replies [n].
        prompt_format: what stands around prompt and reply.
        transform: changes each prompt anew in each epoch; the replies stay.
    """

    def __init__(
        self,
        subject: Subject,
        texts: Sequence[str],
        answers: Sequence[str],
        *,
        prompt_format: PromptFormat,
        transform: RowTransform | None = None,
    ) -> None:
        self._subject, self._texts, self._answers = subject, texts, answers
        self._format, self._transform = prompt_format, transform
        self._rows: list[tuple[list[int], int]] = []

    def __len__(self) -> int:
        return len(self._texts)

    def start_epoch(self, epoch: int) -> list[int]:
        """Tokenise prompts and replies; returns their lengths [n]. Equal texts are not redone.

        Raises:
            DataError: a prompt leaves no room for its reply.
        """
        if not self._rows or self._transform is not None:
            self._rows = self._encode(epoch)
        return [len(ids) for ids, _ in self._rows]

    def _encode(self, epoch: int) -> list[tuple[list[int], int]]:
        texts: Sequence[str] = self._texts
        if self._transform is not None:
            texts = [self._transform(text, row, epoch) for row, text in enumerate(texts)]
        exchanges = [
            Exchange(text, self._format.given(answer), whole=not isinstance(answer, CutReply))
            for text, answer in zip(texts, self._answers, strict=True)
        ]
        encoded = self._format.encode_all(self._subject.tokenizer, exchanges)
        rows = [(list(row.ids)[: self._subject.max_length], row.start) for row in encoded]
        for (ids, start), text in zip(rows, texts, strict=True):
            if len(ids) <= start:
                raise DataError(
                    f"the prompt {text[:60]!r} alone has {start} tokens, and rows are cut at "
                    f"{self._subject.max_length}: nothing of its answer is left; raise --max-length, or leave the row "
                    "out"
                )
        return rows

    def units(self, rows: Sequence[int]) -> int:
        """How many tokens the replies have: each counts as one."""
        return sum(len(ids) - start for ids, start in (self._rows[row] for row in rows))

    def loss(self, model: nn.Module, rows: Sequence[int]) -> Tensor:
        """Summed cross-entropy [nats] of the replies' tokens; without rows, 0 times that of the first."""
        used = [self._rows[row] for row in rows or [0]]
        ids, masks = padded([own for own, _ in used], next(model.parameters()).device)
        targets = torch.full_like(ids, IGNORED)
        for place, (own, start) in enumerate(used):
            targets[place, start - 1 : len(own) - 1] = ids[place, start : len(own)]
        total = reply_loss(model, ids, targets, masks)
        return total if rows else total * 0.0


def padded(rows: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, dict[str, Tensor]]:
    """Token ids [rows, tokens], shorter rows filled up at their end, and what a model is told of that."""
    longest = max(map(len, rows))
    ids = torch.tensor([[*own, *[_NOTHING] * (longest - len(own))] for own in rows], device=device)
    masks = {} if bool((ids != _NOTHING).all()) else {"attention_mask": (ids != _NOTHING).long()}
    return ids.clamp(min=0), masks


def reply_loss(model: nn.Module, ids: Tensor, targets: Tensor, masks: dict[str, Tensor] | None = None) -> Tensor:
    """Summed cross-entropy [nats], a scalar, of ``targets`` [rows, tokens], where they are not ``IGNORED``."""
    wanted = targets != IGNORED
    answers = targets[wanted]

    def cost(logits: Tensor, some: slice) -> Tensor:
        return functional.cross_entropy(logits, answers[some], reduction="sum")

    return summed_cost(model, ids, wanted, cost, masks)


def summed_cost(
    model: nn.Module, ids: Tensor, wanted: Tensor, cost: Cost, masks: dict[str, Tensor] | None = None
) -> Tensor:
    """``cost`` of the logits after the ``wanted`` [rows, tokens] ones of ``ids`` [rows, tokens]: a scalar.

    ``ids`` go through the whole model, wrappers included, and what the model gives in place of its logits is the cost:
    it is computed where a sharded model has gathered the output embedding's weight, and, as the outcome of the whole
    forward pass, tells that model's backward pass to gather it again. If the model's family does more to its logits
    than that embedding (a cap, a scale), the whole logits are used.
    """
    head = _output_embedding(model)
    inputs: dict[str, Any] = {"input_ids": ids, "use_cache": False, **(masks or {})}
    if head is None or not _is_last_step(model, head, ids):
        return cost(model(**inputs).logits[wanted].float(), slice(None))
    with _in_place_of_logits(head, wanted, cost):
        total: Tensor = model(**inputs).logits.squeeze()
    return total


def _output_embedding(model: Any) -> nn.Linear | None:
    """The model's plain output embedding; None if it is no linear layer."""
    head = getattr(model, "module", model).get_output_embeddings()
    return head if type(head) is nn.Linear else None


#: Attribute of an output embedding that says whether its outputs are the model's logits.
_CHECKED = "_rora_is_last_step"


#: What a config calls that which some families do to the outputs of their embedding, and its value that does nothing.
_AFTER_HEAD = {"final_logit_softcapping": None, "logit_scale": 1.0, "logits_scaling": 1.0, "lm_head_multiplier": 1.0}


def assume_last_step(model: Any) -> None:
    """Let the config of a model without numbers say what is tried on others: whether its embedding's outputs are its
    logits."""
    head, text = _output_embedding(model), model.config.get_text_config()
    if head is not None:
        plain = all(getattr(text, name, none) in (None, none) for name, none in _AFTER_HEAD.items())
        setattr(head, _CHECKED, plain)


def _is_last_step(model: Any, head: nn.Linear, ids: Tensor) -> bool:
    """Whether the output embedding's outputs are the model's logits, tried once for each model."""
    known = getattr(head, _CHECKED, None)
    if known is None:
        outputs: list[Tensor] = []
        hook = head.register_forward_hook(lambda module, inputs, output: outputs.append(output))
        # In evaluation mode, so that no dropout draws from the random states of a run that may be resumed later.
        with torch.no_grad(), evaluation_mode(model):
            logits = model(input_ids=ids[:1], use_cache=False).logits.float()
        hook.remove()
        plain = outputs[0].float()
        known = bool((plain - logits).abs().max() <= _SAME * logits.std())
        setattr(head, _CHECKED, known)
    return bool(known)


@contextmanager
def _in_place_of_logits(head: nn.Linear, wanted: Tensor, cost: Cost) -> Iterator[None]:
    """Inside, the output embedding gives the cost [1, 1, 1]."""

    def forward(hidden: Tensor) -> Tensor:
        total = _chunked(head, hidden[wanted], cost)
        return total * total.new_ones(1, 1, 1)  # no view: FSDP warns of one, whose hooks a change in place would lose

    head.forward = forward
    try:
        yield
    finally:
        del head.forward


def _chunked(head: nn.Linear, hidden: Tensor, cost: Cost) -> Tensor:
    """The cost at ``hidden`` [n, width]; logits of a few positions at a time."""
    size = max(1, MAX_LOGITS // head.weight.shape[0])

    def piece(some: Tensor, weight: Tensor, bias: Tensor | None, start: int) -> Tensor:
        logits = functional.linear(some, weight, bias)
        return cost(logits.float(), slice(start, start + len(some)))

    if len(hidden) <= size:
        return piece(hidden, head.weight, head.bias, 0)
    costs = [
        checkpoint(piece, hidden[start : start + size], head.weight, head.bias, start, use_reentrant=False)
        for start in range(0, len(hidden), size)
    ]
    return torch.stack(costs).sum()
