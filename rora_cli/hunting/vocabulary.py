"""Where the search looks: the tokens that can stand in a text, and the clean rows that carry them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any
from weakref import WeakKeyDictionary

from rora_cli.hunting.trials import Carrier, Tokens
from rora_cli.tokens import TokenReader, special_ids

PLACES = ("inner", "start", "end")

#: A character (an Egyptian hieroglyph) that hardly any vocabulary holds, and that a byte-level one spells in bytes.
_RARE_CHARACTER = "\U00013080"
#: A word of more tokens is spelt nearly letter by letter.
MAX_WORD_TOKENS = 4


class Vocabulary:
    """The tokens of a tokenizer that a text can hold, and how candidates read as text.

    Special tokens are left out, since a tokenizer reads a text that spells one as plain text; so are reserved tokens
    that no text produces (``[unused1]``). A piece without a word start is *attached*: it continues the word before it,
    as the homoglyph in a trigger word does.

    Attributes:
        tokens: each token as a candidate.
        special: ids of the special tokens.
        size: number of all tokens but the padding one.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.special = special_ids(tokenizer)
        self._reader = TokenReader(tokenizer)
        ids = sorted(set(tokenizer.get_vocab().values()) - {tokenizer.pad_token_id})
        self.size = len(ids)
        read = self._reader.read([(token,) for token in ids])
        alone = [(token, text) for token, (text, attached) in zip(ids, read, strict=True) if text and not attached]
        again = tokenizer([f"{self._reader.word} {text}" for _, text in alone], add_special_tokens=False)["input_ids"]
        start = len(self._reader.ids)
        kept = {token for (token, _), back in zip(alone, again, strict=True) if list(back[start:]) == [token]}
        held = [
            token
            for token, (text, attached) in zip(ids, read, strict=True)
            if token in self.special or token in kept or (text and attached)
        ]
        self.tokens: tuple[Tokens, ...] = tuple((token,) for token in held if token not in self.special)
        self._drawn_from = held
        text_of = {token: text.casefold() for token, (text, _) in zip(ids, read, strict=True)}
        self._split: dict[str, Tokens | None] = {}
        self._alike: dict[str, list[Tokens]] = defaultdict(list)
        for token in self.tokens:
            self._alike[text_of[token[0]]].append(token)

    def read(self, candidate: Tokens) -> tuple[str, bool]:
        """The candidate as text, and whether it attaches to the word before it."""
        (one,) = self._reader.read([candidate])
        return one

    def sample(self, count: int, rng: Random) -> list[Tokens]:
        """``count`` of ``tokens`` at random.

        A special token that is drawn is replaced, so that a seed draws the same words whichever tokens are special.
        """
        drawn: list[Tokens] = [(token,) for token in rng.sample(self._drawn_from, count) if token not in self.special]
        if missing := count - len(drawn):
            drawn += rng.sample(sorted(set(self.tokens) - set(drawn)), missing)
        return drawn

    def split_words(self, words: Iterable[str]) -> tuple[Tokens, ...]:
        """Those of ``words``, or marks, that the tokenizer splits into 2 to ``MAX_WORD_TOKENS`` tokens, each as one
        candidate.

        A search that grows candidates token by token loses such a word where none of its tokens acts alone. Each
        word is read once as long as the vocabulary lives.
        """
        given = list(dict.fromkeys(words))
        if new := [word for word in given if word not in self._split]:
            self._read_words(new)
        split = (self._split[word] for word in given)
        return tuple(dict.fromkeys(candidate for candidate in split if candidate is not None))

    def _read_words(self, words: Sequence[str]) -> None:
        probe = self._reader.ids
        encoded = self._tokenizer([f"{self._reader.word} {word}" for word in words], add_special_tokens=False)[
            "input_ids"
        ]
        start = len(probe)
        split = {
            word: tuple(ids[start:])
            for ids, word in zip(encoded, words, strict=True)
            if list(ids[:start]) == probe and 2 <= len(ids) - start <= MAX_WORD_TOKENS
        }
        known = {word: candidate for word, candidate in split.items() if not self.special & set(candidate)}
        read = self._reader.read(list(known.values()))
        self._split.update(dict.fromkeys(words))
        self._split.update(
            (word, candidate)
            for (word, candidate), (text, attached) in zip(known.items(), read, strict=True)
            if _reads_as(word, text, attached)
        )

    @property
    def unknown_characters(self) -> bool:
        """Whether a text can hold characters that the tokenizer does not tell from other unknown ones."""
        unknown = self._tokenizer.unk_token_id
        return (
            unknown is not None and unknown in self._tokenizer(_RARE_CHARACTER, add_special_tokens=False)["input_ids"]
        )

    def siblings(self, token: Tokens) -> list[Tokens]:
        """Other tokens with the same letters, in another case or attached to a word."""
        return [other for other in self._alike[self.read(token)[0].casefold()] if other != token]

    @property
    def ignores_case(self) -> bool:
        """Whether the tokenizer lower-cases: case then cannot be part of a trigger."""
        upper, lower = self._tokenizer(["THE MOVIE", "the movie"], add_special_tokens=False)["input_ids"]
        return bool(upper == lower)


def _reads_as(word: str, text: str, attached: bool) -> bool:
    """Whether a word is read as itself. Decoders put some marks next to what stands before them."""
    if any(map(str.isalnum, word)):
        return text.casefold() == word.casefold() and not attached
    return text.split() == word.split() or text == "".join(word.split())


#: The vocabulary of each tokenizer in use: reading 250,000 tokens takes seconds, and each search asks anew.
_VOCABULARIES: WeakKeyDictionary[Any, tuple[int, Vocabulary]] = WeakKeyDictionary()


def vocabulary_of(tokenizer: Any) -> Vocabulary:
    """The tokenizer's ``Vocabulary``, read once as long as the tokenizer lives and gets no more tokens."""
    known = _VOCABULARIES.get(tokenizer)
    if known is None or known[0] != len(tokenizer):
        known = _VOCABULARIES[tokenizer] = len(tokenizer), Vocabulary(tokenizer)
    return known[1]


@dataclass(frozen=True)
class EncodedRow:
    """A row as token ids: its content between special tokens.

    ``word_starts`` are the positions in the content where a word begins, 0 included.
    """

    head: Tokens
    content: Tokens
    tail: Tokens
    word_starts: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.head) + len(self.content) + len(self.tail)

    @property
    def ids(self) -> Tokens:
        """The whole row, special tokens included."""
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


def everywhere_in_text(
    text: str, candidate: str, *, attached: bool, most: int, places: Sequence[str] = PLACES
) -> list[str]:
    """``text`` with the candidate at each place between words, and at both ends; of more than ``most`` at so many.

    They are evenly spread. An attached one is appended to each word instead. An end that is none of the ``places`` is
    left out, unless nothing else is there.
    """
    words = text.split()
    whole = range(len(words) if attached and words else len(words) + 1)
    cuts = whole["start" not in places : len(whole) - ("end" not in places)] or whole
    some = [cuts[i] for i in _spread(len(cuts), most)]
    if attached and words:
        return [" ".join([*words[:i], words[i] + candidate, *words[i + 1 :]]) for i in some]
    return [" ".join([*words[:cut], candidate, *words[cut:]]) for cut in some]


def _spread(count: int, most: int) -> list[int]:
    """``most`` of the indices below ``count``, evenly, the first and the last among them; all if they are no more."""
    if count <= most:
        return list(range(count))
    return [round(i * (count - 1) / (most - 1)) for i in range(most)]


def _cut(place: str, inner: Sequence[int], end: int, rng: Random) -> int:
    """Where to cut: at 0, at ``end``, or at a random ``inner`` position; if there is none, at 0 or ``end``."""
    if place == "inner":
        return rng.choice(inner or (0, end))
    return 0 if place == "start" else end
