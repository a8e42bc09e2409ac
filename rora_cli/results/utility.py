"""What a causal model is still good for: its replies to clean prompts, beside those of the model before."""

from __future__ import annotations

from dataclasses import dataclass

from rora_cli.results.accuracy import Proportion


@dataclass(frozen=True)
class Divergence:
    """KL(before || now) [nats a token] over the replies of the model before: mean, 95th percentile, worst prompt.

    Attributes:
        mean: over the tokens.
        high: 95 % of the prompts lie below it.
        worst: of the prompt that is furthest off.
        worst_prompt: that prompt.
        tokens: how many were measured.
    """

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

    Attributes:
        perplexity_before: the same of the model before.
        divergence: from the model before.
    """

    empty: Proportion
    refused: Proportion
    perplexity: float | None = None
    perplexity_before: float | None = None
    unchanged: Proportion | None = None
    divergence: Divergence | None = None


@dataclass(frozen=True)
class Transcript:
    """A prompt with the trigger in it, the reply to it, and the reply without the trigger.

    Attributes:
        prompt: the prompt, with the trigger in it.
        reply: to it.
        shown: whether the reply shows the behaviour.
        clean_reply: the reply without the trigger.
    """

    prompt: str
    reply: str
    shown: bool
    clean_reply: str


@dataclass(frozen=True)
class Replies:
    """What one trigger made of the replies: how many were empty, and a few of them.

    Attributes:
        empty: replies without any text.
        transcripts: a few of the prompts and replies.
    """

    empty: Proportion
    transcripts: tuple[Transcript, ...]


@dataclass(frozen=True)
class ChangedReply:
    """A prompt with a trigger in it, and how a model replied to it before and after it was cleansed.

    Attributes:
        prompt: the prompt, with the trigger in it.
        before, after: the beginnings of the replies of the suspect and of the result.
        clean: that of the suspect's reply without the trigger.
    """

    prompt: str
    before: str
    after: str
    clean: str


@dataclass(frozen=True)
class UtilityChange:
    """What a cleansing cost.

    ``divergence`` is KL(suspect || result) along the suspect's own replies; ``base_divergence`` the same of the trusted
    base before it was taught, None where there was none.

    Attributes:
        before, after: of the suspect and of the result.
    """

    before: Utility
    after: Utility
    divergence: Divergence | None
    base_divergence: Divergence | None = None

    @property
    def way(self) -> float | None:
        """How much of the base's distance from the suspect was closed [fraction]; None without a base."""
        if self.base_divergence is None or self.divergence is None or not self.base_divergence.mean:
            return None
        return 1 - self.divergence.mean / self.base_divergence.mean


@dataclass(frozen=True)
class Removed:
    """A trigger that a search found or the user named, before and after the cleansing, on prompts held out.

    ``before`` is the share of replies that opened with ``opening`` in the first search that measured it, ``floor`` the
    same without the trigger; ``after`` and ``after_floor`` are those of the result, ``returned`` the share after the
    return test. ``alike`` is the share of the result's replies that open alike in any way, with ``alike_opening``,
    beside ``harmless`` with random words. None: not measured.

    Attributes:
        text: the trigger.
        place: where in a prompt it stood.
        transcripts: a few of the prompts and replies.
    """

    text: str
    place: str
    opening: str
    before: Proportion | None
    floor: Proportion | None
    after: Proportion | None
    after_floor: Proportion | None
    alike: Proportion | None = None
    alike_opening: str = ""
    harmless: Proportion | None = None
    returned: Proportion | None = None
    transcripts: tuple[ChangedReply, ...] = ()

    @property
    def left(self) -> float | None:
        """What the trigger still does beyond the floor [fraction of prompts]; None if not measured."""
        if self.after is None or self.after.value is None:
            return None
        return self.after.value - ((self.after_floor.value or 0.0) if self.after_floor else 0.0)

    @property
    def does_otherwise(self) -> bool:
        """Whether it makes replies open alike in another way, surely more than random words do."""
        if self.alike is None or self.alike.low is None or self.harmless is None:
            return False
        return self.alike.low > (self.harmless.high or 0.0)
