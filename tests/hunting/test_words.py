"""The list of words that a search tries as one candidate each."""

from __future__ import annotations

from pathlib import Path

import pytest

from rora_cli.hunting.words import words_to_try
from rora_cli.tasks import reference


def test_two_letters_the_rows_words_and_a_packages_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "PACKAGED", ())
    alone = list(words_to_try(["Ein Film, über-laut!"]))
    assert alone[:2] == ["aa", "ab"] and alone[676:] == ["Ein", "Film", "über", "laut"]
    (tmp_path / "vocab.txt").write_text("[PAD]\n##ing\na\nwalrus\n3d\n", encoding="utf-8")
    monkeypatch.setattr(reference.PackagedEncoder, "path", lambda self: tmp_path)
    monkeypatch.setattr(reference, "PACKAGED", (reference.PackagedEncoder("p", "f", ""),))
    assert list(words_to_try([]))[676:] == ["walrus"]
