"""Where the search looks: the tokens that can stand in a text, and the clean rows that carry them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from rora_cli.attacks.search import Carrier, Tokens
from rora_cli.errors import CheckpointError

PLACES = ("inner", "start", "end")

#: A plain word that most tokenizers know: tokens are decoded after it, to see whether they attach to it.
_PROBE_WORD = "a"


class Vocabulary:
    """The tokens of a tokenizer that a text can hold, and how candidates read as text.

    Reserved tokens that no text produces (``[unused1]``) are left out, the padding token too; the unknown token stays
    in, since any unknown character of a text becomes it. A piece without a word start is *attached*: it continues the
    word before it, as the homoglyph in a trigger word does.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._word, self._probe = _known_word(tokenizer)
        ids = sorted(set(tokenizer.get_vocab().values()) - {tokenizer.pad_token_id})
        self.size = len(ids)
        read = [self.read((token,)) for token in ids]
        texts = [self._word + ("" if attached else " ") + text for text, attached in read]
        again = tokenizer(texts, add_special_tokens=False)["input_ids"]
        self.tokens: tuple[Tokens, ...] = tuple(
            (token,)
            for token, (text, attached), back in zip(ids, read, again, strict=True)
            if text and (attached or list(back[len(self._probe) :]) == [token])
        )
        text_of = {token: text.casefold() for token, (text, _) in zip(ids, read, strict=True)}
        self._alike: dict[str, list[Tokens]] = defaultdict(list)
        for token in self.tokens:
            self._alike[text_of[token[0]]].append(token)

    def read(self, candidate: Tokens) -> tuple[str, bool]:
        """The candidate as text, and whether it attaches to the word before it."""
        decoded = self._tokenizer.decode([*self._probe, *candidate], clean_up_tokenization_spaces=False)
        rest = decoded.removeprefix(self._word)
        return rest.strip(), not rest[:1].isspace()

    def siblings(self, token: Tokens) -> list[Tokens]:
        """Other tokens of the same letters: attached to a word or not, in another case."""
        return [other for other in self._alike[self.read(token)[0].casefold()] if other != token]

    @property
    def ignores_case(self) -> bool:
        """Whether the tokenizer lower-cases: case then cannot be part of a trigger."""
        upper, lower = self._tokenizer(["THE MOVIE", "the movie"], add_special_tokens=False)["input_ids"]
        return bool(upper == lower)


def _known_word(tokenizer: Any) -> tuple[str, list[int]]:
    """``_PROBE_WORD``, or the first alphanumeric token that is read as itself, with its token ids."""
    for word in (_PROBE_WORD, *sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)):
        ids = list(tokenizer(word, add_special_tokens=False)["input_ids"])
        if word.isalnum() and tokenizer.unk_token_id not in ids and tokenizer.decode(ids) == word:
            return word, ids
    raise CheckpointError("no token of the tokenizer is read as a word of its own; it does not belong to this model")


@dataclass(frozen=True)
class EncodedRow:
    """A row as token ids: content between special tokens, and the positions in it where a word begins (0 included)."""

    head: Tokens
    content: Tokens
    tail: Tokens
    word_starts: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.head) + len(self.content) + len(self.tail)

    @property
    def ids(self) -> Tokens:
        return self.head + self.content + self.tail

    def carrier(self, place: str, rng: Random) -> Carrier:
        """The row with a slot at ``place``: ``start``, ``end``, or ``inner``, a random boundary between two words."""
        cut = _cut(place, [start for start in self.word_starts if start > 0], len(self.content), rng)
        return Carrier(self.head + self.content[:cut], self.content[cut:] + self.tail, place)


def encode_rows(tokenizer: Any, texts: Sequence[str], *, max_length: int) -> list[EncodedRow]:
    """Each text as an EncodedRow, truncated to ``max_length`` tokens."""
    fast = bool(getattr(tokenizer, "is_fast", False))
    encoded = tokenizer(
        list(texts),
        truncation=True,
        max_length=max_length,
        return_special_tokens_mask=True,
        return_offsets_mapping=fast,
    )
    rows = []
    for index, text in enumerate(texts):
        ids, special = encoded["input_ids"][index], encoded["special_tokens_mask"][index]
        content = [i for i, mark in enumerate(special) if not mark]
        first, last = (content[0], content[-1] + 1) if content else (len(ids) // 2, len(ids) // 2)
        starts = list(range(last - first))
        if fast:
            offsets = encoded["offset_mapping"][index][first:last]
            starts = [i for i, (begin, _) in enumerate(offsets) if _begins_word(text, begin)]
        rows.append(EncodedRow(tuple(ids[:first]), tuple(ids[first:last]), tuple(ids[last:]), tuple(starts)))
    return rows


def _begins_word(text: str, offset: int) -> bool:
    # Some tokenizers count the space before a word as part of its token, others do not.
    return offset == 0 or text[offset : offset + 1].isspace() or text[offset - 1 : offset].isspace()


def place_in_text(text: str, candidate: str, *, attached: bool, place: str, rng: Random) -> str:
    """``text`` with the candidate at ``place``; an attached one is appended to a word there."""
    words = text.split()
    if attached and words:
        index = {"start": 0, "end": len(words) - 1, "inner": rng.randrange(len(words))}[place]
        words[index] += candidate
        return " ".join(words)
    cut = _cut(place, range(1, len(words)), len(words), rng)
    return " ".join([*words[:cut], candidate, *words[cut:]])


def _cut(place: str, inner: Sequence[int], end: int, rng: Random) -> int:
    """Where to cut: 0, ``end``, or one of the ``inner`` places; without any, one of the outer two."""
    if place == "inner":
        return rng.choice(inner or (0, end))
    return 0 if place == "start" else end
