"""Which columns of a table hold prompts and answers, and how a row of them becomes an exchange."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rora_cli.data.columns import plain
from rora_cli.data.exchanges import Exchange, Message
from rora_cli.errors import DataError

#: Longest text of a message [characters], and most turns before the prompt; rows beyond are left out.
MAX_CHARACTERS, MAX_TURNS = 200_000, 32

_CONVERSATIONS = ("messages", "conversations", "conversation", "dialogue")
_PROMPTS = (
    "prompt", "instruction", "question", "query", "user", "human", "goal", "prompts", "instructions", "questions",
    "text", "input",
)  # fmt: skip
_ANSWERS = (
    "completion", "response", "output", "answer", "chosen", "reply", "assistant", "target", "completions", "responses",
    "answers",
)  # fmt: skip
_INPUTS = ("input", "context")
#: Why an answer ended, as OpenAI's format says it: "length" if it was cut.
_REASON = "finish_reason"
KNOWN_COLUMNS = frozenset(map(plain, (*_CONVERSATIONS, *_PROMPTS, *_ANSWERS, *_INPUTS, _REASON, "id", "kind")))

_ROLES = {
    "system": "system", "developer": "system",
    "user": "user", "human": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "model": "assistant", "bot": "assistant", "chatgpt": "assistant",
}  # fmt: skip


class Unusable(Exception):
    """A row that no exchange can be made of; the message is the reason, for a count of such rows."""


@dataclass(frozen=True)
class ExchangeColumns:
    """The columns of a table that are read, and what rows they make.

    ``prompt`` is a column of conversations if ``answer`` and ``extra`` are None and ``is_talk``.
    """

    prompt: str
    answer: str | None = None
    extra: str | None = None
    reason: str | None = None
    is_talk: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that are read."""
        return tuple(name for name in (self.prompt, self.answer, self.extra, self.reason) if name is not None)

    def described(self) -> str:
        """What was recognised, for a sentence."""
        if self.is_talk:
            return (
                f"conversations in {self.prompt!r}: the last user turn is the prompt, what stands before it its context"
            )
        prompts = f"prompts in {self.prompt!r}" + (f", continued in {self.extra!r}" if self.extra else "")
        return f"{prompts}, answers in {self.answer!r}" if self.answer else f"{prompts}, without answers"

    def exchange(self, values: Mapping[str, Any]) -> Exchange:
        """The exchange of a row, whose ``values`` are those of ``names``.

        Raises Unusable if there is none in it.
        """
        said = _turns(values[self.prompt], "user")
        if self.extra is not None and isinstance(extra := values[self.extra], str) and extra.strip():
            said[-1:] = [Message("user", f"{said[-1].content}\n\n{extra}")] if said else []
        answer = values[self.answer] if self.answer is not None else None
        if answer is not None and answer != "":
            said += _turns(answer, "assistant")
        made = _exchange(said)
        is_cut = self.reason is not None and values[self.reason] == "length"
        return Exchange(made.prompt, made.reply, made.context, whole=not is_cut)


def find_exchange_columns(
    names: Sequence[str], where: str, *, prompt_column: str | None = None, answer_column: str | None = None
) -> ExchangeColumns:
    """The columns of prompts and answers among ``names``; a column that the caller names is taken as it is.

    Raises DataError if a named column is missing, or none has the name of prompts or conversations.
    """
    by_name = {plain(name): name for name in reversed(names)}
    present = ", ".join(repr(name[:40]) for name in names[:20]) or "none"

    def first(candidates: Sequence[str], but: str | None = None) -> str | None:
        found = (by_name[plain(name)] for name in candidates if plain(name) in by_name)
        return next((name for name in found if name != but), None)

    for option, given in (("--text-column", prompt_column), ("--answer-column", answer_column)):
        if given is not None and given not in names:
            raise DataError(f"{where} has no column {given!r} (it has {present}); give one of them with {option}")
    talks = first(_CONVERSATIONS) if prompt_column is None else None
    if talks is not None and answer_column is None:
        return ExchangeColumns(talks, is_talk=True)
    prompt = prompt_column or first(_PROMPTS, but=answer_column)
    if prompt is None:
        raise DataError(
            f"the column of prompts of {where} cannot be told from its columns ({present}); name it prompt, or give "
            "--text-column"
        )
    answer = answer_column or first(_ANSWERS, but=prompt)
    extra = first(_INPUTS, but=prompt) if plain(prompt) in ("instruction", "question") else None
    return ExchangeColumns(prompt, answer, extra if extra != answer else None, by_name.get(plain(_REASON)))


def _turns(value: Any, role: str) -> list[Message]:
    """The turns in a cell: a text is one turn of ``role``, a list (or its JSON) holds messages."""
    if isinstance(value, str):
        if not value.lstrip().startswith(("[{", "[ {")):
            return [Message(role, _checked(value))]
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return [Message(role, _checked(value))]
    if isinstance(value, dict):  # a single message, or columns of roles and contents as Arrow stores a sequence
        value = [value]
    if not isinstance(value, (list, tuple)) or not value:
        raise Unusable("without a prompt" if role == "user" else "without an answer")
    if all(isinstance(text, str) for text in value):
        if len(value) == 1:
            return [Message(role, _checked(value[0]))]
        raise Unusable("with a list of texts in place of messages")
    return [_message(item) for item in value]


def _message(item: Any) -> Message:
    if not isinstance(item, dict):
        raise Unusable("with a message that is no mapping of role and content")
    named = item.get("role", item.get("from"))
    role = _ROLES.get(named.lower()) if isinstance(named, str) else None
    if role is None:
        raise Unusable("with a role other than system, user and assistant")
    content = item.get("content", item.get("value"))
    if isinstance(content, list) and all(isinstance(part, dict) and part.get("type") == "text" for part in content):
        content = "".join(part["text"] for part in content if isinstance(part.get("text"), str))
    if not isinstance(content, str):
        raise Unusable("with a message without text")
    return Message(role, _checked(content))


def _checked(text: str) -> str:
    if len(text) > MAX_CHARACTERS:
        raise Unusable(f"with a text of more than {MAX_CHARACTERS:,} characters")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Unusable("that are not valid Unicode (a lone surrogate)") from None
    return text


def _exchange(said: Sequence[Message]) -> Exchange:
    """The last user turn with the answer that follows it, and the turns before: a system text, then pairs."""
    last = max((place for place, message in enumerate(said) if message.role == "user"), default=None)
    if last is None or not said[last].content.strip():
        raise Unusable("without a prompt")
    context, following = tuple(said[:last]), said[last + 1 :]
    talk = context[1:] if context and context[0].role == "system" else context
    if [message.role for message in talk] != ["user", "assistant"] * (len(talk) // 2):
        raise Unusable("whose turns are not in order (a system text, then user and assistant in turn)")
    if len(context) > MAX_TURNS:
        raise Unusable(f"with more than {MAX_TURNS} turns before the prompt")
    reply = following[0].content if following and following[0].role == "assistant" else ""
    return Exchange(said[last].content, reply if reply.strip() else None, context)
