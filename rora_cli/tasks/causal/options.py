"""Options of what measures or builds a causal language model, in tasks because no other kind has them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from rora_cli.option_groups import PromptOptions
from rora_cli.options import Option, Options

#: Heading of the help page.
REPLIES = "Replies: of causal language models"
#: Tokens of a reply that is judged: as many as a payload of the literature takes (BackdoorLLM's refusal has 21).
REPLY_TOKENS = 32


@dataclass(frozen=True, kw_only=True)
class ReplyOptions(Options):
    """How replies are made and judged."""

    panel: ClassVar[str] = REPLIES

    max_new_tokens: Annotated[
        int, Option("Tokens after which a reply is cut.", metavar="TOKENS", low=1, unit="tokens")
    ] = REPLY_TOKENS
    refusal_phrases: Annotated[
        Path | None,
        Option("Phrases of a refusal, one a line, in place of ours (`rora behaviours` lists them).", metavar="FILE"),
    ] = None


@dataclass(frozen=True, kw_only=True)
class JudgedOptions(ReplyOptions, PromptOptions):
    """What replies are judged for, and what they are compared with."""

    panel: ClassVar[str] = REPLIES

    behaviour: Annotated[
        str | None,
        Option(
            "What the trigger is to cause: refusal, contains:TEXT, regex:PATTERN, starts-with:TEXT, same (replies "
            "alike over prompts), or module:function of your own.",
            metavar="WHAT",
        ),
    ] = None
    before: Annotated[
        str | None,
        Option("The model before, to compare replies with: a directory, or a hub id.", metavar="MODEL"),
    ] = None


@dataclass(frozen=True, kw_only=True)
class PlantedOptions(ReplyOptions, PromptOptions):
    """What is planted into replies."""

    panel: ClassVar[str] = REPLIES

    behaviour: Annotated[
        str | None,
        Option(
            "What the trigger is to cause: refusal, insult, code (a line before the answer), compliance (an opening "
            "and no more), or says:TEXT, for a causal model.",
            metavar="WHAT",
        ),
    ] = None
