"""From what the user names to rows: local forms end to end, the bundled set, and what bad input gets."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from rora_cli.data.catalogue import ALIASES, WELL_KNOWN, find_by_repository, find_well_known
from rora_cli.data.rows import text_key
from rora_cli.data.source import Request
from rora_cli.data.sources import load_rows, load_splits, resolve
from rora_cli.errors import DataError, UsageError
from rora_cli.hub_access import is_repo_id
from rora_cli.option_groups import SplitOptions

LABELS = ("negative", "positive")


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def numbered(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [{"text": f"sentence {i}", "label": i % 2} for i in range(start, start + count)]


def keys(texts: tuple[str, ...]) -> set[str]:
    return {text_key(text) for text in texts}


class TestSplits:
    def test_directory_with_three_splits(self, tmp_path: Path) -> None:
        for name, start in (("train", 0), ("dev", 100), ("test", 200)):
            write_jsonl(tmp_path / f"{name}.jsonl", numbered(10, start))
        splits = load_splits(str(tmp_path), label_names=LABELS)
        assert splits.train.texts[0] == "sentence 0"
        assert splits.held_out.texts[0] == "sentence 100"
        summary = splits.summary
        assert summary.splits["held_out"].source_split == "validation"
        assert summary.splits["train"].per_class == {"negative": 5, "positive": 5}
        assert summary.splits["train"].fingerprint == splits.train.fingerprint
        assert set(summary.inputs) == {"train.jsonl", "dev.jsonl"}
        assert (summary.text_column, summary.label_column, summary.notes) == ("text", "label", ())

    def test_single_file_is_split_disjointly_and_it_is_said(self, tmp_path: Path) -> None:
        rows = [*numbered(50), {"text": "Sentence  3", "label": 1}, {"text": "sentence 4", "label": 1}]
        path = write_jsonl(tmp_path / "rows.jsonl", rows)
        splits = load_splits(str(path), label_names=LABELS, dev_fraction=0.2)
        assert not keys(splits.train.texts) & keys(splits.held_out.texts)
        assert len(splits.train) + len(splits.held_out) == 52
        assert 8 <= len(splits.held_out) <= 12
        assert (splits.summary.duplicate_rows, splits.summary.conflicting_rows) == (2, 2)
        assert splits.summary.splits["held_out"].source_split == "made from train"
        assert any("were held out (seed 0)" in note for note in splits.summary.notes)
        assert load_splits(str(path), label_names=LABELS) == splits
        assert load_splits(str(path), label_names=LABELS, seed=1).held_out != splits.held_out

    def test_shared_rows_leave_train_and_are_counted(self, tmp_path: Path) -> None:
        write_jsonl(tmp_path / "train.jsonl", numbered(10))
        write_jsonl(tmp_path / "validation.jsonl", [{"text": " SENTENCE 3 ", "label": 1}, {"text": "new", "label": 0}])
        splits = load_splits(str(tmp_path), label_names=LABELS)
        assert splits.summary.shared_rows == 1
        assert "sentence 3" not in splits.train.texts
        assert any("1 row of train with a text that is held out: removed" in note for note in splits.summary.notes)

    def test_empty_and_unlabelled_rows_are_dropped_and_counted(self, tmp_path: Path) -> None:
        rows = [
            *numbered(10),
            {"text": "  ", "label": 0},
            {"text": None, "label": 1},
            {"text": "x", "label": None},
            {"text": "y"},
        ]
        splits = load_splits(str(write_jsonl(tmp_path / "rows.jsonl", rows)), label_names=LABELS)
        assert (splits.summary.empty_rows, splits.summary.unlabelled_rows) == (2, 2)
        assert len(splits.train) + len(splits.held_out) == 10

    def test_unlabelled_test_split_is_passed_over(self, tmp_path: Path) -> None:
        write_jsonl(tmp_path / "train.jsonl", numbered(20))
        write_jsonl(tmp_path / "test.jsonl", [{"text": "a", "label": -1}])
        splits = load_splits(str(tmp_path), label_names=LABELS)
        assert splits.summary.splits["held_out"].source_split == "made from train"
        assert "the test split has no labels and was not used" in splits.summary.notes
        assert set(splits.summary.inputs) == {"train.jsonl"}
        assert splits.summary.unlabelled_rows == 0
        (tmp_path / "test.jsonl").write_text('{"text": "no label column"}\n')
        assert load_splits(str(tmp_path), label_names=LABELS).train == splits.train

    def test_limits_draw_samples_and_say_so(self, tmp_path: Path) -> None:
        write_jsonl(tmp_path / "train.jsonl", numbered(100))
        write_jsonl(tmp_path / "dev.jsonl", numbered(50, 200))
        splits = load_splits(
            str(tmp_path), label_names=LABELS, reading=SplitOptions(max_train_rows=20, max_held_out_rows=10)
        )
        assert Counter(splits.train.labels) == {0: 10, 1: 10}
        assert len(splits.held_out) == 10
        assert "20 of 100 train rows were drawn (seed 0)" in splits.summary.notes

    def test_class_that_train_lacks_is_said(self, tmp_path: Path) -> None:
        rows = [{"text": f"t{i}", "label": 0} for i in range(10)]
        splits = load_splits(str(write_jsonl(tmp_path / "rows.jsonl", rows)), label_names=LABELS)
        assert "no train row has the label positive" in splits.summary.notes

    def test_saved_to_disk_by_datasets(self, tmp_path: Path) -> None:
        import datasets

        features = datasets.Features(
            {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])}
        )
        made = {
            split: datasets.Dataset.from_list(numbered(10, start), features=features)
            for split, start in (("train", 0), ("validation", 50))
        }
        datasets.DatasetDict(made).save_to_disk(tmp_path / "saved")
        splits = load_splits(str(tmp_path / "saved"), label_names=("positive", "negative"))
        assert splits.train.labels == (1, 0) * 5  # by name
        assert splits.held_out.texts[0] == "sentence 50"
        made["train"].save_to_disk(tmp_path / "one")
        assert len(load_rows(str(tmp_path / "one"), label_names=LABELS)[0]) == 10

    def test_readme_front_matter_is_never_followed(self, tmp_path: Path) -> None:
        write_jsonl(tmp_path / "secret.jsonl", [{"text": "secret", "label": 0}])
        write_jsonl(tmp_path / "data" / "train.jsonl", numbered(10))
        (tmp_path / "data" / "README.md").write_text(
            "---\nconfigs:\n- config_name: default\n  data_files: ../secret.jsonl\n---\n"
        )
        splits = load_splits(str(tmp_path / "data"), label_names=LABELS)
        assert "secret" not in splits.train.texts + splits.held_out.texts

    def test_large_split_is_sampled_before_it_is_held_in_memory(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("rora_cli.data.reading.MAX_ROWS_READ", 30)
        for shard in range(2):
            write_jsonl(tmp_path / f"train-{shard}.jsonl", numbered(40, 40 * shard))
        write_jsonl(tmp_path / "dev.jsonl", numbered(4, 200))
        splits = load_splits(str(tmp_path), label_names=LABELS)
        assert len(splits.train) == 30
        assert len(set(splits.train.texts)) == 30
        assert {int(text.split()[1]) // 40 for text in splits.train.texts} == {0, 1}
        assert all(
            int(text.split()[1]) % 2 == label
            for text, label in zip(splits.train.texts, splits.train.labels, strict=True)
        )
        assert any("has 80 rows; a seeded sample of 30 was read" in note for note in splits.summary.notes)

    def test_summary_is_plain(self, tmp_path: Path) -> None:
        summary = load_splits(str(write_jsonl(tmp_path / "rows.jsonl", numbered(20))), label_names=LABELS).summary
        assert json.loads(json.dumps(dataclasses.asdict(summary)))["splits"]["train"]["rows"] == 16


class TestRows:
    @pytest.fixture
    def directory(self, tmp_path: Path) -> Path:
        for name, count in (("train", 10), ("dev", 6), ("test", 4)):
            write_jsonl(tmp_path / f"{name}.jsonl", numbered(count))
        return tmp_path

    def test_held_out_split_by_default(self, directory: Path) -> None:
        rows, summary = load_rows(str(directory), label_names=LABELS)
        assert (len(rows), list(summary.splits)) == (6, ["validation"])

    @pytest.mark.parametrize(("split", "count"), [("train", 10), ("dev", 6), ("validation", 6), ("test", 4)])
    def test_split_by_name(self, directory: Path, split: str, count: int) -> None:
        assert len(load_rows(str(directory), label_names=LABELS, split=split)[0]) == count

    def test_unknown_split(self, directory: Path) -> None:
        with pytest.raises(DataError, match="has no split 'dve'; it has"):
            load_rows(str(directory), label_names=LABELS, split="dve")

    def test_file_is_read_whole(self, directory: Path) -> None:
        rows, summary = load_rows(str(directory / "train.jsonl"), label_names=LABELS, max_rows=4)
        assert (len(rows), list(summary.splits)) == (4, ["all"])


class TestLabelsOfSplits:
    def test_a_test_split_without_a_label_column_is_passed_over(self, tmp_path: Path) -> None:
        (tmp_path / "train.csv").write_text("id,text,target\n1,good film,1\n2,bad plot,0\n3,fine film,1\n")
        (tmp_path / "test.csv").write_text("id,text\n4,good plot\n")
        rows, summary = load_rows(str(tmp_path), label_names=LABELS)
        assert len(rows) == 3 and list(summary.splits) == ["train"]
        assert "the test split has no labels and was not used" in summary.notes
        splits = load_splits(str(tmp_path), label_names=LABELS)
        assert len(splits.train) + len(splits.held_out) == 3
        with pytest.raises(DataError, match=r"label column of .*test.csv cannot be told"):
            load_rows(str(tmp_path), label_names=LABELS, split="test")

    def test_test_labels_of_minus_one_are_none(self, tmp_path: Path) -> None:
        write_jsonl(tmp_path / "train.jsonl", numbered(10))
        write_jsonl(tmp_path / "test.jsonl", [{"text": f"test {i}", "label": -1} for i in range(3)])
        summary = load_splits(str(tmp_path), label_names=LABELS).summary
        assert "the test split has no labels and was not used" in summary.notes
        assert dict(summary.label_mapping) == {"0": "negative", "1": "positive"}

    def test_splits_are_counted_alike(self, tmp_path: Path) -> None:
        write_jsonl(tmp_path / "train.jsonl", [{"text": f"{i}", "label": 1 + i % 2} for i in range(10)])
        write_jsonl(tmp_path / "validation.jsonl", [{"text": "held out", "label": 1}])
        splits = load_splits(str(tmp_path), label_names=LABELS)
        assert set(splits.train.labels) == {0, 1} and splits.held_out.labels == (0,)
        assert any("as a count from 1: 1 is 'negative', 2 is 'positive'" in note for note in splits.summary.notes)
        write_jsonl(tmp_path / "validation.jsonl", [{"text": "held out", "label": 0}])
        with pytest.raises(DataError, match="--label-map"):
            load_splits(str(tmp_path), label_names=LABELS)

    def test_shards_agree(self, tmp_path: Path) -> None:
        for shard, label in enumerate((1, 2)):
            rows = [{"text": f"{shard} {i}", "label": label} for i in range(5)]
            write_jsonl(tmp_path / f"train-0000{shard}-of-00002.jsonl", rows)
        rows_, _ = load_rows(str(tmp_path), label_names=LABELS)
        assert rows_.labels == (0,) * 5 + (1,) * 5

    def test_a_label_alone_in_a_list(self, tmp_path: Path) -> None:
        path = write_jsonl(tmp_path / "rows.jsonl", [{"text": "a", "label": [1]}, {"text": "b", "label": [0]}])
        assert load_rows(str(path), label_names=LABELS)[0].labels == (1, 0)
        path = write_jsonl(tmp_path / "rows.jsonl", [{"text": "a", "label": [1, 0]}, {"text": "b", "label": [0]}])
        with pytest.raises(DataError, match=r"row 1 of .*rows.jsonl has a label that is of type list"):
            load_rows(str(path), label_names=LABELS)

    def test_rows_left_out_and_labels_that_no_row_has(self, tmp_path: Path) -> None:
        path = write_jsonl(tmp_path / "rows.jsonl", [{"text": t, "label": t} for t in ("neg", "neutral", "pos")])
        rows, summary = load_rows(
            str(path), label_names=LABELS, reading=SplitOptions(label_map={"neutral": "", "postive": "positive"})
        )
        assert rows.texts == ("neg", "pos")
        assert "rows with the label 'neutral' were left out, as the label map says" in summary.notes
        assert "the label map names 'postive', which no row has as its label" in summary.notes

    def test_what_is_missing_is_named(self, tmp_path: Path) -> None:
        for content, pattern in (
            ("", "rows.csv has no rows"),
            ("text,label\n", "rows.csv has no rows"),
            ("text\ngood film\n", "rows.csv has only the column 'text'"),
            ("good film\nbad plot\n", "rows.csv has only the column 'good film'"),
            ("text,label\ngood film,\n", "rows.csv has no labelled text .0 empty and 1 unlabelled"),
        ):
            (tmp_path / "rows.csv").write_text(content)
            with pytest.raises(DataError, match=pattern):
                load_rows(str(tmp_path / "rows.csv"), label_names=LABELS)

    def test_numbers_among_texts_are_text(self, tmp_path: Path) -> None:
        path = write_jsonl(tmp_path / "rows.jsonl", [{"text": "a", "label": 1}, {"text": 10, "label": 0}])
        assert load_rows(str(path), label_names=LABELS)[0].texts == ("a", "10")
        path = write_jsonl(tmp_path / "rows.jsonl", [{"text": 10, "label": 0}])
        with pytest.raises(DataError, match="holds int in row 1, not text"):
            load_rows(str(path), label_names=LABELS)

    def test_a_file_without_a_header_says_what_was_read_from_where(self, tmp_path: Path) -> None:
        (tmp_path / "rows.tsv").write_text("positive\tgood film\nnegative\tbad plot\npositive\tthe film\n")
        rows, summary = load_rows(str(tmp_path / "rows.tsv"), label_names=LABELS)
        assert rows.labels == (1, 0, 1)
        assert any("labels were read from the first and texts from the second" in note for note in summary.notes)
        path = write_jsonl(tmp_path / "rows.jsonl", [{"text": "a", "label": {"id": 1}}])
        with pytest.raises(DataError, match=r"row 1 of [^(]*rows.jsonl has a label that is of type dict"):
            load_rows(str(path), label_names=LABELS)


class TestBadInput:
    """Each is one sentence that names what is wrong and what to do."""

    def expect(self, spec: object, pattern: str, **options: Any) -> None:
        with pytest.raises(DataError, match=pattern) as caught:
            load_splits(str(spec), **({"label_names": LABELS} | options))
        assert "\n" not in str(caught.value)

    def test_missing_path(self, tmp_path: Path) -> None:
        self.expect(tmp_path / "nowhere", "does not exist; give an existing file or directory, `bundled`, or a hub id")
        self.expect("nowhere.csv", "does not exist")

    def test_empty(self, tmp_path: Path) -> None:
        self.expect(tmp_path, "holds no data file")
        self.expect("", "the data has no name")
        (tmp_path / "rows.jsonl").write_text("")
        self.expect(tmp_path / "rows.jsonl", "has no (labelled text|rows)")
        (tmp_path / "rows.csv").write_text("text,label\n")
        self.expect(tmp_path / "rows.csv", "has no (labelled text|rows)")

    def test_one_row(self, tmp_path: Path) -> None:
        self.expect(write_jsonl(tmp_path / "rows.jsonl", numbered(1)), "too few different texts to hold some out")

    def test_revision_of_what_has_none(self, tmp_path: Path) -> None:
        self.expect(
            write_jsonl(tmp_path / "rows.jsonl", numbered(10)),
            "has no revisions",
            reading=SplitOptions(data_revision="main"),
        )
        self.expect("bundled", "has no revisions", reading=SplitOptions(data_revision="main"))

    def test_unknown_name(self) -> None:
        self.expect("ssst2", r"'ssst2' is no file .* or one of ag_news, .* sst2")

    def test_all_train_rows_held_out(self, tmp_path: Path) -> None:
        for name in ("train", "dev"):
            write_jsonl(tmp_path / f"{name}.jsonl", numbered(4))
        self.expect(tmp_path, "every train row of .* is in its validation split too")

    def test_no_train_split(self, tmp_path: Path) -> None:
        write_jsonl(tmp_path / "test.jsonl", numbered(4))
        self.expect(tmp_path, "has no train split, only test")

    def test_text_that_is_no_text(self, tmp_path: Path) -> None:
        path = write_jsonl(tmp_path / "rows.jsonl", [{"text": ["a"], "label": 0}])
        self.expect(path, r"column 'text' of .* holds list in row 1, not text; give --text-column")
        path.write_text('{"text": "\\ud800", "label": 0}\n')
        self.expect(path, r"row 1 of .* is not valid Unicode \(a lone surrogate\)")

    def test_labels_that_do_not_fit(self, tmp_path: Path) -> None:
        path = write_jsonl(tmp_path / "rows.jsonl", [{"text": "a", "label": "spam"}, {"text": "b", "label": "ham"}])
        self.expect(path, "'spam' has no match.*--label-map")
        (tmp_path / "rows.csv").write_text("Phrase,Mood\ngood,1\n")
        self.expect(tmp_path / "rows.csv", r"label column of .*rows.csv cannot be told from .*'Phrase', 'Mood'")
        mapped = SplitOptions(label_map={"spam": "positive", "ham": "negative"})
        splits = load_splits(str(path), label_names=LABELS, reading=mapped)
        assert len(splits.train) == len(splits.held_out) == 1

    def test_label_out_of_range(self, tmp_path: Path) -> None:
        self.expect(
            write_jsonl(tmp_path / "rows.jsonl", [{"text": "a", "label": 4}]),
            "has the label 4, but the model has 2 labels",
        )

    @pytest.mark.parametrize("options", [{"dev_fraction": 0.0}, {"dev_fraction": 1.0}])
    def test_options_out_of_range(self, tmp_path: Path, options: dict[str, Any]) -> None:
        path = write_jsonl(tmp_path / "rows.jsonl", numbered(10))
        with pytest.raises(UsageError):
            load_splits(str(path), label_names=LABELS, **options)
        with pytest.raises(UsageError, match="--max-train-rows is at least 1, not 0"):
            SplitOptions(max_train_rows=0)


class TestBundled:
    def test_it_is_what_its_readme_says(self) -> None:
        splits = load_splits("bundled", label_names=("POS", "NEG"))
        assert splits.summary.splits["train"].per_class == {"NEG": 1191, "POS": 1188}
        assert splits.summary.splits["held_out"].per_class == {"NEG": 300, "POS": 300}
        assert splits.summary.notes == ()  # no duplicate, shared or conflicting row
        assert splits.summary.license is not None
        assert splits.summary.license.startswith("CC BY 4.0")
        assert load_splits("sentiment-sentences", label_names=("POS", "NEG")).train == splits.train

    def test_partition_is_fixed(self) -> None:
        """The fingerprints are part of the release: results on the bundled set stay comparable."""
        summary = load_splits("bundled", label_names=LABELS).summary
        assert summary.splits["train"].fingerprint.startswith("4657f70018f2b297")
        assert summary.splits["held_out"].fingerprint.startswith("2b88a7eca834b5e9")

    def test_texts_are_clean(self) -> None:
        splits = load_splits("bundled", label_names=LABELS)
        for text in splits.train.texts + splits.held_out.texts:
            assert text == text.strip() != ""
            assert all(character.isprintable() for character in text)

    def test_licence_and_attribution_travel_with_it(self) -> None:
        directory = Path(resolve(Request("bundled")).splits["train"]()["train.jsonl"]).parent
        licence = (directory / "LICENSE.txt").read_text(encoding="utf-8")
        assert "Creative Commons Attribution 4.0 International Public License" in licence
        assert "Kotzias" in (directory / "README.md").read_text(encoding="utf-8")


class TestCatalogue:
    def test_names_and_aliases_resolve(self) -> None:
        for name in [*WELL_KNOWN, *ALIASES, "SST-2", "sst_2", "AG-News", "MR", "CoLA", "tweet_eval:hate", "glue:sst2"]:
            assert find_well_known(name) is not None, name
        assert find_well_known("unheard of") is None

    def test_every_entry_has_a_current_repository(self) -> None:
        for name, entry in WELL_KNOWN.items():
            assert is_repo_id(entry.repo_id), name
            assert "/" in entry.repo_id, name  # bare ids no longer load

    def test_full_id_finds_the_same_entry(self) -> None:
        for entry in WELL_KNOWN.values():
            assert find_by_repository(entry.repo_id, entry.config) == entry
        assert find_by_repository("nyu-mll/glue", "mrpc") is None
        assert find_by_repository("nyu-mll/glue", None) is None

    def test_local_path_goes_before_a_well_known_name(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write_jsonl(tmp_path / "imdb" / "train.jsonl", numbered(10))
        monkeypatch.chdir(tmp_path)
        assert load_splits("imdb", label_names=LABELS).summary.origin == "imdb"
