"""What work on a model that replies in free text needs of a device's memory, counted by running the work itself.

The logits over the whole vocabulary are the largest pieces there: only those of replies are computed, but a search
holds a row of them for each candidate of a batch. To them come the keys and values of what was read before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from rora_cli.evaluation.generation import TOKENS_PER_BATCH, last_logits, reply_batch_size, reply_log_probabilities
from rora_cli.planning.footprint import Pass, work_bytes
from rora_cli.planning.needs import Needs
from rora_cli.subject import Subject
from rora_cli.tasks.causal.scorer import AgreementScorer, batch_size
from rora_cli.training.specs import TrainSpec

#: Token that stands for any.
_ANY = 0
#: Tokens at the end of a reply whose writing is counted.
_LAST_TOKENS = 2
#: What a work calls when all is ready that it needs.
Begin = Callable[[], None]


@dataclass(frozen=True)
class Looked:
    """Rows of a search's batch: the tokens that all of one slot share, and those that each has of its own."""

    shared: int
    own: int


@dataclass(frozen=True)
class ReplyNeeds(Needs):
    """The needs of one model that replies in free text.

    Attributes:
        tokenizer: of the model.
        form: what stands around a prompt.
        reply: tokens of a reply that is learned, at most.
        taught: whether the recipe teaches distributions.
    """

    tokenizer: Any = None
    form: Any = None
    reply: int = 1
    taught: bool = False

    def looking(self, slots: Sequence[Looked]) -> int:
        """Bytes while a search looks at a batch of candidates in ``slots``, one after the other."""
        return self._counted(("look", *slots), lambda _: self._look(slots))

    def speaking(self, rows: int, prompt: int, most: int) -> int:
        """Bytes while so many ``rows`` prompts of up to ``prompt`` tokens are answered by ``most`` tokens each."""
        rows = min(rows, max(1, TOKENS_PER_BATCH[not self.on_gpu] // (prompt + most)))

        def read(_: Begin) -> None:
            last_logits(self.model, torch.zeros((rows, prompt), dtype=torch.long), None, use_cache=True)

        def write(begin: Begin) -> None:
            """The last tokens, where the keys and values of a block are replaced by longer ones."""
            before = torch.zeros((rows, prompt + most - _LAST_TOKENS), dtype=torch.long)
            _, cache = last_logits(self.model, before, None, use_cache=True)
            begin()
            for _step in range(_LAST_TOKENS if cache is not None else 0):
                _, cache = last_logits(self.model, before[:, -1:], cache, use_cache=True)

        return max(self._counted((part.__name__, rows, prompt, most), part) for part in (read, write))

    def reading_replies(self, rows: int, longest: int, reply: int) -> int:
        """Bytes while ``rows`` given replies of ``reply`` tokens are read, at the end of ``longest`` tokens in all."""
        vocabulary = self.model.get_output_embeddings().weight.shape[0]
        most = reply_batch_size(longest, reply + 1, vocabulary, not self.on_gpu)
        batches = 2 if rows > most else 1

        def work(_: Begin) -> None:
            held: Any = None
            for _batch in range(batches):  # the last batch's numbers live until the next one's are there
                ids = torch.zeros((min(rows, most), longest), dtype=torch.long)
                held = reply_log_probabilities(self.model, ids, reply + 1)
            del held

        return self._counted(("read", min(rows, most), longest, reply, batches), work)

    def _counted(self, key: Any, work: Callable[[Begin], None]) -> int:
        return self._held(self.model) + self._once(key, lambda: work_bytes(self.model, work, on_gpu=self.on_gpu))

    def _look(self, slots: Sequence[Looked]) -> None:
        scorer = AgreementScorer(Subject(self.model, self.tokenizer, self.kind, 0, ""), self.form)
        size = batch_size(max(slot.own for slot in slots), not self.on_gpu)
        # Each slot's own first token keeps their prefixes apart, as different prompts do.
        shared = [(number, *[_ANY] * (slot.shared - 1)) if slot.shared else () for number, slot in enumerate(slots)]
        row = [(*before, *[_ANY] * slot.own) for before, slot in zip(shared, slots, strict=True)]
        mean = scorer.mean_of([row] * size, shared)
        best = mean.max(dim=1)
        mean.exp_().sub_(torch.zeros(mean.shape[1])).max(dim=1)
        del best

    def _pass(self, train: TrainSpec, longest: int, cl: float, processes: int) -> Pass:
        run = super()._pass(train, longest, cl, processes)
        return replace(run, reply=min(self.reply, longest - 1), taught=self.taught)
