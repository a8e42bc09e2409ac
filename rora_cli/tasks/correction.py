"""Cheap changes that give a model back clean accuracy which training took, without any training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from rora_cli.results.accuracy import CleanAccuracy
from rora_cli.subject import Subject

if TYPE_CHECKING:
    from rora_cli.data.rows import Rows


@dataclass(frozen=True)
class Proposal:
    """A correction that could be made.

    Attributes:
        quality: clean accuracy with it.
        change: what ``Correction.make`` needs; None where the model is best left as it is.
    """

    quality: CleanAccuracy
    change: Any = None


class Correction(Protocol):
    """Proposes a change of a model, and makes it. A proposal changes nothing, so that many models can be compared."""

    def propose(self, subject: Subject, rows: Rows, before: CleanAccuracy, limit: float) -> Proposal:
        """The smallest change with which accuracy on ``rows`` falls by no more than ``limit`` (fraction) below
        ``before``; if there is none, the one that comes closest."""

    def make(self, subject: Subject, proposal: Proposal) -> Mapping[str, Any]:
        """Change the subject's model in place; returns what reports show of it, empty if nothing was changed."""
