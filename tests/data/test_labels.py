"""Columns by convention, and labels of the data to ids of the model."""

from __future__ import annotations

from typing import Any

import pytest

from rora_cli.data.columns import find_columns
from rora_cli.data.labels import CONVENTIONAL_ORDERS, SYNONYMS, LabelMap
from rora_cli.errors import DataError

GENERIC = ("LABEL_0", "LABEL_1")
NAMED = ("negative", "positive")
FLIPPED = ("positive", "negative")


def ids(values: list[Any], label_names: tuple[str, ...], **options: Any) -> list[int]:
    return LabelMap(label_names, "rows.csv", **options).ids(values)


class TestColumns:
    @pytest.mark.parametrize(
        ("names", "expected"),
        [
            (["sentence", "label", "idx"], ("sentence", "label")),
            (["Text", "Label"], ("Text", "Label")),
            (["title", "content", "label"], ("content", "label")),
            (["tweet", "class"], ("tweet", "class")),
            (["review", "sentiment"], ("review", "sentiment")),
            (["text", "label", "label_text"], ("text", "label")),
            (["sms", "label"], ("sms", "label")),
        ],
    )
    def test_convention(self, names: list[str], expected: tuple[str, str]) -> None:
        assert find_columns(names, "rows.csv") == expected

    def test_given_columns_go_first(self) -> None:
        names = ["text", "body", "label", "stars"]
        assert find_columns(names, "rows.csv", text_column="body", label_column="stars") == ("body", "stars")
        pair = ["premise", "hypothesis", "label"]
        assert find_columns(pair, "rows.csv", text_column="premise") == ("premise", "label")

    @pytest.mark.parametrize(
        ("names", "options", "pattern"),
        [
            (["foo", "label"], {}, r"text column of rows.csv cannot be told .*'foo', 'label'.* --text-column"),
            (["text", "bar"], {}, r"label column of rows.csv cannot be told .*--label-column"),
            ([], {}, r"\(none\)"),
            (["text", "label"], {"text_column": "nope"}, r"no column 'nope' \(it has 'text', 'label'\)"),
            (["text", "label"], {"label_column": "text"}, "cannot be text and label at once"),
            (["premise", "hypothesis", "label"], {}, r"text-pair task \(premise, hypothesis\)"),
            (["Sentence1", "sentence2", "label"], {}, r"text-pair task \(Sentence1, sentence2\)"),
            (["question", "sentence", "label"], {}, "text-pair task"),
        ],
    )
    def test_refusals(self, names: list[str], options: dict[str, str], pattern: str) -> None:
        with pytest.raises(DataError, match=pattern):
            find_columns(names, "rows.csv", **options)


class TestIntegers:
    def test_integers_are_the_models_ids(self) -> None:
        for names in (GENERIC, NAMED, FLIPPED):
            assert ids([0, 1, 1], names) == [0, 1, 1]
            assert ids(["0", "1", " 1 "], names) == [0, 1, 1]
            assert ids([0.0, 1.0, True], names) == [0, 1, 1]
            assert ids(["0.0", "1.0"], names) == [0, 1]

    def test_missing_and_nothing_but_minus_one_are_unlabelled(self) -> None:
        assert ids([None, float("nan"), "", " ", 1], NAMED) == [-1, -1, -1, -1, 1]
        assert ids([-1, "-1", -1.0], NAMED) == [-1, -1, -1]
        assert ids([-1, 0, 1], NAMED, class_names=NAMED) == [-1, 0, 1]

    @pytest.mark.parametrize("value", [2, "2", 7, -2, 10**8])
    def test_out_of_range(self, value: Any) -> None:
        with pytest.raises(
            DataError, match=r"rows.csv has the labels .*, but the model has 2 labels, ids 0 to 1 .*--label-map"
        ):
            ids([0, value], NAMED)

    @pytest.mark.parametrize("value", [0.5, [1], {"a": 1}, b"1"])
    def test_what_is_no_class(self, value: Any) -> None:
        with pytest.raises(DataError, match=r"row 1 of rows.csv has a label that is .* --label-column"):
            ids([value], NAMED)


RATED = ("negative", "neutral", "positive")
STARS = tuple(f"{i} star{'s' if i > 1 else ''}" for i in range(1, 6))


class TestCounting:
    """Integers that are not simply the model's ids: read in the one way that fits, and said, or refused."""

    @pytest.mark.parametrize(
        ("values", "names", "expected"),
        [
            ([-1, 0, 1], RATED, [0, 1, 2]),
            (["-1", "0", "1"], RATED, [0, 1, 2]),
            ([-1.0, 0.0, 1.0], ("positive", "neutral", "negative"), [2, 1, 0]),
            ([-1, 0, 1], ("LABEL_0", "LABEL_1", "LABEL_2"), [0, 1, 2]),
            ([-1, 1, 1], NAMED, [0, 1, 1]),
            ([-1, 1], FLIPPED, [1, 0]),
            (["-1", "1"], GENERIC, [0, 1]),
            ([1, 2], NAMED, [0, 1]),
            ([3, 1, 2], RATED, [2, 0, 1]),
            ([5, 1, 3], STARS, [4, 0, 2]),
            (["1", "2"], ("1", "2", "3"), [0, 1]),
            ([1, 2, 3], ("3", "2", "1"), [2, 1, 0]),
            ([-1, 0, 1], ("-1", "0", "1"), [0, 1, 2]),
            ([-1, -1], ("-1", "0", "1"), [0, 0]),
            ([-1, 0, 1, 2, 3], ("a", "b", "c", "d"), [-1, 0, 1, 2, 3]),
        ],
    )
    def test_one_reading_fits_and_is_said(self, values: list[Any], names: tuple[str, ...], expected: list[int]) -> None:
        label_map = LabelMap(names, "rows.csv")
        assert label_map.ids(values) == expected
        shown = str(int(float(next(v for v, i in zip(values, expected, strict=True) if i >= 0))))
        by_name = all(str(value) in names for value in values) and isinstance(values[0], str)
        assert by_name or any(f"{shown} is '{names[max(expected[0], 0)]}'" in note for note in label_map.notes)

    @pytest.mark.parametrize(
        ("values", "names", "options"),
        [
            (
                [-1, 0, 1],
                NAMED,
                ["--label-map -1=negative --label-map 0= --label-map 1=positive", "--label-map -1= if"],
            ),
            ([-1, 0], NAMED, ["--label-map -1="]),
            ([-1, 1], RATED, ["--label-map -1="]),
            ([-1, 0, 1], ("World", "Sports", "Business"), ["--label-map -1=World", "--label-map -1= "]),
            ([1, 2], RATED, ["--label-map 1=neutral to read them as the model's ids", "--label-map 1=negative to"]),
            ([1, 2, 3, 4], STARS, ["--label-map '1=2 stars'", "--label-map '1=1 star'"]),
            ([0, 4], NAMED, ["--label-map 0=negative --label-map 4=positive"]),
            ([0, 2, 4], RATED, ["--label-map 0=negative --label-map 2=neutral --label-map 4=positive"]),
            ([0, 1, 2], NAMED, ["--label-map 0=negative --label-map 1= --label-map 2=positive"]),
        ],
    )
    def test_what_is_open_is_refused_with_options_to_copy(
        self, values: list[int], names: tuple[str, ...], options: list[str]
    ) -> None:
        with pytest.raises(DataError) as caught:
            ids(values, names)
        assert all(option in str(caught.value) for option in options), caught.value
        assert "\n" not in str(caught.value)

    def test_one_pair_settles_how_all_are_counted(self) -> None:
        assert ids([1, 2], RATED, given={"1": "neutral"}) == [1, 2]
        assert ids([1, 2], RATED, given={"1": "negative"}) == [0, 1]
        assert ids([1, 2, 3, 4], STARS, given={"1": "1 star"}) == [0, 1, 2, 3]
        assert ids([-1, 0, 1], NAMED, given={"-1": ""}) == [-1, 0, 1]
        assert ids([-1, 0, 1], ("a", "b", "c"), given={"-1": "a"}) == [0, 1, 2]
        assert ids([-1, 0, 1], NAMED, given={"-1": "negative", "0": "", "1": "positive"}) == [0, -1, 1]
        assert ids([-1, 0, 1], NAMED, given={"0": ""}) == [0, -1, 1]

    def test_a_map_of_some_labels_does_not_give_an_id_twice(self) -> None:
        with pytest.raises(DataError, match=r"names only some of the labels -1, 0, 1 .*--label-map 0= "):
            ids([-1, 0, 1], NAMED, given={"-1": "negative"})

    def test_a_label_never_changes_its_meaning_between_splits(self) -> None:
        label_map = LabelMap(NAMED, "train.csv")
        assert label_map.ids([0, 1]) == [0, 1]
        assert label_map.ids([1]) == [1] and label_map.ids([-1, -1]) == [-1, -1]
        with pytest.raises(DataError, match="--label-map"):
            label_map.ids([1, 2])
        later = LabelMap(NAMED, "train.csv")
        assert later.ids([1, 2]) == [0, 1]
        assert later.ids([1]) == [0]
        with pytest.raises(DataError, match="--label-map"):
            later.ids([0, 1])

    def test_a_single_id_is_said(self) -> None:
        label_map = LabelMap(NAMED, "rows.csv")
        assert label_map.ids([1, 1]) == [1, 1]
        assert label_map.notes == ["integer labels were read as the model's ids: 1 is 'positive'"]

    def test_ids_of_a_model_in_the_reverse_order_are_said(self) -> None:
        label_map = LabelMap(FLIPPED, "rows.csv")
        assert label_map.ids([0, 1]) == [0, 1]
        assert label_map.notes == ["integer labels were read as the model's ids: 0 is 'positive', 1 is 'negative'"]

    def test_truths(self) -> None:
        assert ids(["True", "False"], NAMED) == [1, 0]
        assert ids([True, False], FLIPPED) == [0, 1]
        assert ids(["true", "false"], ("hate", "not-hate")) == [0, 1]
        assert ids([True, False], ("True", "False")) == [0, 1]
        with pytest.raises(DataError, match=r"--label-map False=ham --label-map True=spam"):
            ids(["True", "False"], ("ham", "spam"))
        assert ids(["True", "False"], ("ham", "spam"), given={"True": "spam", "False": "ham"}) == [1, 0]


class TestNames:
    @pytest.mark.parametrize("values", [["negative", "positive"], ["NEG", "Pos"], ["Negative ", "POSITIVE"]])
    def test_case_and_synonyms(self, values: list[str]) -> None:
        assert ids(values, NAMED) == [0, 1]
        assert ids(values, FLIPPED) == [1, 0]
        assert ids(values, ("NEG", "POS")) == [0, 1]

    def test_punctuation_between_words(self) -> None:
        assert ids(["non-hate", "hate"], ("not_hate", "hate")) == [0, 1]
        assert ids(["Sci/Tech", "World"], ("World", "sci tech")) == [1, 0]

    def test_named_integers_follow_the_names_not_the_order(self) -> None:
        assert ids([0, 1], FLIPPED, class_names=NAMED) == [1, 0]

    def test_named_integers_keep_their_id_where_the_model_names_nothing(self) -> None:
        assert ids([0, 1], GENERIC, class_names=("World", "Sports")) == [0, 1]
        assert ids([0, 1], ("0", "1"), class_names=("World", "Sports")) == [0, 1]

    def test_names_that_are_numbers_name_nothing(self) -> None:
        assert ids([0, 1], NAMED, class_names=("1", "2")) == [0, 1]

    def test_label_i_in_the_data(self) -> None:
        assert ids(["LABEL_0", "label_1"], GENERIC) == [0, 1]
        assert ids(["LABEL_0", "label_1"], FLIPPED) == [0, 1]

    def test_digits_that_are_the_models_names_are_names(self) -> None:
        assert ids(["1", "2"], ("2", "1")) == [1, 0]

    def test_conventional_order_is_used_and_said(self) -> None:
        label_map = LabelMap(GENERIC, "rows.csv")
        assert label_map.ids(["pos", "neg"]) == [1, 0]
        assert label_map.notes == ["the model names no labels, so negative < positive was taken as its order of ids"]
        assert ids(["neutral", "positive"], ("LABEL_0", "LABEL_1", "LABEL_2")) == [1, 2]

    def test_mapping_tells_what_was_mapped(self) -> None:
        label_map = LabelMap(FLIPPED, "rows.csv", class_names=NAMED)
        label_map.ids([0, 1, -1])
        assert label_map.mapping == {"0 (negative)": 1, "1 (positive)": 0}

    @pytest.mark.parametrize(
        ("values", "names", "options"),
        [
            (["spam", "ham"], NAMED, {}),
            (["World", "Sports"], GENERIC, {}),
            (["neutral"], NAMED, {}),
            ([0, 1], NAMED, {"class_names": ("World", "Sports")}),
            ([0, 1], GENERIC, {"class_names": ("a", "b", "c")}),
            (["neg"], ("negative", "Neg-ative"), {}),  # not unambiguous
            (["LABEL_7"], NAMED, {}),
        ],
    )
    def test_mismatch_names_both_sides(
        self, values: list[Any], names: tuple[str, ...], options: dict[str, Any]
    ) -> None:
        if names[1] == "Neg-ative":
            names = ("neg ", "NEG")
        with pytest.raises(DataError, match="--label-map") as caught:
            ids(values, names, **options)
        assert all(repr(name) in str(caught.value) for name in names)

    def test_refused_names_come_with_a_map_to_copy(self) -> None:
        with pytest.raises(
            DataError, match=r"--label-map neg=negative --label-map neutral= --label-map pos=positive \("
        ):
            ids(["pos", "neutral", "neg"], NAMED)
        with pytest.raises(DataError, match=r"--label-map ham=LABEL_0 --label-map 'my spam=LABEL_1'"):
            ids(["my spam", "ham"], GENERIC)

    def test_given_map_goes_first(self) -> None:
        given = {"ham": "negative", "SPAM": "1"}
        assert ids(["spam", "ham", "Ham"], NAMED, given=given) == [1, 0, 0]
        assert ids([3, 5], NAMED, given={"3": "negative", "5": "positive"}) == [0, 1]
        assert ids(["negative"], NAMED, given={"negative": "positive"}) == [1]
        named = LabelMap(NAMED, "rows.csv", class_names=("World", "Sports"), given={"World": "negative", "sports": "1"})
        assert named.ids([1, 0]) == [1, 0]
        label_map = LabelMap(NAMED, "rows.csv", given={"neutral": ""})
        assert label_map.ids(["neutral", "neg"]) == [-1, 0]
        assert label_map.notes == ["rows with the label 'neutral' were left out, as the label map says"]
        assert ids(["1", "0", "?"], NAMED, given={"?": ""}) == [1, 0, -1]
        with pytest.raises(DataError, match="--label-map has 'maybe'"):
            ids(["a"], NAMED, given={"a": "maybe"})

    def test_long_lists_are_cut(self) -> None:
        names = tuple(f"class {i}" for i in range(200))
        with pytest.raises(DataError, match="and 192 more"):
            ids(["unknown"], names)


def test_a_synonym_stands_in_one_group_only() -> None:
    names = [name for group in SYNONYMS for name in group]
    assert len(names) == len(set(names))
    assert all(name in names for order in CONVENTIONAL_ORDERS for name in order)
