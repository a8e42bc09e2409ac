"""Label probabilities of many short token-id sequences: the inner loop of the trigger search.

The scorer batches sequences of one length, so it pads nothing and needs no attention mask: on short rows padding would
cost as much as the tokens themselves. It keeps no states of common prefixes: in a bidirectional encoder every position
depends on the slot that changes, and in a causal model a prefix of a few tokens does not pay for the copies of its
cache.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import numpy as np
import torch

from rora_cli.errors import CheckpointError
from rora_cli.kinds import SEQUENCE_CLASSIFIER
from rora_cli.ranks import ALONE, Share
from rora_cli.sharded import gradients_off, whole
from rora_cli.threads import THREADS

#: Tokens of one forward pass, on an accelerator and on a CPU; more would overflow a CPU's caches.
TOKENS_PER_BATCH = 16384, 4096
#: In batches of this many rows or more, on a CPU, a row's scores do not depend on the other rows but for rounding, on
#: many processors to the bit. Measured on MiniLM with 3 and 14 tokens: from 4 rows on; on a processor with AMX, 1e-6.
#: Smaller matrix products take other paths.
STEADY = 8
#: Sequences whose answers are remembered: about 50 MB.
MAX_REMEMBERED = 200_000
_NO_TOKEN = -1  # a padding id that no sequence holds: nothing is padded here


class TorchScorer:
    """Scores token-id sequences (special tokens included) with any Hugging Face sequence classifier.

    The processes of ``share`` do its work together: each scores a part, and all get all answers. Each must ask the same
    sequences in the same order. ``forward_tokens`` counts the tokens that went through the model so far, in any of
    them: the cost of a search, independent of the machine.
    """

    def __init__(self, model: Any, *, tokens_per_batch: int | None = None, share: Share = ALONE) -> None:
        THREADS.choose()
        self._model, self._share = model, share
        self._device = next(model.parameters()).device
        self._tokens_per_batch = tokens_per_batch or TOKENS_PER_BATCH[self._device.type == "cpu"]
        self.forward_tokens = 0

    def log_probabilities(self, sequences: Sequence[Sequence[int]]) -> np.ndarray:
        """Log-probabilities [n, classes], float32, in the order given.

        Raises:
            CheckpointError: the model answers with numbers that are not finite.
        """
        if not len(sequences):
            return np.empty((0, int(getattr(self._model.config, SEQUENCE_CLASSIFIER.answers))), dtype=np.float32)
        batches = self._batches(sequences)
        with _unpadded_inference(self._model):
            answered = self._share.each(
                batches, lambda batch: self._forward(np.array([sequences[i] for i in batch], dtype=np.int64))
            )
        self.forward_tokens += sum(map(len, sequences))
        out = np.empty((len(sequences), answered[0].shape[1]), dtype=np.float32)
        for batch, scores in zip(batches, answered, strict=True):
            out[batch] = scores
        return out

    def _batches(self, sequences: Sequence[Sequence[int]]) -> list[np.ndarray]:
        """Indices of sequences of one length, in equal batches, so that none is small; the largest come first.

        Of a length with enough of them, every process gets a batch.
        """
        batches: list[np.ndarray] = []
        for length, indices in _by_length(sequences).items():
            count = -(-len(indices) // max(1, self._tokens_per_batch // length))
            for_all = -(-count // self._share.processes) * self._share.processes
            batches += np.array_split(indices, for_all if len(indices) >= STEADY * for_all else count)
        return sorted(batches, key=lambda batch: -len(batch) * len(sequences[batch[0]]))

    def _forward(self, ids: np.ndarray) -> np.ndarray:
        logits = self._model(input_ids=torch.from_numpy(ids).to(self._device)).logits
        scores = torch.log_softmax(logits.float(), dim=-1)
        if not bool(torch.isfinite(scores).all()):
            raise CheckpointError(
                "the model's logits are not finite on rows of the search; its weights are broken or overflow in "
                f"{logits.dtype}: load it in float32, or check the weights with `rora diagnose`"
            )
        return scores.cpu().numpy()


def _by_length(sequences: Sequence[Sequence[int]]) -> dict[int, list[int]]:
    """The indices of the sequences of each length."""
    by_length: dict[int, list[int]] = defaultdict(list)
    for index, sequence in enumerate(sequences):
        by_length[len(sequence)].append(index)
    return by_length


class RememberingScorer(TorchScorer):
    """A scorer that remembers its answers: for a reference, of which later rounds and searches ask the same again.

    Its answers are those of a ``TorchScorer`` but for rounding, in float32 and under autocast. It remembers what was
    asked on a CPU with ``STEADY`` or more sequences of one length, where a row's answer does not depend on the others.
    Fewer always go to the model, and so does everything on an accelerator, which chooses its kernels by the size of the
    batch. It keeps the last ``MAX_REMEMBERED`` sequences of each precision.
    """

    def __init__(self, model: Any, *, most: int = MAX_REMEMBERED, **options: Any) -> None:
        super().__init__(model, **options)
        self._answers: dict[bool, dict[bytes, bytes]] = {False: {}, True: {}}
        self._most = most

    @property
    def _known(self) -> dict[bytes, bytes]:
        """The answers remembered of this precision."""
        return self._answers[torch.is_autocast_enabled("cpu")]

    def log_probabilities(self, sequences: Sequence[Sequence[int]]) -> np.ndarray:
        """Log-probabilities [n, classes], float32, in the order given.

        Raises:
            CheckpointError: the model answers with numbers that are not finite.
        """
        if self._device.type != "cpu":
            return super().log_probabilities(sequences)
        by_length = _by_length(sequences)
        keys = [np.asarray(ids, dtype=np.int32).tobytes() for ids in sequences]
        asked = [index for indices in by_length.values() for index in self._to_ask(indices, keys)]
        answers = super().log_probabilities([sequences[index] for index in asked])
        out = np.empty((len(sequences), answers.shape[1]), dtype=np.float32)
        out[asked] = answers
        steady = (index for index in asked if len(by_length[len(sequences[index])]) >= STEADY)
        self._known.update((keys[index], out[index].tobytes()) for index in steady)
        if rest := sorted(set(range(len(sequences))) - set(asked)):
            remembered = b"".join(self._known[keys[index]] for index in rest)
            out[rest] = np.frombuffer(remembered, dtype=np.float32).reshape(len(rest), -1)
        for old in list(self._known)[: max(len(self._known) - self._most, 0)]:
            del self._known[old]
        return out

    def _to_ask(self, indices: Sequence[int], keys: Sequence[bytes]) -> list[int]:
        """Of sequences of one length, those that are not known, with others so that the batch is not small."""
        if len(indices) < STEADY:
            return list(indices)
        first = {keys[index]: index for index in reversed(indices) if keys[index] not in self._known}
        new = set(first.values())
        others = (index for index in indices if index not in new)
        return [*first.values(), *islice(others, max(STEADY - len(new), 0))] if new else []


def embeddings_of(model: Any) -> np.ndarray:
    """The model's table of input embeddings [tokens, width], float32; on a CPU, in the model's own memory."""
    table: np.ndarray = whole(model.get_input_embeddings().weight.detach()).float().cpu().numpy()
    return table


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
