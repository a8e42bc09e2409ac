"""Label probabilities of many short token-id sequences: the inner loop of the trigger search.

The scorer batches sequences of one length, so it pads nothing and needs no attention mask: on short rows padding would
cost as much as the tokens themselves. It keeps no states of common prefixes: in a bidirectional encoder every position
depends on the slot that changes, and in a causal model a prefix of a few tokens does not pay for the copies of its
cache.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from zlib import crc32

import numpy as np
import torch

from rora_cli.errors import CheckpointError
from rora_cli.kinds import SEQUENCE_CLASSIFIER
from rora_cli.ranks import Share
from rora_cli.sharded import gradients_off, whole
from rora_cli.threads import THREADS

#: Tokens of one forward pass, on an accelerator and on a CPU; more would overflow a CPU's caches.
TOKENS_PER_BATCH = 16384, 4096
#: In batches of this many rows or more, on a CPU, a row's scores do not depend on the other rows, to the bit. Measured
#: on MiniLM with 3 and 14 tokens: from 4 rows on. Smaller matrix products take other paths.
STEADY = 8
#: Sequences whose answers are remembered: about 50 MB.
MAX_REMEMBERED = 200_000
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
        THREADS.choose()
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
        return (
            out
            if out is not None
            else np.empty((0, int(getattr(self._model.config, SEQUENCE_CLASSIFIER.answers))), dtype=np.float32)
        )

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
    """A scorer that remembers its answers: for a reference, of which later rounds and searches ask the same again.

    Its answers are, to the bit, those of a ``TorchScorer``. It remembers rows of batches of ``STEADY`` rows or more on
    a CPU, where a row's answer does not depend on the others. Smaller batches always go to the model, and so does
    everything on an accelerator, which chooses its kernels by the size of the batch. It keeps the last
    ``MAX_REMEMBERED`` sequences.
    """

    def __init__(self, model: Any, *, most: int = MAX_REMEMBERED, **options: Any) -> None:
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
    table: np.ndarray = whole(model.get_input_embeddings().weight.detach()).float().cpu().numpy()
    return table


class SharedScorer:
    """A scorer whose work several processes do together: each scores its part, all get all answers.

    A hash of its tokens says which process scores a sequence, so that one that is asked again goes to the process that
    remembers it. Every process must ask the same sequences in the same order.
    """

    def __init__(self, scorer: Any, share: Share) -> None:
        self._scorer, self._share = scorer, share
        self.forward_tokens = 0

    def log_probabilities(self, sequences: Sequence[Sequence[int]]) -> np.ndarray:
        """Log-probabilities [n, classes], float32, in the order given.

        Raises:
            CheckpointError: the model answers with numbers that are not finite, in any of the processes.
        """
        owners = np.array([crc32(np.asarray(ids, dtype=np.int32).tobytes()) for ids in sequences], dtype=np.int64)
        owners %= self._share.processes
        mine = np.flatnonzero(owners == self._share.rank).tolist()
        parts = self._share.gather(self._mine([sequences[i] for i in mine]))
        if errors := [part for part in parts if isinstance(part, CheckpointError)]:
            raise errors[0]
        self.forward_tokens = sum(tokens for _, tokens in parts)
        out = np.empty((len(sequences), parts[0][0].shape[1]), dtype=np.float32)
        for rank, (scores, _) in enumerate(parts):
            out[owners == rank] = scores
        return out

    def _mine(self, sequences: Sequence[Sequence[int]]) -> tuple[np.ndarray, int] | CheckpointError:
        """This process's scores, and the tokens that went through its model so far; or what stopped it."""
        try:
            return self._scorer.log_probabilities(sequences), self._scorer.forward_tokens
        except CheckpointError as error:
            return error


@contextmanager
def _unpadded_inference(model: Any) -> Iterator[None]:
    """Evaluation mode without gradients, in which a causal classifier without a padding token accepts batches too."""
    config, training = model.config.get_text_config(), model.training
    pad_token_id = config.pad_token_id
    model.eval()
    if pad_token_id is None:
        config.pad_token_id = _NO_TOKEN
    try:
        with gradients_off(model):
            yield
    finally:
        config.pad_token_id = pad_token_id
        model.train(training)


class Retokenised:
    """A scorer for the ids of the tokenizer ``source``: it decodes them, and encodes the text with its ``own``."""

    def __init__(self, scorer: TorchScorer, source: Any, own: Any, *, max_length: int) -> None:
        self._scorer, self._source, self._own, self._max_length = scorer, source, own, max_length

    @property
    def forward_tokens(self) -> int:
        """Tokens that went through the model so far, of its own tokenizer."""
        return self._scorer.forward_tokens

    def log_probabilities(self, sequences: Sequence[Sequence[int]]) -> np.ndarray:
        """Log-probabilities [n, classes], float32, in the order given."""
        if not len(sequences):
            return self._scorer.log_probabilities([])
        texts = self._source.batch_decode([list(ids) for ids in sequences], skip_special_tokens=True)
        encoded = self._own(texts, truncation=True, max_length=self._max_length)["input_ids"]
        return self._scorer.log_probabilities(encoded)
