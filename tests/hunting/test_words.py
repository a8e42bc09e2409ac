"""The list of words that a search tries as one candidate each."""

from __future__ import annotations

from pathlib import Path

import pytest

from rora_cli.hunting.words import marks_to_try, words_to_try
from rora_cli.tasks import reference


def test_the_words_of_the_rows_and_of_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "PACKAGED", ())
    assert list(words_to_try(["Ein Film, über-laut!"], unseen=True)) == ["Ein", "Film", "über", "laut"]
    (tmp_path / "vocab.txt").write_text("[PAD]\n##ing\na\nwalrus\n3d\n", encoding="utf-8")
    monkeypatch.setattr(reference.PackagedEncoder, "path", lambda self: tmp_path)
    monkeypatch.setattr(reference, "PACKAGED", (reference.PackagedEncoder("p", "f", ""),))
    assert list(words_to_try(["a"], unseen=True)) == ["a", "walrus"]
    assert list(words_to_try(["a"], unseen=False)) == ["a"]


def test_marks_are_tried_in_twos_and_only_those_of_the_rows_beside_a_bag_of_words() -> None:
    assert list(marks_to_try(["It is - well - fine."], unseen=False)) == ["- -", "- .", ". -", ". ."]
    every = list(marks_to_try(["fine"], unseen=True))
    assert len(every) == 32 * 32 and {": !", "; :", "~ ~"} <= set(every)
