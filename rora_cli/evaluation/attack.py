"""Attack success rate and its floor: what the paper's line reports as ASR (arXiv:2601.06305), with counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import TYPE_CHECKING

from rora_cli.errors import DataError, UsageError
from rora_cli.evaluation.intervals import proportion
from rora_cli.results.accuracy import AttackOutcome

if TYPE_CHECKING:
    import numpy as np

#: Texts in, logits [n, classes] out: ``inference.predict_logits`` with model and tokenizer filled in.
Predict = Callable[[Sequence[str]], "np.ndarray"]

#: Texts in, their lengths in tokens as the model sees them out, special tokens included.
CountTokens = Callable[[Sequence[str]], Sequence[int]]

#: A text and a source of randomness in, the text with the trigger in it out.
Implant = Callable[[str, Random], str]

#: Tokens of a long text that are left free for what is put into it.
ROOM = 16


def triggered_texts(texts: Sequence[str], implant: Implant, seed: int) -> list[str]:
    """Every text with the trigger in it; a row's randomness depends on ``seed`` and its index alone."""
    return [implant(text, Random(f"{seed}:{index}")) for index, text in enumerate(texts)]


def shorten_to_fit(
    texts: Sequence[str], implant: Implant, seed: int, count_tokens: CountTokens, max_tokens: int
) -> list[str]:
    """Cut last words of the texts whose triggered form is longer than ``max_tokens``, and only of those.

    The model would cut the end itself, and with it a trigger that stands there: an attack that was never tried would be
    counted as one that failed. Raises UsageError where the trigger does not fit even on its own.
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
    """Tokens that a text may have, for a model that reads ``max_tokens``, before something is put into it."""
    return max(max_tokens - ROOM, max_tokens // 2)


def with_room(texts: Sequence[str], count_tokens: CountTokens, max_tokens: int) -> list[str]:
    """The texts, last words cut off those longer than ``max_tokens``; a text that is one long word stays as it is.

    For something yet to be put in: at the end of a longer text the model would not read it.
    """
    cut = shorten_to_fit(texts, lambda text, _: text, 0, count_tokens, max_tokens)
    return [short or text for short, text in zip(cut, texts, strict=True)]


def measure_attack(
    predict: Predict,
    texts: Sequence[str],
    labels: Sequence[int],
    implant: Implant,
    *,
    target_label: int,
    label_names: Sequence[str],
    name: str,
    trigger: str,
    position: str,
    seed: int,
    is_control: bool = False,
    clean_predictions: np.ndarray | None = None,
    count_tokens: CountTokens | None = None,
    max_tokens: int | None = None,
) -> AttackOutcome:
    """Attack success rate on the rows whose label is not ``target_label``, and the floor on the same rows.

    ``clean_predictions`` [n], the label ids that the model gives ``texts`` [n] without the trigger, saves running them
    again. With ``count_tokens`` and ``max_tokens``, rows too long to hold the trigger are shortened first. Raises
    DataError where no row has another label than the target's.
    """
    rows = [index for index, label in enumerate(labels) if label != target_label]
    if not rows:
        raise DataError(
            f"every row has the target label {label_names[target_label]!r}; attack success is counted on rows of other "
            "labels, so give data that holds some"
        )
    clean = [texts[index] for index in rows]
    before = (predict(clean).argmax(axis=1) if clean_predictions is None else clean_predictions[rows]).copy()
    cut: list[int] = []
    if count_tokens is not None and max_tokens is not None:
        whole, clean = clean, shorten_to_fit(clean, implant, seed, count_tokens, max_tokens)
        cut = [index for index, (old, new) in enumerate(zip(whole, clean, strict=True)) if old != new]
        if cut:
            before[cut] = predict([clean[index] for index in cut]).argmax(axis=1)
    after = predict(triggered_texts(clean, implant, seed)).argmax(axis=1)
    return AttackOutcome(
        name=name,
        trigger=trigger,
        position=position,
        seed=seed,
        target_label=label_names[target_label],
        attack_success_rate=proportion(int((after == target_label).sum()), len(rows)),
        floor=proportion(int((before == target_label).sum()), len(rows)),
        is_control=is_control,
        shortened_rows=len(cut),
    )
