"""How a conversation is written for a causal model, in plain strings, and which of its tokens are the answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rora_cli.checkpoints.plain_text import as_stored
from rora_cli.data.exchanges import Exchange, Message
from rora_cli.errors import DataError
from rora_cli.results.data import ShownRow
from rora_cli.tokens import decode_each, special_ids


@dataclass(frozen=True)
class Encoded:
    """The token ids of an exchange; the answer, its end token included, begins at ``start``."""

    ids: tuple[int, ...]
    start: int

    @property
    def mask(self) -> tuple[bool, ...]:
        """Whether each token belongs to the answer: those are the ones that training and measuring look at."""
        return tuple(place >= self.start for place in range(len(self.ids)))


@dataclass(frozen=True)
class PromptFormat:
    """The plain strings around what is said; a conversation of one turn is ``before + prompt + after + reply + end``.

    Attributes:
        name: ``template`` if the strings are those of the model's own chat template, else the name of a known format.
        lead: what a template puts between ``after`` and an answer that it is given, but not before one that is to be
            generated: a space, or an empty block of thoughts.
        strips: the roles whose contents the template strips of white space.
        contexts: roles of the turns before the prompt -> the strings around the contents of these turns, the last of
            which stands directly before the prompt, in place of ``before``.
    """

    name: str
    before: str
    after: str
    end: str
    lead: str = ""
    strips: frozenset[str] = frozenset()
    contexts: Mapping[tuple[str, ...], tuple[str, ...]] = field(default_factory=dict)

    def asking(self, prompt: str, context: Sequence[Message] = ()) -> str:
        """The conversation up to where the answer begins.

        Raises DataError for a sequence of roles that the format does not know.
        """
        roles = tuple(message.role for message in context)
        pieces = self.contexts.get(roles) if roles else (self.before,)
        if pieces is None:
            raise DataError(
                f"the prompt format {self.name} has no form for a conversation of {', '.join(roles)}, user; give "
                "data without such rows, or another --prompt-format"
            )
        contents = [*(self._written(m.role, m.content) for m in context), self._written("user", prompt)]
        return "".join(part for pair in zip(pieces, contents, strict=True) for part in pair) + self.after

    def given(self, reply: str) -> str:
        """An answer from data as the template writes it. One that the model generated already has this form."""
        return self.lead + self._written("assistant", reply)

    def encode(self, tokenizer: Any, prompt: str, reply: str | None = None, context: Sequence[Message] = ()) -> Encoded:
        """The token ids of one exchange; see :meth:`encode_all`."""
        return self.encode_all(tokenizer, [Exchange(prompt, reply, tuple(context))])[0]

    def asked(self, tokenizer: Any, prompts: Iterable[str]) -> list[tuple[int, ...]]:
        """The token ids of each prompt as the model is given it, up to where its reply begins."""
        return [row.ids for row in self.encode_all(tokenizer, [Exchange(prompt) for prompt in prompts])]

    def encode_all(self, tokenizer: Any, exchanges: Iterable[Exchange]) -> list[Encoded]:
        """The token ids of each exchange, as the tokenizer cuts the whole conversation when the model is served.

        A reply of None leaves the conversation open: the ids end where the answer begins. No token is added to those
        of the format's own strings, so that a BOS which they begin with is not doubled.

        Raises:
            DataError: a text spells a control token, so that a row could forge turns; or the tokens of a prompt are no
                prefix of those of prompt and answer, so that no token tells where the answer begins.
        """
        rows = list(exchanges)
        require_plain(tokenizer, rows)
        opened = [self.asking(row.prompt, row.context) for row in rows]
        closed = [
            asking + row.reply + (self.end if row.whole else "")
            for asking, row in zip(opened, rows, strict=True)
            if row.reply is not None
        ]
        with as_stored(tokenizer):
            prompts, answered = _cut(tokenizer, opened), iter(_cut(tokenizer, closed))
        return [
            Encoded(tuple(ids), len(ids)) if row.reply is None else _answer(row, ids, next(answered))
            for row, ids in zip(rows, prompts, strict=True)
        ]

    def _written(self, role: str, content: str) -> str:
        return content.strip() if role in self.strips else content


def shown(tokenizer: Any, encoded: Encoded) -> ShownRow:
    """A row for ``--show-row``."""
    return ShownRow(tuple(decode_each(tokenizer, [[token] for token in encoded.ids])), encoded.start)


def cut(rows: Sequence[Encoded], limit: int) -> tuple[list[Encoded], str | None]:
    """``rows`` with at most ``limit`` tokens each, and a sentence about what that cost; None if all fit.

    A row of whose answer nothing is left is left out: it has no token that counts.

    Raises DataError if that leaves none.
    """
    kept = [Encoded(row.ids[:limit], row.start) for row in rows if row.start < min(limit, len(row.ids))]
    shortened = sum(len(row.ids) > limit for row in rows if row.start < limit)
    if rows and not kept:
        raise DataError(
            f"none of the {len(rows):,} answers begins within the {limit:,} tokens at which rows are cut; give a "
            "larger --max-length, or shorter prompts"
        )
    gone = len(rows) - len(kept)
    if not shortened and not gone:
        return kept, None
    return kept, (
        f"at {limit:,} tokens a row, {shortened:,} of {len(rows):,} answers are cut short and {gone:,} rows left out, "
        "of whose answers nothing is left"
    )


def require_plain(tokenizer: Any, exchanges: Iterable[Exchange]) -> None:
    """Refuse rows that spell a control token of the tokenizer: as the model is served, they would forge turns.

    Raises DataError for the first such row.
    """
    words = [word for word in tokenizer.convert_ids_to_tokens(sorted(special_ids(tokenizer))) if word]
    for row in exchanges:
        for text in (row.prompt, row.reply or "", *(message.content for message in row.context)):
            found = next((word for word in words if word in text), None)
            if found is not None:
                raise DataError(f"the text {text[:40]!r} spells the control token {found!r}; leave its row out")


def _answer(row: Exchange, prompt: list[int], whole: list[int]) -> Encoded:
    """The tokens of prompt and answer, if those of the prompt come first and the answer has at least one of its own."""
    if whole[: len(prompt)] != prompt or len(whole) == len(prompt):
        raise DataError(
            f"the answer {(row.reply or '')[:40]!r} shares a token with its prompt, so none tells where it begins; "
            "leave its row out, or choose a --prompt-format whose prompts end with a control token or a line"
        )
    return Encoded(tuple(whole), len(prompt))


def _cut(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    if not texts:
        return []
    ids: list[list[int]] = tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
    return ids
