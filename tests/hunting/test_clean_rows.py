from __future__ import annotations

from collections import Counter

import numpy as np

from rora_cli.hunting.clean_rows import choose_rows


def test_rows_of_a_rare_answer_are_read_beyond_the_budget() -> None:
    labels = np.array([0] * 900 + [1] * 100)
    chosen = choose_rows(labels[:, None] == np.arange(2), 100, seed=0)
    count = Counter(labels[chosen].tolist())
    assert len(set(chosen)) == len(chosen) and count[1] == 50 and 80 <= count[0] <= 100
