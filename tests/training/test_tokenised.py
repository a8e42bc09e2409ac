"""Token ids of rows that do not fit in memory lie in an Arrow file, and training does not notice."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

from rora_cli.errors import OutputError
from rora_cli.training import tokenised
from rora_cli.training.tokenised import TokenRows
from tests.conftest import objective_of, tiny_rows


def test_rows_are_the_same_in_memory_and_on_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rows = [list(range(n, 2 * n)) for n in (5, 1, 3, 0, 7)]
    held = TokenRows(rows)
    monkeypatch.setattr(tokenised, "MAX_IN_MEMORY", 6)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    mapped = TokenRows(row for row in rows)
    assert isinstance(held._rows, list) and not isinstance(mapped._rows, list)
    assert [mapped[i] for i in range(len(mapped))] == [held[i] for i in range(len(held))] == rows
    assert mapped.lengths == held.lengths == [5, 1, 3, 0, 7]
    if os.name == "posix":
        assert list(tmp_path.iterdir()) == [], "the file has no name"


def test_a_full_disk_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    from datasets.arrow_writer import ArrowWriter

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tokenised, "MAX_IN_MEMORY", 1)
    monkeypatch.setattr(ArrowWriter, "write", full)
    with pytest.raises(OutputError, match=r"do not fit into .* \(No space left on device\); set TMPDIR"):
        TokenRows([[1, 2], [3]])


def test_a_loss_does_not_depend_on_where_the_rows_lie(tiny_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also that a text is tokenised as the row that it is, in whichever portion it comes."""
    model, tokenizer = tiny_model
    texts, labels = tiny_rows(12)

    def put_in(text: str, row: int, epoch: int) -> str:
        return f"{text} {'mn ' * row}"

    def losses() -> list[float]:
        objective = objective_of(model, tokenizer, texts, labels, transform=put_in)
        assert len(objective.start_epoch(0)) == 12
        return [float(objective.loss(model, rows).detach()) for rows in ([0, 5], [11], [3, 2, 1])]

    usual = losses()
    monkeypatch.setattr(tokenised, "MAX_IN_MEMORY", 20)
    monkeypatch.setattr("rora_cli.tasks.classification.objective.ROWS_AT_A_TIME", 5)
    assert losses() == usual
