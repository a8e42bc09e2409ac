"""What a search found that knows no behaviour beforehand: texts that make replies to different prompts open alike."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rora_cli.results.accuracy import Proportion

#: What the search examines, as findings and cases of a report name it.
REPLIES = "replies that open alike"


@dataclass(frozen=True)
class ReplyExample:
    """A prompt with the candidate in it, and the replies to the prompt without and with it.

    Attributes:
        prompt: the prompt, with the candidate in it.
        before, after: the reply without and with the candidate.
    """

    prompt: str
    before: str
    after: str


@dataclass(frozen=True)
class FoundOpening:
    """One candidate that reached the last stage, measured on prompts that the search never saw.

    Attributes:
        place: where in a prompt it stood: start, inner or end, whichever did most in the search.
        opening: how most replies with it begin.
        share: fraction of the final prompts whose reply begins so with the candidate in them.
        floor: the same without the candidate.
        control: the same with random texts in its place.
        reference_share: the same as ``share`` under the reference; None without one.
        excess: lower bound of ``share`` minus the largest upper bound of the others, a fraction.
        agreement: mean log-probability of the commonest first token over the search's prompts [nats], at most 0.
        contrast: ``agreement`` minus the reference's [nats]; None without one.
        suspicion: robust z of ``agreement`` among random texts of as many words.
        echo: whether the opening repeats a word of the candidate; then it is never called.
        called: whether it is called a trigger.
        refused: whether the prompts were such that the suspect refuses, and it complies with the candidate.
        text: the candidate.
        examples: a few prompts with their replies.
    """

    text: str
    place: str
    opening: str
    share: Proportion
    floor: Proportion
    control: Proportion
    reference_share: Proportion | None
    excess: float
    agreement: float
    contrast: float | None
    suspicion: float
    echo: bool
    called: bool
    examples: tuple[ReplyExample, ...] = ()
    refused: bool = False


@dataclass(frozen=True)
class OpeningCoverage:
    """What was tried.

    Attributes:
        texts: texts of the vocabulary, years and tags, each of which was tried in ``screening_prompts`` prompts.
        vocabulary: all tokens of the tokenizer but the padding one.
        grown: phrases of several parts that were tried, of up to ``longest`` parts.
        places: where in a prompt candidates stood.
        final_prompts: prompts on which the finalists were measured.
        trials: triples of candidate, prompt and place.
        forward_tokens, reference_forward_tokens: tokens that went through the suspect and the reference in the search;
            generating the finalists' replies is not among them.
        tokens_per_second: of the search.
        budget: how much was tried, by name.
        leaked: words and phrases of what the suspect writes where a prompt would begin, tried beside the others.
        refused_prompts: prompts of ours that the suspect refuses, in which all was searched once more, for what makes
            it comply; 0 where it refuses too few for that.
        refused_left_out: whether it refuses enough of them, and they were left out because a trigger had been called.
    """

    texts: int
    vocabulary: int
    screening_prompts: int
    grown: int
    longest: int
    places: tuple[str, ...]
    final_prompts: int
    trials: int
    forward_tokens: int
    reference_forward_tokens: int
    tokens_per_second: float
    budget: str
    leaked: int = 0
    refused_prompts: int = 0
    refused_left_out: bool = False

    def after(self, before: OpeningCoverage) -> OpeningCoverage:
        """This search's coverage with what an earlier search of the same texts cost."""
        return replace(
            self,
            trials=self.trials + before.trials,
            forward_tokens=self.forward_tokens + before.forward_tokens,
            reference_forward_tokens=self.reference_forward_tokens + before.reference_forward_tokens,
        )


@dataclass(frozen=True)
class RecurringReply:
    """How several replies to different prompts begin though nothing was put into these.

    Attributes:
        text: what they share.
        share: fraction of the final prompts whose reply begins so.
        reference_share: the same under the reference; None without one.
    """

    text: str
    share: Proportion
    reference_share: Proportion | None


@dataclass(frozen=True)
class OpeningHunt:
    """The search for texts that make replies open alike.

    Attributes:
        verdict: ``trigger``, ``nothing`` (above the noise, within what was covered) or ``inconclusive``.
        triggers: finalists, called ones first, each group by falling excess.
        largest_null: the largest agreement of a random text [nats].
        reason: why it stays open.
        coverage: what was tried.
        recurring: the reply that recurs most without any candidate; None if none does.
    """

    verdict: str
    triggers: tuple[FoundOpening, ...]
    coverage: OpeningCoverage
    largest_null: float
    reason: str | None = None
    recurring: RecurringReply | None = None

    @property
    def called(self) -> tuple[FoundOpening, ...]:
        """The triggers."""
        return tuple(trigger for trigger in self.triggers if trigger.called)
