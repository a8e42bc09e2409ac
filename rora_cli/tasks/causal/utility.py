"""Utility of a causal model on clean prompts, beside the model before it.

KL is taken over whole replies, because the first token's alone misses what degrades later.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from rora_cli.data.exchanges import Exchange
from rora_cli.evaluation.generation import reply_batches
from rora_cli.evaluation.intervals import proportion
from rora_cli.results.utility import Divergence, Utility
from rora_cli.subject import Subject
from rora_cli.tasks.causal.behaviours import REFUSALS, find_behaviour

if TYPE_CHECKING:
    from rora_cli.data.rows import Rows
    from rora_cli.tasks.causal.task import Generation

#: Share of the prompts below which the worst twentieth begins.
_HIGH = 0.95


def measure_utility(
    task: Generation,
    subject: Subject,
    rows: Rows,
    replies: Sequence[str],
    *,
    before: Subject | None = None,
    phrases: Sequence[str] = REFUSALS,
) -> Utility:
    """Utility by the subject's own ``replies`` [n] to the prompts of ``rows``; beside ``before``, if it is given.

    ``phrases`` are those of a refusal.

    Raises:
        InconclusiveError: a logit is not finite.
    """
    refusal = find_behaviour("refusal", phrases)
    benign = [not wanted for wanted in refusal.shown(rows.texts, [answer or "" for answer in rows.labels])]
    refused = [shown and fine for shown, fine in zip(refusal.shown(rows.texts, replies), benign, strict=True)]
    plain = Utility(
        empty=proportion(sum(not reply.strip() for reply in replies), len(replies)),
        refused=proportion(sum(refused), sum(benign)),
        perplexity=perplexity(task, subject, rows),
    )
    if before is None:
        return plain
    earlier = task.replies(before, rows.texts)
    same = sum(mine == theirs for mine, theirs in zip(replies, earlier, strict=True))
    return replace(
        plain,
        perplexity_before=perplexity(task, before, rows),
        unchanged=proportion(same, len(replies)),
        divergence=divergence(task, before, subject, rows.texts, earlier),
    )


def perplexity(task: Generation, subject: Subject, rows: Rows) -> float | None:
    """exp of the mean cross-entropy [nats a token] of the good answers; None if no row has one that fits."""
    encoded = [row for row in encoded_replies(task, subject, rows) if row is not None]
    total, tokens = 0.0, 0
    for _, targets, log_p in reply_batches(subject.model, encoded):
        total -= float(log_p.gather(-1, targets[..., None]).sum())
        tokens += targets.numel()
    return math.exp(min(total / tokens, 700.0)) if tokens else None


def encoded_replies(task: Generation, subject: Subject, rows: Rows) -> list[tuple[tuple[int, ...], int] | None]:
    """Ids of each prompt that has a good answer with it, and where that begins; None where nothing of it fits."""
    asked = [(text, answer) for text, answer in zip(rows.texts, rows.labels, strict=True) if answer]
    return _encoded(task, subject, asked, given=True)


def divergence(
    task: Generation, before: Subject, now: Subject, texts: Sequence[str], replies: Sequence[str]
) -> Divergence | None:
    """KL(before || now) over the replies [n] of the model before to ``texts`` [n]; None if all are empty."""
    asked = [(text, reply) for text, reply in zip(texts, replies, strict=True) if reply.strip()]
    rows = _encoded(task, before, asked, given=False)
    fitting = [(row, text) for row, (text, _) in zip(rows, asked, strict=True) if row is not None]
    if not fitting:
        return None
    encoded = [row for row, _ in fitting]
    means, tokens, total = np.zeros(len(encoded)), 0, 0.0
    pairs = zip(reply_batches(before.model, encoded), reply_batches(now.model, encoded), strict=True)
    for (batch, targets, p), (_, _, q) in pairs:
        kl = (p.exp() * (p - q)).sum(dim=-1)
        means[batch] = kl.mean(dim=1).cpu().numpy()
        tokens += targets.numel()
        total += float(kl.sum())
    worst = int(means.argmax())
    return Divergence(total / tokens, float(np.quantile(means, _HIGH)), float(means[worst]), fitting[worst][1], tokens)


def _encoded(
    task: Generation, subject: Subject, asked: Sequence[tuple[str, str]], *, given: bool
) -> list[tuple[tuple[int, ...], int] | None]:
    """Ids of each prompt with its reply, and where that begins; None where the limit leaves nothing of the reply.

    ``given`` replies are from data, and end; others are the model's own, which may have been cut.
    """
    form = task.prompt_format
    exchanges = [Exchange(text, form.given(reply) if given else reply) for text, reply in asked]
    rows = [(row.ids[: subject.max_length], row.start) for row in form.encode_all(subject.tokenizer, exchanges)]
    return [(ids, start) if len(ids) > start else None for ids, start in rows]
