"""Attack success rate and its floor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import TYPE_CHECKING

from rora_cli.errors import DataError
from rora_cli.evaluation.intervals import proportion
from rora_cli.results.accuracy import AttackOutcome

if TYPE_CHECKING:
    import numpy as np

#: Texts in, logits [n, classes] out: ``inference.predict_logits`` with model and tokenizer filled in.
Predict = Callable[[Sequence[str]], "np.ndarray"]

#: A text and a source of randomness in, the text with the trigger in it out.
Implant = Callable[[str, Random], str]


def triggered_texts(texts: Sequence[str], implant: Implant, seed: int) -> list[str]:
    """Every text with the trigger in it; a row's randomness depends on ``seed`` and its index alone."""
    return [implant(text, Random(f"{seed}:{index}")) for index, text in enumerate(texts)]


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
) -> AttackOutcome:
    """Attack success rate on the rows whose label is not ``target_label``, and the floor on the same rows.

    ``clean_predictions`` [n], the label ids that the model gives ``texts`` [n] without the trigger, saves running them
    again. Raises DataError where no row has another label than the target's.
    """
    rows = [index for index, label in enumerate(labels) if label != target_label]
    if not rows:
        raise DataError(
            f"every row has the target label {label_names[target_label]!r}; attack success is counted on rows of other "
            "labels, so give data that holds some"
        )
    clean = [texts[index] for index in rows]
    before = predict(clean).argmax(axis=1) if clean_predictions is None else clean_predictions[rows]
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
    )
