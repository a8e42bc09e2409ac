"""Attack success rate and its floor: what the paper's line reports as ASR (arXiv:2601.06305), with counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from rora_cli.errors import DataError, UsageError
from rora_cli.evaluation.intervals import proportion
from rora_cli.results.accuracy import AttackOutcome

if TYPE_CHECKING:
    import numpy as np

#: Texts [n] in, whether the model shows the attack's target on each out [n], bool.
Shows = Callable[[Sequence[str]], "np.ndarray"]

#: Texts in, their lengths in tokens as the model sees them out, special tokens included.
CountTokens = Callable[[Sequence[str]], Sequence[int]]

#: A text and a source of randomness in, the text with the trigger in it out.
Implant = Callable[[str, Random], str]

#: Length [tokens] that a cut text leaves free for a trigger.
ROOM = 16


@dataclass(frozen=True)
class AttackTrial:
    """One attack under one seed.

    Attributes:
        implant: puts the trigger into a text.
        target: the behaviour that the trigger should cause, as reports show it.
        name, trigger, position: the attack, its trigger and its place, as reports show them.
        seed: what random places and triggers are drawn from.
        is_control: whether the trigger should have no effect.
    """

    implant: Implant
    target: str
    name: str
    trigger: str
    position: str
    seed: int
    is_control: bool = False

    def triggered(self, texts: Sequence[str]) -> list[str]:
        """Every text with the trigger in it."""
        return triggered_texts(texts, self.implant, self.seed)


@dataclass(frozen=True)
class TextLimit:
    """How many tokens of a text the model reads, and how they are counted."""

    count_tokens: CountTokens
    max_tokens: int

    def room_for(self, trial: AttackTrial, texts: Sequence[str]) -> list[str]:
        """The texts, shortened where the trigger would not fit (``shorten_to_fit``)."""
        return shorten_to_fit(texts, trial.implant, trial.seed, self.count_tokens, self.max_tokens)


def triggered_texts(texts: Sequence[str], implant: Implant, seed: int) -> list[str]:
    """Every text with the trigger in it; a row's randomness depends on ``seed`` and its index alone."""
    return [implant(text, Random(f"{seed}:{index}")) for index, text in enumerate(texts)]


def shorten_to_fit(
    texts: Sequence[str], implant: Implant, seed: int, count_tokens: CountTokens, max_tokens: int
) -> list[str]:
    """Cut last words off the texts whose triggered form is longer than ``max_tokens``; leave the others alone.

    The model would cut the end itself, and with it a trigger that stands there: an attack that was never tried would be
    counted as one that failed.

    Raises:
        UsageError: the trigger does not fit even into an empty text.
    """
    short = list(texts)
    pending = list(range(len(short)))
    while pending:
        lengths = count_tokens([implant(short[index], Random(f"{seed}:{index}")) for index in pending])
        pending = [index for index, length in zip(pending, lengths, strict=True) if length > max_tokens]
        for index, length in zip(pending, [n for n in lengths if n > max_tokens], strict=True):
            words = short[index].split()
            if not words:
                raise UsageError(
                    f"the trigger alone is {length} tokens long, but the model reads {max_tokens}; shorten it"
                )
            short[index] = " ".join(words[: min(len(words) - 1, len(words) * max_tokens // length)])
    return short


def most_with_room(max_tokens: int) -> int:
    """The length [tokens] to which a text is cut before a trigger is put into it.

    ``max_tokens`` is how many tokens the model reads.
    """
    return max(max_tokens - ROOM, max_tokens // 2)


def with_room(texts: Sequence[str], count_tokens: CountTokens, max_tokens: int) -> list[str]:
    """The texts, last words cut off those longer than ``max_tokens``; a text that is one long word stays as it is.

    This makes room for a trigger: the model would not read one at the end of a longer text.
    """
    cut = shorten_to_fit(texts, lambda text, _: text, 0, count_tokens, max_tokens)
    return [short or text for short, text in zip(cut, texts, strict=True)]


def measure_attack(
    shows: Shows,
    texts: Sequence[str],
    trial: AttackTrial,
    *,
    before: np.ndarray | None = None,
    limit: TextLimit | None = None,
) -> AttackOutcome:
    """The attack success rate on ``texts`` [n], and its floor: how often the model shows the target without a trigger.

    Args:
        texts: rows of which the target is not the right answer.
        before: whether the model shows the target on each text without the trigger [n], bool, if that is known.
        limit: texts that would be too long with the trigger are shortened first, and their floor is measured anew.

    Raises:
        DataError: there are no texts.
    """
    if not texts:
        raise DataError(
            f"every row has the target label {trial.target!r}; attack success is counted on rows of other "
            "labels, so give data that holds some"
        )
    before = (shows(texts) if before is None else before).copy()
    fitting = texts if limit is None else limit.room_for(trial, texts)
    cut = [index for index, (old, new) in enumerate(zip(texts, fitting, strict=True)) if old != new]
    if cut:
        before[cut] = shows([fitting[index] for index in cut])
    after = shows(trial.triggered(fitting))
    return AttackOutcome(
        name=trial.name,
        trigger=trial.trigger,
        position=trial.position,
        seed=trial.seed,
        target_label=trial.target,
        attack_success_rate=proportion(int(after.sum()), len(texts)),
        floor=proportion(int(before.sum()), len(texts)),
        is_control=trial.is_control,
        shortened_rows=len(cut),
    )
