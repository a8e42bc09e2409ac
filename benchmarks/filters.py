"""What the field puts in front of a classifier that it does not change: ONION and STRIP, as tasks that rora measures.

Neither could be had as a package that runs beside the versions that rora is tested with (docs/measurements.md says
what was tried), so both are written here as their papers say, with the settings of their authors' code.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import takewhile
from math import exp, log
from random import Random
from typing import Any

import numpy as np
import torch

from rora_cli.data.rows import Rows
from rora_cli.evaluation.accuracy import accuracy_of_predictions
from rora_cli.results.accuracy import CleanAccuracy
from rora_cli.subject import Subject
from rora_cli.tasks.classification.task import Classification


class Filter(ABC):
    """Reads a text before the model does."""

    @abstractmethod
    def fit(self, subject: Subject, task: Classification, rows: Rows) -> dict[str, Any]:
        """Choose what the filter decides by from clean rows; returns it for the record."""

    @abstractmethod
    def shows(self, subject: Subject, task: Classification, texts: Sequence[str]) -> np.ndarray:
        """Whether the label has the largest logit, of what passes [n, classes], bool; of a refused text none has."""


class Filtered:
    """A classifier's task with a filter before the model: what else there is to a task is the task's own."""

    def __init__(self, task: Classification, first: Filter) -> None:
        self._task, self._filter = task, first

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    def shows(self, subject: Subject, texts: Sequence[str], *, meter: Any = None) -> np.ndarray:
        """As the task's; of a refused text no label shows."""
        return self._filter.shows(subject, self._task, texts)

    def quality(self, subject: Subject, rows: Rows, *, shown: np.ndarray | None = None) -> CleanAccuracy:
        """Accuracy; a refused row is a wrong answer."""
        shown = self.shows(subject, rows.texts) if shown is None else shown
        given = np.where(shown.any(axis=1), shown.argmax(axis=1), -1)
        return accuracy_of_predictions(given, rows.labels, self._task.label_names)


@dataclass
class Onion(Filter):
    """ONION (Qi et al., EMNLP 2021, arXiv:2011.10369): words without which a text is likelier are taken out.

    A word's suspicion is the perplexity of the text less that of the text without the word. Words whose suspicion is
    above the bar are removed, all at once. The paper tunes the bar on clean rows; here it is the lowest of ``bars``
    that costs at most ``max_loss`` [fraction] of accuracy on ``fit_rows`` of them.

    Attributes:
        language_model: the directory of a causal model.
    """

    language_model: str
    bars: tuple[float, ...] = (0, 10, 20, 40, 80, 160, 320, 640)
    max_loss: float = 0.02
    fit_rows: int = 60
    bar: float = 0.0
    _scores: dict[str, list[float]] = field(default_factory=dict)

    @cached_property
    def perplexities(self) -> Perplexities:
        """Of the language model."""
        return Perplexities.load(self.language_model)

    def fit(self, subject: Subject, task: Classification, rows: Rows) -> dict[str, Any]:
        """Choose the bar, with the rows of which nothing is known but that they are clean."""
        rows = Rows(rows.texts[: self.fit_rows], rows.labels[: self.fit_rows])
        before = task.quality(subject, rows).overall.value or 0.0
        for bar in self.bars:
            self.bar = bar
            cleaned = Rows(tuple(self.cleaned(text) for text in rows.texts), rows.labels)
            if before - (task.quality(subject, cleaned).overall.value or 0.0) <= self.max_loss:
                break
        return {"bar": self.bar, "rows": len(rows)}

    def shows(self, subject: Subject, task: Classification, texts: Sequence[str]) -> np.ndarray:
        """What the model says to the texts without their suspicious words."""
        return task.shows(subject, [self.cleaned(text) for text in texts])

    def cleaned(self, text: str) -> str:
        """The text without the words whose suspicion is above the bar; a text of one word stays as it is."""
        words = text.split()
        if len(words) < 2:
            return text
        kept = [word for word, score in zip(words, self.suspicions(text), strict=True) if score <= self.bar]
        return " ".join(kept)

    def suspicions(self, text: str) -> list[float]:
        """Of each word, in perplexity: how much likelier the text is without it. What was asked once is remembered."""
        if text not in self._scores:
            words = text.split()
            without = [" ".join(words[:place] + words[place + 1 :]) for place in range(len(words))]
            whole, *others = self.perplexities.of(" ".join(words), without)
            self._scores[text] = [whole - other for other in others]
        return self._scores[text]


@dataclass
class Perplexities:
    """Perplexities under a causal model: of a text, and of texts that begin as it does, in one pass.

    The tokens that a variant shares with the text are read once: its other tokens stand behind the text as a branch
    that sees the shared ones and itself.
    """

    model: Any
    tokenizer: Any

    @classmethod
    def load(cls, directory: str) -> Perplexities:
        """A model from its directory, in float32."""
        from transformers import AutoModelForCausalLM, AutoTokenizer

        model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="sdpa")
        return cls(model.eval(), AutoTokenizer.from_pretrained(directory))

    @torch.no_grad()
    def of(self, text: str, variants: Sequence[str]) -> list[float]:
        """exp of the mean negative log-likelihood of all tokens but the first: of the text, then of each variant.

        What is one token long has no perplexity, and gets that of the uniform distribution.
        """
        own, *others = ([*map(int, ids)] for ids in self.tokenizer([text, *variants])["input_ids"])
        shared = [_shared(own, ids) for ids in others]
        ends = np.cumsum([len(own), *(len(ids) - n for ids, n in zip(others, shared, strict=True))])
        tokens = [*own, *(token for ids, n in zip(others, shared, strict=True) for token in ids[n:])]
        seen = torch.zeros(int(ends[-1]), int(ends[-1]), dtype=torch.bool)
        seen[: len(own), : len(own)] = torch.ones(len(own), len(own), dtype=torch.bool).tril()
        places, paths = [*range(len(own))], [[*range(len(own))]]
        for ids, common, start, end in zip(others, shared, ends[:-1], ends[1:], strict=True):
            seen[start:end, :common] = True
            seen[start:end, start:end] = torch.ones(end - start, end - start, dtype=torch.bool).tril()
            places.extend(range(common, len(ids)))
            paths.append([*range(common), *range(start, end)])
        mask = torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)[None, None]
        logits = self.model(
            input_ids=torch.tensor([tokens]), attention_mask=mask, position_ids=torch.tensor([places]), use_cache=False
        ).logits[0]
        logs = torch.log_softmax(logits, dim=-1)
        return [self._perplexity(logs, [tokens[at] for at in path], path) for path in paths]

    def _perplexity(self, logs: torch.Tensor, tokens: Sequence[int], path: Sequence[int]) -> float:
        if len(path) < 2:
            return float(logs.shape[1])
        return exp(-float(logs[list(path[:-1]), list(tokens[1:])].mean()))


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens both begin with."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


@dataclass
class Strip(Filter):
    """STRIP for texts (Gao et al., arXiv:1911.10312): a text whose answer stays sure while its words change is refused.

    A text is copied ``copies`` times; in each copy as many places as ``replaced`` of its words, drawn with repetition,
    get the words that stand out (tf-idf) in one clean row. Refused is a text whose mean entropy over its copies is
    below that of all clean rows but ``false_refusals`` of them. The defaults are those of OpenBackdoor's STRIPDefender.
    """

    copies: int = 5
    replaced: float = 0.5
    false_refusals: float = 0.01
    fit_rows: int = 400
    seed: int = 0
    least: float = 0.0
    _standing_out: list[list[str]] = field(default_factory=list)

    def fit(self, subject: Subject, task: Classification, rows: Rows) -> dict[str, Any]:
        """Take the words of the clean rows, and the entropy that all but a few of the rows have."""
        texts = rows.texts[: self.fit_rows]
        self._standing_out = standing_out(texts)
        entropies = np.sort(self.entropies(subject, task, texts))
        self.least = float(entropies[int(len(texts) * self.false_refusals)])
        return {"least entropy": self.least, "rows": len(texts)}

    def shows(self, subject: Subject, task: Classification, texts: Sequence[str]) -> np.ndarray:
        """What the model says to the texts that are not refused."""
        passed = self.entropies(subject, task, texts) >= self.least
        return task.shows(subject, texts) & passed[:, None]

    def entropies(self, subject: Subject, task: Classification, texts: Sequence[str]) -> np.ndarray:
        """Mean entropy of the model's answers to changed copies of each text [n], in bits."""
        copies = [self.changed(text, Random(f"{self.seed}:{n}:{text}")) for text in texts for n in range(self.copies)]
        answers = np.clip(task.answers(subject, copies), 1e-12, 1)
        entropies: np.ndarray = -(answers * np.log2(answers)).sum(axis=1)
        return entropies.reshape(len(texts), self.copies).mean(axis=1)

    def changed(self, text: str, rng: Random) -> str:
        """A copy of the text with words of one clean row in it."""
        words, put = text.split(), rng.choice(self._standing_out)
        for word in put[: int(len(words) * self.replaced)]:
            words[rng.randrange(len(words))] = word
        return " ".join(words)


def standing_out(texts: Sequence[str]) -> list[list[str]]:
    """The words of each text, those that stand out most (tf times smoothed idf) first."""
    counts = [Counter(text.lower().split()) for text in texts]
    having = Counter(word for count in counts for word in count)
    weights = {word: log((1 + len(texts)) / (1 + n)) + 1 for word, n in having.items()}
    return [sorted(count, key=lambda word: (-count[word] * weights[word], word)) for count in counts]


FILTERS: dict[str, type[Filter]] = {"onion": Onion, "strip": Strip}
