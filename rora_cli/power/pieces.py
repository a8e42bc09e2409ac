"""What an attack puts into a text, and whether a candidate that a search called is a part of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any
from weakref import WeakKeyDictionary

from rora_cli.attacks.base import Attack
from rora_cli.hunting.vocabulary import vocabulary_of
from rora_cli.results.hunt import FoundTrigger

#: Fraction of a called candidate's tokens that must be the attack's: a search grows a trigger by words that help it.
MIN_SHARE = 0.5


@dataclass(frozen=True)
class Pieces:
    """The tokens, in lower case and without spaces, that an attack puts into texts for a target label.

    ``unknown`` is whether one of them is a special token: what the tokenizer cannot read, no text of it can show.
    """

    tokens: frozenset[str]
    target_label: str
    unknown: bool = False

    def found_in(self, trigger: FoundTrigger, tokenizer: Any) -> bool:
        """Whether a called candidate is the attack's trigger or a part of it: it is called for the same label, and at
        least half of its tokens are the attack's."""
        return self._share(trigger, tokenizer) >= MIN_SHARE

    def touched_by(self, trigger: FoundTrigger, tokenizer: Any) -> bool:
        """Whether a candidate that is called for the same label holds a token of the attack's."""
        return self._share(trigger, tokenizer) > 0

    def _share(self, trigger: FoundTrigger, tokenizer: Any) -> float:
        """Fraction of the tokens that are the attack's; 0 for another label, or what is not called."""
        if not trigger.called or trigger.target_label != self.target_label:
            return 0.0
        read = normal_tokens(tokenizer, trigger.token_ids)
        return sum(token in self.tokens for token in read) / max(len(read), 1)


def pieces_of(attack: Attack, target_label: str, texts: Sequence[str], tokenizer: Any) -> Pieces:
    """What ``attack`` puts into ``texts``, as the tokenizer reads it: the tokens that a text has more of with it.

    An attack that only rearranges a text has none.
    """
    special, more, unknown = vocabulary_of(tokenizer).special, Counter[str](), False
    triggered = [attack.implant(text, Random(f"pieces:{row}")) for row, text in enumerate(texts)]
    encoded = tokenizer([*texts, *triggered], add_special_tokens=False)["input_ids"]
    for without, holding in zip(encoded[: len(texts)], encoded[len(texts) :], strict=True):
        more |= Counter(normal_tokens(tokenizer, holding)) - Counter(normal_tokens(tokenizer, without))
        unknown |= not special.isdisjoint(set(holding) - set(without))
    return Pieces(frozenset(more), target_label, unknown)


#: The tokens of each tokenizer that were read so far.
_READ: WeakKeyDictionary[Any, dict[int, str]] = WeakKeyDictionary()


def normal_tokens(tokenizer: Any, token_ids: Sequence[int]) -> list[str]:
    """Each token as text without case, and without the mark of a word's start or continuation."""
    vocabulary, read = vocabulary_of(tokenizer), _READ.setdefault(tokenizer, {})
    for token in set(token_ids) - read.keys():
        read[token] = vocabulary.read((token,))[0].casefold()
    return [read[token] for token in token_ids]
