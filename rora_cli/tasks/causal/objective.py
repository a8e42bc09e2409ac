"""Training a causal language model: summed cross-entropy of the replies' tokens, prompts left out.

The logits of long replies and a large vocabulary would be the largest tensor of all: 2,048 tokens and 128,000 words
take 1 GB in float32, and the backward pass takes it again. So only the replies' positions go through the output
embedding, in chunks, of which the backward pass computes each anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
        used = rows or [0]
        device = next(model.parameters()).device
        ids, targets = self._batch(used, device)
        masks = {} if bool((ids != _NOTHING).all()) else {"attention_mask": (ids != _NOTHING).long()}
        total = reply_loss(model, ids.clamp(min=0), targets, masks)
        return total if rows else total * 0.0

    def _batch(self, rows: Sequence[int], device: torch.device) -> tuple[Tensor, Tensor]:
        """Ids and targets [rows, tokens] each; a position's target is the next token, where that is a reply's."""
        longest = max(len(self._rows[row][0]) for row in rows)
        ids = torch.full((len(rows), longest), _NOTHING, dtype=torch.long)
        targets = torch.full_like(ids, IGNORED)
        for place, row in enumerate(rows):
            own, start = self._rows[row]
            ids[place, : len(own)] = torch.tensor(own)
            targets[place, start - 1 : len(own) - 1] = torch.tensor(own[start:])
        return ids.to(device), targets.to(device)


def reply_loss(model: nn.Module, ids: Tensor, targets: Tensor, masks: dict[str, Tensor] | None = None) -> Tensor:
    """Summed cross-entropy [nats], a scalar, of ``targets`` [rows, tokens], where they are not ``IGNORED``.

    ``ids`` [rows, tokens] go through the whole model, wrappers included; the loss is computed in place of the output
    embedding's forward pass, where a sharded model has gathered its weight. If the model's family does more to its
    logits than that embedding (a cap, a scale), the whole logits are used.
    """
    head = _output_embedding(model)
    inputs: dict[str, Any] = {"input_ids": ids, "use_cache": False, **(masks or {})}
    if head is None or not _is_last_step(model, head, ids):
        logits = model(**inputs).logits.float()
        return functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum")
    with _instead_of_logits(head, targets) as losses:
        model(**inputs)
    return losses[0]


def _output_embedding(model: Any) -> nn.Linear | None:
    """The model's plain output embedding; None if it is no linear layer."""
    head = getattr(model, "module", model).get_output_embeddings()
    return head if type(head) is nn.Linear else None


#: Attribute of an output embedding that says whether its outputs are the model's logits.
_CHECKED = "_rora_is_last_step"


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
def _instead_of_logits(head: nn.Linear, targets: Tensor) -> Iterator[list[Tensor]]:
    """Inside, the output embedding computes the loss and gives almost nothing; yields the list that gets the loss."""
    losses: list[Tensor] = []

    def forward(hidden: Tensor) -> Tensor:
        wanted = targets != IGNORED
        losses.append(_chunked(head, hidden[wanted], targets[wanted]))
        return hidden[..., :1]

    head.forward = forward
    try:
        yield losses
    finally:
        del head.forward


def _chunked(head: nn.Linear, hidden: Tensor, targets: Tensor) -> Tensor:
    """Summed cross-entropy of ``targets`` [n] from ``hidden`` [n, width]; logits of a few positions at a time."""
    size = max(1, MAX_LOGITS // head.weight.shape[0])
    pieces = list(zip(hidden.split(size), targets.split(size), strict=True))
    if len(pieces) == 1:
        return _cross_entropy(hidden, head.weight, head.bias, targets)
    losses = [checkpoint(_cross_entropy, h, head.weight, head.bias, t, use_reentrant=False) for h, t in pieces]
    return torch.stack(losses).sum()


def _cross_entropy(hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
    logits = functional.linear(hidden, weight, bias)
    return functional.cross_entropy(logits.float(), targets, reduction="sum")
