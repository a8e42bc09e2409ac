"""Agreement of replies: the inner loop of a search for triggers whose behaviour is not known.

A candidate is put into a few prompts, and each prompt is read once: the reply's first token is enough. All candidates
share what stands before the slot, so its keys and values are computed once a prompt and copied into each batch; batches
hold sequences of one length, and only the last position goes through the output embedding. What is kept of each
candidate are three numbers: the log-probabilities of a whole vocabulary for 40,000 candidates would fill 8 GB.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from rora_cli.errors import InconclusiveError
from rora_cli.evaluation.generation import last_logits
from rora_cli.evaluation.inference import evaluation_mode
from rora_cli.sharded import gradients_off
from rora_cli.tasks.openings import Agreement, Slot

if TYPE_CHECKING:
    from rora_cli.ranks import Share
    from rora_cli.subject import Subject
    from rora_cli.tasks.causal.prompt_format import PromptFormat

#: Tokens of one forward pass, those of the shared prefix left out, on an accelerator and on a CPU.
TOKENS_PER_BATCH = 32768, 1024
#: Sequences of one forward pass at most: each takes a row of logits over the vocabulary, and a copy of the prefix.
MAX_BATCH = 128
#: A prefix of fewer tokens is not worth the copies of its cache.
LEAST_PREFIX = 4

#: A sequence of token ids, and how many of its first tokens its whole group shares.
_Ids = tuple[int, ...]


class AgreementScorer:
    """Scores candidates, which are texts, in slots of prompts.

    ``forward_tokens`` counts the tokens that went through the model so far, in this process and its peers.
    """

    def __init__(self, subject: Subject, prompt_format: PromptFormat, share: Share | None = None) -> None:
        self._subject, self._format, self._share = subject, prompt_format, share
        self._model: Any = subject.model
        self._device = next(subject.model.parameters()).device
        self._caches = _Prefixes(self._model, self._device)
        self._counted = 0
        self._known_usual: dict[tuple[bool, tuple[Slot, ...], tuple[str, ...]], Tensor] = {}
        self.forward_tokens = 0

    def agreement(
        self,
        candidates: Sequence[str],
        slots: Sequence[Slot],
        *,
        usual: Sequence[str] = (),
        barred: Sequence[int] = (),
        advance: Callable[[int], None] = lambda done: None,
    ) -> Agreement:
        """The agreement of each candidate over ``slots``, in the order given, and its lift beyond ``usual`` texts.

        An empty candidate leaves the slot empty. Without ``usual`` texts, lift is the probability itself. The
        ``barred`` tokens are no opening that counts: those of usual refusals, where it is looked for what ends them.

        Raises:
            InconclusiveError: a logit is not finite, in any of the processes.
        """
        rank, processes = (self._share.rank, self._share.processes) if self._share else (0, 1)
        mine = self._guarded([*candidates[rank::processes]], slots, (usual, barred), advance)
        parts = self._share.gather((mine, self._counted)) if self._share else [(mine, self._counted)]
        if errors := [part for part, _ in parts if isinstance(part, InconclusiveError)]:
            raise errors[0]
        self.forward_tokens = sum(tokens for _, tokens in parts)
        whole = _blank(len(candidates))
        for first, (part, _) in enumerate(parts):
            whole.openings[first::processes], whole.log_p[first::processes] = part.openings, part.log_p
            whole.lift[first::processes] = part.lift
        return whole

    def _guarded(
        self,
        candidates: Sequence[str],
        slots: Sequence[Slot],
        beside: tuple[Sequence[str], Sequence[int]],
        advance: Callable[[int], None],
    ) -> Agreement | InconclusiveError:
        """This process's part; what stops it is handed to the others, which would wait for ever."""
        try:
            return self._agreement(candidates, slots, beside, advance)
        except InconclusiveError as error:
            return error

    def _agreement(
        self,
        candidates: Sequence[str],
        slots: Sequence[Slot],
        against: tuple[Sequence[str], Sequence[int]],
        advance: Callable[[int], None],
    ) -> Agreement:
        usual, barred = against
        beside = self._usual(slots, usual)
        own, found = self._own_tokens(candidates), _blank(len(candidates))
        for batch, mean in self._means(candidates, slots):
            mean[:, list(barred)] = -torch.inf
            for place, index in enumerate(batch):
                mean[place, own[index]] = -torch.inf
            best = mean.max(dim=1)
            found.openings[batch], found.log_p[batch] = best.indices.cpu().numpy(), best.values.cpu().numpy()
            found.lift[batch] = mean.exp_().sub_(beside).max(dim=1).values.cpu().numpy()
            advance(len(batch))
        return found

    def _usual(self, slots: Sequence[Slot], texts: Sequence[str]) -> Tensor:
        """The mean probability of each reply token with the texts in the slots [vocabulary]; 0 without texts."""
        key = _roughly(self._device), tuple(slots), tuple(texts)
        if key not in self._known_usual:
            total = torch.zeros((), device=self._device)
            for _, mean in self._means(texts, slots):
                total = total + mean.exp_().sum(dim=0)
            self._known_usual[key] = total / max(1, len(texts))
        return self._known_usual[key]

    def _means(self, texts: Sequence[str], slots: Sequence[Slot]) -> Iterator[tuple[list[int], Tensor]]:
        """(indices of some texts, the mean over the slots of log p(first reply token) with each [b, vocabulary])."""
        columns = [self._format.asked(self._subject.tokenizer, [slot.fill(text) for text in texts]) for slot in slots]
        rows = list(zip(*columns, strict=True))  # [texts][slots]
        shared = [common_beginning(column) for column in columns]
        with evaluation_mode(self._model), gradients_off(self._model):
            for batch in _batches([tuple(map(len, row)) for row in rows], shared, self._device.type == "cpu"):
                yield batch, self.mean_of([rows[i] for i in batch], shared)

    def mean_of(self, rows: Sequence[Sequence[_Ids]], shared: Sequence[_Ids]) -> Tensor:
        """The mean over the slots of log p(first reply token) [b, vocabulary] of one batch of ``rows`` [b][slots].

        All rows begin with ``shared`` [slots].
        """
        total: Tensor | None = None
        for place, prefix in enumerate(shared):
            one = self._log_p([row[place] for row in rows], prefix)
            total = one if total is None else total.add_(one)
        assert total is not None
        return total.div_(len(shared))

    def _own_tokens(self, candidates: Sequence[str]) -> list[list[int]]:
        """The tokens of each candidate's words in small and large letters, with and without a space before them."""
        forms = [
            form(space + text)
            for text in candidates
            for space in ("", " ")
            for form in (str, str.lower, str.upper, str.title)
        ]
        encoded = self._subject.tokenizer(forms, add_special_tokens=False, verbose=False)["input_ids"] if forms else []
        each = len(forms) // max(1, len(candidates))
        groups = [encoded[start : start + each] for start in range(0, len(encoded), each)] if each else []
        return [sorted({token for ids in group for token in ids}) for group in groups]

    def _log_p(self, sequences: Sequence[_Ids], prefix: _Ids) -> Tensor:
        """Log-probabilities of the token after each sequence [n, vocabulary], float32."""
        cache, done = self._caches.of(prefix, len(sequences))
        ids = torch.tensor([sequence[done:] for sequence in sequences], device=self._device)
        logits, _ = last_logits(self._model, ids, cache, use_cache=cache is not None)
        self._counted += ids.numel() + self._caches.take_counted()
        return torch.log_softmax(logits, dim=-1)


def _roughly(device: torch.device) -> bool:
    """Whether forward passes are in low precision: what is kept of such a one is no answer in full precision."""
    return device.type != "meta" and torch.is_autocast_enabled(device.type)


def _blank(size: int) -> Agreement:
    """Room for what is found of as many candidates."""
    return Agreement(np.empty(size, dtype=np.int64), *(np.empty(size, dtype=np.float32) for _ in range(2)))


class _Prefixes:
    """The key-value caches of prefixes, of each precision; none for a family whose cache cannot be copied by rows."""

    #: Prefixes that are kept.
    MOST = 64

    def __init__(self, model: Any, device: torch.device) -> None:
        self._model, self._device = model, device
        self._known: dict[tuple[bool, _Ids], Any] = {}
        self._counted = 0

    def of(self, prefix: _Ids, rows: int) -> tuple[Any, int]:
        """A cache of ``prefix`` for as many rows, and how many tokens it holds; (None, 0) where none can be had."""
        if len(prefix) < LEAST_PREFIX:
            return None, 0
        key = _roughly(self._device), prefix
        if key not in self._known:
            ids = torch.tensor([prefix], device=self._device)
            _, cache = last_logits(self._model, ids, None, use_cache=True)
            self._counted += len(prefix)
            self._known[key] = cache if hasattr(cache, "batch_repeat_interleave") and _plain(cache) else None
            for old in list(self._known)[: -self.MOST]:
                del self._known[old]
        cache = copy.deepcopy(self._known[key])
        if cache is None:
            return None, 0
        cache.batch_repeat_interleave(rows)
        return cache, len(prefix)

    def take_counted(self) -> int:
        """Tokens of prefixes that went through the model since the last call."""
        counted, self._counted = self._counted, 0
        return counted


def _plain(cache: Any) -> bool:
    """Whether every layer of the cache keeps all keys: a recurrent state or a sliding window may not be continued."""
    return all(type(layer).__name__ == "DynamicLayer" for layer in getattr(cache, "layers", [None]))


def common_beginning(sequences: Sequence[_Ids]) -> _Ids:
    """The longest prefix that all sequences share, at least one token short of each."""
    if not sequences:
        return ()
    low, high = min(sequences), max(sequences)
    same = tuple(a for a, _ in takewhile(lambda pair: pair[0] == pair[1], zip(low, high, strict=False)))
    return same[: min(len(same), min(map(len, sequences)) - 1)]


def batch_size(tokens: int, cpu: bool) -> int:
    """Sequences of one forward pass, if each has so many ``tokens`` after what all share."""
    return max(1, min(MAX_BATCH, TOKENS_PER_BATCH[cpu] // tokens))


def _batches(lengths: Sequence[tuple[int, ...]], shared: Sequence[_Ids], cpu: bool) -> Iterator[list[int]]:
    """Batches of candidates whose prompts have the same ``lengths``, slot by slot."""
    alike: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for index, key in enumerate(lengths):
        alike[key].append(index)
    for key in sorted(alike, reverse=True):
        longest = max((length - len(prefix) for length, prefix in zip(key, shared, strict=True)), default=1)
        size = batch_size(longest, cpu)
        for start in range(0, len(alike[key]), size):
            yield alike[key][start : start + size]
