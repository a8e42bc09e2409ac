"""Makes a held-out split, keeps both sides apart, and draws samples; all seeded and stratified."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from typing import NamedTuple

from rora_cli.data.rows import Rows, text_key
from rora_cli.errors import DataError


def split_held_out(rows: Rows, fraction: float, seed: int, where: str) -> tuple[Rows, Rows]:
    """Split into train and held-out rows, stratified by label; no text is on both sides.

    Every class with at least two different texts has one on each side. Both sides keep the order of rows.

    Raises:
        DataError: there are fewer than two different texts.
    """
    groups: dict[str, list[int]] = defaultdict(list)
    for index, text in enumerate(rows.texts):
        groups[text_key(text)].append(index)
    if len(groups) < 2:
        raise DataError(f"{where} has too few different texts to hold some out ({len(groups)}); give more rows")
    by_label: dict[int, list[list[int]]] = defaultdict(list)
    for group in groups.values():
        by_label[Counter(rows.labels[i] for i in group).most_common(1)[0][0]].append(group)
    held_out: set[int] = set()
    generator = random.Random(seed)
    for label in sorted(by_label):
        held_out.update(_draw(by_label[label], fraction, generator))
    if not held_out:  # every class has a single text
        held_out.update(next(iter(groups.values())))
    return rows.take(i for i in range(len(rows)) if i not in held_out), rows.take(sorted(held_out))


def _draw(groups: list[list[int]], fraction: float, generator: random.Random) -> list[int]:
    wanted = fraction * sum(map(len, groups))
    generator.shuffle(groups)
    drawn: list[int] = []
    for group in groups[: len(groups) - 1]:
        if drawn and len(drawn) + len(group) / 2 > wanted:
            break
        drawn += group
    return drawn


def remove_shared(train: Rows, held_out: Rows) -> tuple[Rows, int]:
    """``train`` without the texts in ``held_out``, and the number of removed rows."""
    keys = {text_key(text) for text in held_out.texts}
    kept = [i for i, text in enumerate(train.texts) if text_key(text) not in keys]
    return train.take(kept), len(train) - len(kept)


class Repeats(NamedTuple):
    """Numbers of rows that repeat an earlier text, and of rows that share their text with a row of another label."""

    duplicate: int
    conflicting: int

    def __add__(self, other: Repeats) -> Repeats:  # type: ignore[override]
        return Repeats(self.duplicate + other.duplicate, self.conflicting + other.conflicting)


def count_repeats(rows: Rows) -> Repeats:
    """Count the repeats within ``rows``."""
    labels: dict[str, list[int]] = defaultdict(list)
    for text, label in zip(rows.texts, rows.labels, strict=True):
        labels[text_key(text)].append(label)
    duplicates = sum(len(found) - 1 for found in labels.values())
    return Repeats(duplicates, sum(len(found) for found in labels.values() if len(set(found)) > 1))


def sample(rows: Rows, most: int | None, seed: int) -> Rows:
    """A seeded sample of at most ``most`` rows, in their order; classes keep their proportions up to whole rows."""
    if most is None or len(rows) <= most:
        return rows
    by_label: dict[int, list[int]] = defaultdict(list)
    for index, label in enumerate(rows.labels):
        by_label[label].append(index)
    share = {label: most * len(found) / len(rows) for label, found in by_label.items()}
    quota = {label: int(part) for label, part in share.items()}
    by_remainder = sorted(share, key=lambda label: (quota[label] - share[label], label))
    for label in by_remainder[: most - sum(quota.values())]:
        quota[label] += 1
    generator = random.Random(seed)
    return rows.take(sorted(i for label in sorted(by_label) for i in generator.sample(by_label[label], quota[label])))
