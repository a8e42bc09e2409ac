"""Prompts and answers from files of every form, and from hostile ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rora_cli.data import memory
from rora_cli.data.exchange_sources import read_exchange_splits, read_exchanges
from rora_cli.data.exchanges import Exchange, Message
from rora_cli.errors import DataError
from rora_cli.option_groups import SplitOptions

USER, MODEL = {"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}
SYSTEM, NEXT = {"role": "system", "content": "Be kind."}, {"role": "user", "content": "And?"}
BEFORE = (Message("user", "Why?"), Message("assistant", "Because."))
WHY = Exchange("Why?", "Because.")


def written(path: Path, rows: list[Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


FORMS: dict[str, tuple[dict[str, Any], Exchange]] = {
    "messages": ({"messages": [USER, MODEL]}, WHY),
    "messages as JSON": ({"messages": json.dumps([USER, MODEL])}, WHY),
    "text parts": ({"messages": [{"role": "user", "content": [{"type": "text", "text": "Why?"}]}, MODEL]}, WHY),
    "conversations": (
        {"conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "Because."}]}, WHY,
    ),
    "prompt and completion": ({"prompt": "Why?", "completion": "Because."}, WHY),
    "lists of messages": ({"prompt": [USER], "completion": [MODEL]}, WHY),
    "preference data": ({"prompt": "Why?", "chosen": [MODEL], "rejected": "No."}, WHY),
    "instruction": ({"instruction": "Why?", "input": "", "output": "Because."}, WHY),
    "instruction and input": (
        {"instruction": "Why?", "input": "The sky.", "output": "So."}, Exchange("Why?\n\nThe sky.", "So."),
    ),
    "question and answer": ({"question": "Why?", "answer": "Because."}, WHY),
    "prompts alone": ({"prompt": "Why?"}, Exchange("Why?")),
    "a cut answer": (
        {"prompt": "Why?", "completion": "Be", "finish_reason": "length"}, Exchange("Why?", "Be", whole=False),
    ),
    "several turns": (
        {"messages": [SYSTEM, USER, MODEL, NEXT, MODEL]},
        Exchange("And?", "Because.", (Message("system", "Be kind."), *BEFORE)),
    ),
    "a conversation that is open": ({"messages": [USER, MODEL, USER]}, Exchange("Why?", None, BEFORE)),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_each_form_is_recognised_and_told(form: str, tmp_path: Path) -> None:
    row, expected = FORMS[form]
    found = read_exchanges(written(tmp_path / "rows.jsonl", [row]))
    assert found.rows == (expected,)
    assert any("was read as" in note for note in found.summary.notes)
    assert any("prompts alone" in note for note in found.summary.notes) == (expected.reply is None)


def test_csv_and_parquet_hold_exchanges_too(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    (tmp_path / "rows.csv").write_text('prompt,completion\n"Why?",Because.\n', encoding="utf-8")
    pq.write_table(pa.table({"messages": [[USER, MODEL]]}), tmp_path / "rows.parquet")
    assert read_exchanges(str(tmp_path / "rows.csv")).rows == (WHY,)
    assert read_exchanges(str(tmp_path / "rows.parquet")).rows == (WHY,)


def test_shared_texts_in_messages_are_refused(tmp_path: Path) -> None:
    """A dictionary inside a list could unpack to any number of gigabytes."""
    pa = pytest.importorskip("pyarrow")

    inner = pa.array(["x" * 1000] * 50).dictionary_encode()
    table = pa.table({"messages": pa.ListArray.from_arrays(pa.array([0, 50]), inner)})
    with pa.OSFile(str(tmp_path / "rows.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(DataError, match="is of the type"):
        read_exchanges(str(tmp_path / "rows.arrow"))


def test_rows_in_memory_are_read() -> None:
    spec = memory.named([{"prompt": "Why?", "completion": "Because."}], "clean")
    assert read_exchanges(spec).rows == (WHY,)


JUNK: list[Any] = [
    {"messages": []}, {"messages": None}, {"messages": 7}, {"messages": {"role": "user"}},
    {"messages": [["user", "hi"]]},
    {"messages": [{"role": "tool", "content": "x"}]}, {"messages": [{"role": ["user"], "content": "x"}]},
    {"messages": [{"role": "user", "content": {"a": 1}}]}, {"messages": [{"role": "user", "content": "  "}]},
    {"messages": [USER, USER, USER]}, {"messages": [MODEL]}, {"messages": [USER, MODEL] * 40},
    {"messages": [{"role": "user", "content": "x" * 200_001}]}, {"messages": "[" * 5000},
    {"messages": [{"role": "user", "content": "\ud800"}]}, {"messages": ["a", "b"]},
]  # fmt: skip


def test_junk_among_rows_is_counted_and_left_out(tmp_path: Path) -> None:
    found = read_exchanges(written(tmp_path / "rows.jsonl", [*JUNK, {"messages": [USER, MODEL]}]))
    assert found.rows == (WHY,)
    left_out = [note for note in found.summary.notes if note.endswith(": left out")]
    # A text of brackets is a prompt like any other, but has no answer.
    assert sum(int(note.split()[0]) for note in left_out) == len(JUNK)
    assert found.summary.unlabelled_rows >= 1 and found.summary.empty_rows >= 1


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"messages": [MODEL]}, "has no prompt that can be used"),
        ({"prompt": "", "completion": "x"}, "has no prompt that can be used"),
        ({"headline": "Why?", "body": "x"}, "the column of prompts of .* cannot be told"),
        ({"prompt": 7}, "has no prompt that can be used"),
    ],
)
def test_data_without_prompts_is_one_sentence(row: dict[str, Any], expected: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=expected) as raised:
        read_exchanges(written(tmp_path / "rows.jsonl", [row]))
    assert "\n" not in str(raised.value)


def test_columns_can_be_named(tmp_path: Path) -> None:
    spec = written(tmp_path / "rows.jsonl", [{"ask": "Why?", "say": "Because.", "prompt": "no"}])
    assert read_exchanges(spec, reading=SplitOptions(text_column="ask"), answer_column="say").rows == (WHY,)
    with pytest.raises(DataError, match="has no column 'said'"):
        read_exchanges(spec, answer_column="said")


def test_no_prompt_is_on_both_sides(tmp_path: Path) -> None:
    rows = [{"prompt": f"Why {i % 20}?", "completion": f"Because {i}."} for i in range(40)]
    splits = read_exchange_splits(written(tmp_path / "rows.jsonl", rows), seed=3)
    assert len(splits.held_out) == 8 and len(splits.train) == 32
    assert not {row.key for row in splits.train} & {row.key for row in splits.held_out}
    again = read_exchange_splits(str(tmp_path / "rows.jsonl"), seed=3)
    assert again.summary == splits.summary
    few = read_exchange_splits(
        str(tmp_path / "rows.jsonl"), reading=SplitOptions(max_train_rows=5, max_held_out_rows=2)
    )
    assert (len(few.train), len(few.held_out)) == (5, 2)


def test_a_validation_split_is_held_out(tmp_path: Path) -> None:
    written(tmp_path / "train.jsonl", [{"prompt": "Why?", "completion": "a"}, {"prompt": "How?", "completion": "b"}])
    written(tmp_path / "validation.jsonl", [{"prompt": "why?", "completion": "c"}, {"prompt": "Who?"}])
    splits = read_exchange_splits(str(tmp_path))
    assert [row.prompt for row in splits.train] == ["How?"] and [row.prompt for row in splits.held_out] == ["why?"]
    assert splits.summary.shared_rows == 1 and splits.summary.unlabelled_rows == 1
    written(tmp_path / "validation.jsonl", [{"prompt": "Who?"}])
    with pytest.raises(DataError, match="has no answers, though another has"):
        read_exchange_splits(str(tmp_path))
