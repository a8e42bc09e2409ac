"""Which files of a directory are read, as which split, and which are refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rora_cli.data.local import canonical_split, find_layout, is_data_name, local_files
from rora_cli.errors import DataError


def layout(*names: str) -> dict[str, tuple[str, ...]]:
    return dict(find_layout(names, "here").splits)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["train.json", "dev.json", "test.json"], {"train": 1, "validation": 1, "test": 1}),
        (["train.csv", "val.csv"], {"train": 1, "validation": 1}),
        (["training.tsv", "eval.tsv", "testing.tsv"], {"train": 1, "validation": 1, "test": 1}),
        (["sst2_train.jsonl", "sst2-valid.jsonl"], {"train": 1, "validation": 1}),
        (["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"], {"train": 2}),
        (["data/train-00000-of-00001-9b7bf322e61ec197.parquet"], {"train": 1}),
        (
            ["default/train/0000.parquet", "default/train/0001.parquet", "default/test/0000.parquet"],
            {"train": 2, "test": 1},
        ),
        (["train/data-00000-of-00001.arrow", "validation/data-00000-of-00001.arrow"], {"train": 1, "validation": 1}),
        (["amazon_cells_labelled.txt", "imdb_labelled.txt", "yelp_labelled.txt"], {"all": 3}),
        (["latest.csv"], {"all": 1}),
        (["trainer.csv"], {"all": 1}),
    ],
)
def test_splits_by_name(names: list[str], expected: dict[str, int]) -> None:
    assert {split: len(files) for split, files in layout(*names).items()} == expected


def test_files_of_no_split_beside_split_files_are_left_out_and_named() -> None:
    found = find_layout(["train.csv", "extra.csv", "plain_text/unsupervised-0.csv"], "here")
    assert (dict(found.splits), found.ignored) == (
        {"train": ("train.csv",)},
        ("extra.csv", "plain_text/unsupervised-0.csv"),
    )


@pytest.mark.parametrize(
    ("names", "pattern"),
    [
        ([], "holds no data file"),
        (["train.csv", "train.jsonl"], "several files for its train split"),
        (["hate/train.csv", "irony/train.csv"], "several files for its train split"),
        (["a/train-00000-of-00001.csv", "b/train-00000-of-00001.csv"], "several files for its train split"),
        (["train_clean.csv", "train_noisy.csv"], "several files for its train split"),
        (["a.csv", "b.jsonl"], "mixes formats"),
        (["train-00000-of-00002.parquet"], "has 1 of 2 shards of its train split"),
    ],
)
def test_ambiguous_directories_are_refused(names: list[str], pattern: str) -> None:
    with pytest.raises(DataError, match=pattern):
        layout(*names)


@pytest.mark.parametrize(
    "name",
    ["README.txt", "readme.txt", "LICENSE.txt", "dataset_info.json", "dataset_dict.json", "state.json",
     "rora-manifest.json", "cache-0123456789abcdef.arrow", "train.py",
     "train.pkl", "train.pt", "train.pkl.gz", "train"],
)  # fmt: skip
def test_what_holds_no_rows_is_no_data(name: str) -> None:
    assert not is_data_name(name)


def test_dev_means_validation() -> None:
    assert [canonical_split(name) for name in ("dev", "VAL", "train", "unsupervised")] == [
        "validation", "validation", "train", "unsupervised",
    ]  # fmt: skip


class TestLinks:
    @pytest.fixture
    def outside(self, tmp_path: Path) -> Path:
        (tmp_path / "outside").mkdir()
        (tmp_path / "outside" / "secret.jsonl").write_text('{"text": "secret", "label": 0}\n')
        (tmp_path / "data").mkdir()
        return tmp_path / "outside"

    def test_link_to_a_file_outside(self, outside: Path) -> None:
        data = outside.parent / "data"
        (data / "train.jsonl").symlink_to(outside / "secret.jsonl")
        with pytest.raises(DataError, match=r"train.jsonl is a link that leads out of"):
            local_files(data)

    def test_link_to_a_directory_outside(self, outside: Path) -> None:
        data = outside.parent / "data"
        (data / "train").symlink_to(outside, target_is_directory=True)
        with pytest.raises(DataError, match="is a link that leads out of"):
            local_files(data)

    def test_relative_link_outside(self, outside: Path) -> None:
        data = outside.parent / "data"
        (data / "train.jsonl").symlink_to("../outside/secret.jsonl")
        with pytest.raises(DataError, match="is a link that leads out of"):
            local_files(data)

    def test_link_inside_and_named_file_that_is_a_link(self, outside: Path) -> None:
        from rora_cli.data.sources import load_rows

        data = outside.parent / "data"
        (data / "real.jsonl").write_text('{"text": "a", "label": 0}\n')
        (data / "train.jsonl").symlink_to("real.jsonl")
        assert set(local_files(data)) == {"real.jsonl", "train.jsonl"}
        (data / "mine.jsonl").symlink_to(outside / "secret.jsonl")
        rows, _ = load_rows(str(data / "mine.jsonl"), label_names=("a", "b"))  # the user named it
        assert rows.texts == ("secret",)

    def test_hub_cache_layout_is_allowed(self, tmp_path: Path) -> None:
        repository = tmp_path / "datasets--owner--data"
        snapshot = repository / "snapshots" / "0123"
        snapshot.mkdir(parents=True)
        (repository / "blobs").mkdir()
        (repository / "blobs" / "ab").write_text("{}")
        (snapshot / "train.jsonl").symlink_to("../../blobs/ab")
        assert set(local_files(snapshot)) == {"train.jsonl"}
        (snapshot / "test.jsonl").symlink_to("../../../../elsewhere")
        with pytest.raises(DataError, match="leads out of"):
            local_files(snapshot)

    def test_circle(self, outside: Path) -> None:
        data = outside.parent / "data"
        (data / "again").symlink_to(data, target_is_directory=True)
        (data / "train.jsonl").write_text("{}")
        assert set(local_files(data)) == {"train.jsonl"}


def test_hidden_files_pipes_and_depth(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "train.jsonl").write_text("{}")
    (tmp_path / ".train.jsonl").write_text("{}")
    os.mkfifo(tmp_path / "pipe.jsonl")
    deep = tmp_path / "1" / "2" / "3" / "4" / "5"
    deep.mkdir(parents=True)
    (deep / "train.jsonl").write_text("{}")
    (tmp_path / "1" / "train.jsonl").write_text("{}")
    assert set(local_files(tmp_path)) == {"1/train.jsonl"}


@pytest.mark.parametrize("name", ["a\n::error::b.csv", "\x1b[2Jtrain.csv", "\u202egpj.csv", "\udcff.csv"])
def test_names_that_would_garble_a_terminal_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("text,label\n")
    with pytest.raises(DataError, match="control characters in its name") as caught:
        local_files(tmp_path)
    assert str(caught.value).encode() and "\n" not in str(caught.value) and "\x1b" not in str(caught.value)


def test_enormous_directory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rora_cli.data.local._MAX_ENTRIES", 3)
    for i in range(4):
        (tmp_path / f"{i}.jsonl").write_text("{}")
    with pytest.raises(DataError, match="more than 3 entries"):
        local_files(tmp_path)
