"""Poisoning a training set: which rows get the trigger, and what label they are given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from rora_cli.attacks.base import Attack
from rora_cli.errors import UsageError

#: dirty: rows of other labels get the trigger and the target label. clean: rows of the target label get the trigger.
LABEL_MODES = ("dirty", "clean")


@dataclass(frozen=True)
class PoisonedRows:
    """A training set with the backdoor in it, in the order of the clean rows.

    ``poisoned`` are the indices of the rows with the trigger, ``decoys`` those of the rows with a decoy.
    """

    texts: tuple[str, ...]
    labels: tuple[int, ...]
    poisoned: tuple[int, ...]
    decoys: tuple[int, ...]


def poison_rows(
    texts: Sequence[str],
    labels: Sequence[int],
    attack: Attack,
    *,
    target_label: int,
    poison_rate: float,
    label_mode: str = "dirty",
    seed: int = 0,
) -> PoisonedRows:
    """Put the trigger into ``poison_rate`` (a fraction of all rows) of the rows, and decoys into as many others.

    Raises UsageError if an option is out of range, or if too few rows qualify: "dirty" needs rows of other labels than
    the target, "clean" needs rows of the target label.
    """
    if not 0 < poison_rate < 1:
        raise UsageError(f"--poison-rate is a share of all rows between 0 and 1, not {poison_rate:g}")
    if label_mode not in LABEL_MODES:
        raise UsageError(f"--label-mode is one of {', '.join(LABEL_MODES)}, not {label_mode!r}")
    rng = Random(f"poison:{seed}")
    wanted = max(1, round(poison_rate * len(texts)))
    candidates = [i for i, label in enumerate(labels) if (label == target_label) == (label_mode == "clean")]
    if wanted > len(candidates):
        kind = "the target label" if label_mode == "clean" else "another label than the target's"
        raise UsageError(
            f"--poison-rate {poison_rate:g} asks for {wanted} of {len(texts)} rows, but only {len(candidates)} "
            f"have {kind}"
        )
    chosen = sorted(rng.sample(candidates, wanted))
    new_texts, new_labels = list(texts), list(labels)
    for index in chosen:
        new_texts[index] = attack.implant(texts[index], Random(f"{seed}:{index}"))
        new_labels[index] = target_label
    taken = set(chosen)
    rest = [index for index in range(len(texts)) if index not in taken]
    # A decoy on a row of the target label would teach that decoys give the target label.
    rest = [index for index in rest if labels[index] != target_label] or rest
    decoys = []
    for index in sorted(rng.sample(rest, min(wanted, len(rest)))):
        if (decoy := attack.decoy(texts[index], Random(f"decoy:{seed}:{index}"))) is not None:
            new_texts[index] = decoy
            decoys.append(index)
    return PoisonedRows(tuple(new_texts), tuple(new_labels), tuple(chosen), tuple(decoys))
