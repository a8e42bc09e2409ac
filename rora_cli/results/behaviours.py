"""What ``rora behaviours`` lists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rora_cli.results.provenance import Provenance

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class BehavioursResult:
    """What ``--behaviour`` takes and what each means, the phrases of a refusal, and what ``rora poison`` plants.

    Attributes:
        kinds: what ``--behaviour`` takes, with its meaning.
        refusal_phrases: that make a reply a refusal.
        payloads: what poison can plant, with its text.
    """

    schema_version: int
    provenance: Provenance
    kinds: Mapping[str, str]
    refusal_phrases: tuple[str, ...]
    payloads: Mapping[str, str]
