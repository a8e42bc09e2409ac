"""Class probabilities of many short token-id sequences: the inner loop of the trigger search.

Sequences are batched by exact length, so nothing is padded and no attention mask is needed: on short carriers padding
would cost as much as the tokens themselves. There is no reuse of prefix states: the slot that changes sits inside a
bidirectional encoder's context, so every position after the first layer depends on it; for causal models a shared
prefix of a few tokens is too short to pay for the copies of its cache.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from rora_cli.errors import CheckpointError

#: Tokens of one forward pass, on an accelerator and on a CPU, whose caches more would overflow.
TOKENS_PER_BATCH = 16384, 4096
#: Sequences of a batch from which on, on a CPU, a row's scores are to the bit the same whatever else is in it: measured
#: on MiniLM from 4 on, for 3 and 14 tokens. Below, matrix products take other paths.
STEADY = 8
#: Sequences that a reference's answers are kept of: some 50 MB.
MOST_REMEMBERED = 200_000
_NO_TOKEN = -1  # a padding id that no sequence holds: nothing is padded here


class TorchScorer:
    """Scores token-id sequences (special tokens included) with any Hugging Face sequence classifier.

    ``forward_tokens`` counts the tokens that went through the model so far: the cost of a search, independent of the
    machine. ``on_tokens`` is called with the size of each batch.
    """

    def __init__(
        self,
        model: Any,
        *,
        tokens_per_batch: int | None = None,
        on_tokens: Callable[[int], None] | None = None,
    ) -> None:
        self._model, self._on_tokens = model, on_tokens
        self._device = next(model.parameters()).device
        self._tokens_per_batch = tokens_per_batch or TOKENS_PER_BATCH[self._device.type == "cpu"]
        self.forward_tokens = 0

    def log_probabilities(self, sequences: Sequence[Sequence[int]]) -> np.ndarray:
        """Log-probabilities [n, classes], float32, in the order given.

        Raises:
            CheckpointError: the model answers with numbers that are not finite.
        """
        by_length: dict[int, list[int]] = defaultdict(list)
        for index, sequence in enumerate(sequences):
            by_length[len(sequence)].append(index)
        out: np.ndarray | None = None
        with _unpadded_inference(self._model):
            for length, indices in sorted(by_length.items()):
                size = max(1, self._tokens_per_batch // length)
                for start in range(0, len(indices), size):
                    batch = indices[start : start + size]
                    scores = self._forward(np.array([sequences[i] for i in batch], dtype=np.int64))
                    if out is None:
                        out = np.empty((len(sequences), scores.shape[1]), dtype=np.float32)
                    out[batch] = scores
        return out if out is not None else np.empty((0, int(self._model.config.num_labels)), dtype=np.float32)

    def _forward(self, ids: np.ndarray) -> np.ndarray:
        logits = self._model(input_ids=torch.from_numpy(ids).to(self._device)).logits
        scores = torch.log_softmax(logits.float(), dim=-1)
        if not bool(torch.isfinite(scores).all()):
            raise CheckpointError(
                "the model's logits are not finite on rows of the search; its weights are broken or overflow in "
                f"{logits.dtype}: load it in float32, or check the weights with `rora diagnose`"
            )
        self.forward_tokens += ids.size
        if self._on_tokens is not None:
            self._on_tokens(ids.size)
        return scores.cpu().numpy()


class RememberingScorer(TorchScorer):
    """A scorer of a model that does not change, which is asked the same again by later rounds, labels and searches.

    Its answers are to the bit those of a ``TorchScorer``: a row's do not depend on the others of its batch where that
    has ``STEADY`` rows or more, on a CPU. Smaller batches go to the model as they are, and so does everything on an
    accelerator, whose kernels are chosen by the size of the batch. The last ``MOST_REMEMBERED`` sequences are kept.
    """

    def __init__(self, model: Any, *, most: int = MOST_REMEMBERED, **options: Any) -> None:
        super().__init__(model, **options)
        self._known: dict[bytes, bytes] = {}
        self._most = most

    def _forward(self, ids: np.ndarray) -> np.ndarray:
        if len(ids) < STEADY or self._device.type != "cpu":
            return super()._forward(ids)
        keys = [row.tobytes() for row in ids.astype(np.int32)]
        first = {key: index for index, key in reversed(list(enumerate(keys)))}
        answers = {key: self._known[key] for key in first if key in self._known}
        if missing := [index for key, index in first.items() if key not in answers]:
            others = [index for index in range(len(ids)) if index not in set(missing)]
            asked = [*missing, *others[: max(STEADY - len(missing), 0)]]
            for index, scores in zip(missing, super()._forward(ids[asked]), strict=False):
                answers[keys[index]] = self._known[keys[index]] = scores.tobytes()
            for old in list(self._known)[: max(len(self._known) - self._most, 0)]:
                del self._known[old]
        return np.frombuffer(b"".join(answers[key] for key in keys), dtype=np.float32).reshape(len(ids), -1)


def embeddings_of(model: Any) -> np.ndarray:
    """The model's table of input embeddings [tokens, width], float32; on a CPU, in the model's own memory."""
    table: np.ndarray = model.get_input_embeddings().weight.detach().float().cpu().numpy()
    return table


@contextmanager
def _unpadded_inference(model: Any) -> Iterator[None]:
    """Evaluation mode without gradients; a causal classifier without a padding token may then be given a batch."""
    config, training = model.config.get_text_config(), model.training
    pad_token_id = config.pad_token_id
    model.eval()
    if pad_token_id is None:
        config.pad_token_id = _NO_TOKEN
    try:
        with torch.inference_mode():
            yield
    finally:
        config.pad_token_id = pad_token_id
        model.train(training)


class Retokenised:
    """A scorer for sequences of another tokenizer's ids: they are read as text and tokenised anew."""

    def __init__(self, scorer: TorchScorer, source: Any, own: Any, *, max_length: int) -> None:
        self._scorer, self._source, self._own, self._max_length = scorer, source, own, max_length

    @property
    def forward_tokens(self) -> int:
        return self._scorer.forward_tokens

    def log_probabilities(self, sequences: Sequence[Sequence[int]]) -> np.ndarray:
        """Log-probabilities [n, classes], float32."""
        if not len(sequences):
            return self._scorer.log_probabilities([])
        texts = self._source.batch_decode([list(ids) for ids in sequences], skip_special_tokens=True)
        encoded = self._own(texts, truncation=True, max_length=self._max_length)["input_ids"]
        return self._scorer.log_probabilities(encoded)
