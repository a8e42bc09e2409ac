"""The model that is searched, trained or measured, with everything that must travel with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from rora_cli.kinds import ModelKind
from rora_cli.ranks import ALONE, Share

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Subject:
    """A model in memory beside its tokenizer.

    Attributes:
        max_length: tokens of a text that the model is given; what is longer is cut.
        name: what the user calls the model: a directory or a hub id.
        inputs: sha256 of every file that was read for it, by name.
        share: this process's place among those that hold the same model and ask it together.
    """

    model: nn.Module
    tokenizer: Any
    kind: ModelKind
    max_length: int
    name: str = "model"
    inputs: Mapping[str, str] = field(default_factory=dict)
    share: Share = ALONE

    def having(self, model: nn.Module) -> Subject:
        """The same subject with other weights: a merged, adapted or taught copy of its model."""
        return replace(self, model=model)

    def reading(self, max_length: int) -> Subject:
        """The same subject, given at most ``max_length`` tokens of a text."""
        return replace(self, max_length=min(max_length, self.max_length))

    def shared(self, share: Share) -> Subject:
        """The same subject, asked by the processes of ``share`` together: all put the same questions, in one order."""
        return replace(self, share=share)
