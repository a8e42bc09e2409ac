"""Rows in memory are read as files of the same rows are, and travel between processes."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest

from rora_cli.data.memory import InMemory, named
from rora_cli.data.sources import load_rows, load_splits
from rora_cli.errors import DataError, UsageError

LABELS = ("negative", "positive")
PAIRS = [(f"text {i}", i % 2) for i in range(10)]


def forms() -> dict[str, Any]:
    import datasets
    import numpy as np
    import pandas as pd
    import pyarrow as pa

    columns = {"text": [text for text, _ in PAIRS], "label": [label for _, label in PAIRS]}
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["negative", "positive"])}
    )
    frame = pd.DataFrame(columns)
    return {
        "pairs": PAIRS,
        "tuple of lists": tuple(map(list, PAIRS)),
        "dicts": [{"text": text, "label": label} for text, label in PAIRS],
        "names": [(text, LABELS[label]) for text, label in PAIRS],
        "numpy labels": [(text, np.int64(label)) for text, label in PAIRS],
        "columns": columns,
        "dataset": datasets.Dataset.from_dict(columns),
        "dataset with names": datasets.Dataset.from_dict(columns, features=features),
        "dataset as torch": datasets.Dataset.from_dict(columns).with_format("torch"),
        "frame": frame,
        "frame of floats and categories": frame.assign(label=frame["label"].astype(float)),
        "frame of names": frame.assign(label=[LABELS[label] for label in frame["label"]]).astype({"label": "category"}),
        "arrow": pa.table(columns),
    }


@pytest.mark.parametrize("form", sorted(forms()))
def test_every_form_gives_the_same_rows(form: str) -> None:
    rows, summary = load_rows(named(forms()[form], "data"), label_names=LABELS)
    assert rows.texts == tuple(text for text, _ in PAIRS)
    assert rows.labels == tuple(label for _, label in PAIRS)
    assert summary.origin.startswith("in memory: ") and "10 rows" in summary.origin
    assert dict(summary.inputs) == {"the rows in memory": rows.fingerprint}


def test_splits_are_kept_apart() -> None:
    import datasets

    train, held_out = PAIRS[:6], PAIRS[6:]
    as_columns = {
        split: {"text": [text for text, _ in rows], "label": [label for _, label in rows]}
        for split, rows in (("train", train), ("dev", held_out))
    }
    data = datasets.DatasetDict({name: datasets.Dataset.from_dict(rows) for name, rows in as_columns.items()})
    for given in (data, as_columns, {"train": train, "validation": held_out}):
        splits = load_splits(named(given, "clean"), label_names=LABELS)
        assert splits.train.texts == tuple(text for text, _ in train)
        assert splits.held_out.texts == tuple(text for text, _ in held_out)
        assert splits.summary.splits["held_out"].source_split == "validation"
        assert set(splits.summary.inputs) == {"the train rows in memory", "the validation rows in memory"}


def test_labels_are_settled_as_those_of_files_are() -> None:
    shifted = named([("bad", -1), ("so so", 0), ("good", 1)], "data")
    rows, summary = load_rows(shifted, label_names=("negative", "neutral", "positive"))
    assert rows.labels == (0, 1, 2) and any("-1 is 'negative'" in note for note in summary.notes)
    with pytest.raises(DataError, match=r"the rows in memory has the labels -1, 0, 1.*--label-map"):
        load_rows(shifted, label_names=LABELS)


def test_the_name_stands_for_the_rows() -> None:
    data, same, other = (named(rows, "data") for rows in (PAIRS, list(PAIRS), PAIRS[:9]))
    assert data == same != other
    assert isinstance(data, InMemory) and copy.deepcopy(data) is data
    travelled = pickle.loads(pickle.dumps(data))
    assert load_rows(travelled, label_names=LABELS)[0] == load_rows(data, label_names=LABELS)[0]
    with pytest.raises(DataError, match="were in memory then"):
        load_rows(str.__str__(data), label_names=LABELS)


def test_paths_and_names_stay_as_they_are(tmp_path: Path) -> None:
    assert named("sst2", "clean") == "sst2"
    assert named(tmp_path, "clean") == str(tmp_path)


@pytest.mark.parametrize(
    ("data", "error", "pattern"),
    [
        (7, UsageError, r"clean is a path, a name, a list of .* not int"),
        ({"a", "b"}, UsageError, "not set"),
        (iter(PAIRS), UsageError, "clean is a path"),
        (b"bytes", UsageError, "not bytes"),
        ([], DataError, "clean holds no rows"),
        (["a", "b"], DataError, "row 1 of clean is no .text, label. pair and no dict, but str"),
        ([("a", 0), ("b", 1, 2)], DataError, "row 2 of clean is .* but tuple of 3"),
        ([(0, "a")], DataError, "row 1 of clean"),
        ({"text": ["a", "b"], "label": [0]}, DataError, "columns of clean differ in length"),
        ({"train": [("a", 0)], "test": 3}, UsageError, r"clean\['test'\] is a path"),
    ],
)
def test_what_is_no_rows_is_one_sentence(data: Any, error: type[Exception], pattern: str) -> None:
    with pytest.raises(error, match=pattern) as caught:
        named(data, "clean")
    assert "\n" not in str(caught.value)


def test_streams_are_refused() -> None:
    import datasets

    stream = datasets.Dataset.from_dict({"text": ["a"], "label": [0]}).to_iterable_dataset()
    with pytest.raises(UsageError, match="is a stream without an end"):
        named(stream, "clean")
