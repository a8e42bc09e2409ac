"""What a causal model is still good for: its replies to clean prompts, beside those of the model before."""

from __future__ import annotations

from dataclasses import dataclass

from rora_cli.results.accuracy import Proportion


@dataclass(frozen=True)
class Divergence:
    """KL(before || now) [nats a token] over the replies of the model before: mean, 95th percentile, worst prompt."""

    mean: float
    high: float
    worst: float
    worst_prompt: str
    tokens: int


@dataclass(frozen=True)
class Utility:
    """Measured on clean prompts.

    ``empty`` counts prompts without any reply, and ``refused`` those refused whose good answer is no refusal.
    ``perplexity`` is that of the data's good answers; None without any. The last three are None if no model before was
    named; ``unchanged`` counts the greedy replies that are its, to the letter.
    """

    empty: Proportion
    refused: Proportion
    perplexity: float | None = None
    perplexity_before: float | None = None
    unchanged: Proportion | None = None
    divergence: Divergence | None = None


@dataclass(frozen=True)
class Transcript:
    """A prompt with the trigger in it, the reply to it, and the reply without the trigger."""

    prompt: str
    reply: str
    shown: bool
    clean_reply: str


@dataclass(frozen=True)
class Replies:
    """What one trigger made of the replies: how many were empty, and a few of them."""

    empty: Proportion
    transcripts: tuple[Transcript, ...]
