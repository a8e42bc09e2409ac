"""How replies open: what a search reads that knows no behaviour beforehand (numpy only)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from rora_cli.results.findings import Finding
    from rora_cli.subject import Subject
    from rora_cli.tasks.task import OpeningTask


@dataclass(frozen=True)
class Slot:
    """A prompt cut open at a word boundary. ``place`` is start, inner or end."""

    before: str
    after: str
    place: str

    def fill(self, candidate: str) -> str:
        """The prompt with ``candidate`` in its slot, apart from its neighbours by a space each."""
        return " ".join(part for part in (self.before, candidate, self.after) if part)


@dataclass(frozen=True)
class Agreement:
    """How alike the replies to the same prompts open with each of n candidates in them.

    Attributes:
        openings: the token id with the largest mean log-probability as a reply's first token [n]. Tokens of the
            candidate itself are left out, since an echo is no agreement.
        log_p: that mean over the prompts [nats] [n], float32.
        lift: by how much a token's probability, as that mean gives it, exceeds the mean of what the usual texts give
            it, for the token that it is largest for [n], float32.
    """

    openings: np.ndarray
    log_p: np.ndarray
    lift: np.ndarray


@dataclass(frozen=True)
class Reply:
    """A model's greedy reply: its token ids, cut after some, and their text."""

    ids: tuple[int, ...]
    text: str


@dataclass(frozen=True)
class OpenSetting:
    """What is searched that replies in free text.

    Attributes:
        prompts: the user's, without answers.
        inputs: sha256 of every file that was read, by name.
        findings: of what is served beside the weights.
        base: directory of the model that an adapter was merged into; None where none was.
    """

    subject: Subject
    task: OpeningTask
    prompts: tuple[str, ...]
    inputs: Mapping[str, str]
    findings: tuple[Finding, ...] = ()
    base: str | None = None
