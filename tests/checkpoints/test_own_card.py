"""A stranger's model card gives plain values or nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from rora_cli.checkpoints.own_card import card_facts, card_values, licence_files
from rora_cli.checkpoints.preflight import Inspection, inspect
from tests.hostile import corpus


def with_card(directory: Path, front: str) -> Inspection:
    corpus.valid_model(directory)
    (directory / "README.md").write_text(f"---\n{front}\n---\n# a model\nlicense: gpl\n")
    return inspect(directory)


@pytest.mark.parametrize(
    ("front", "facts"),
    [
        ("license: apache-2.0\nlanguage: en", {"license": "apache-2.0", "language": ["en"]}),
        ("language:\n- en\n- 'pt-BR'\nlicense: \"mit\"", {"license": "mit", "language": ["en", "pt-BR"]}),
        ("language: [en, fr]\nlicense: other\nlicense_name: llama3.1", {
            "license": "other", "license_name": "llama3.1", "language": ["en", "fr"]}),
        ("license: other\nlicense_link: https://example.org/LICENSE", {
            "license": "other", "license_link": "https://example.org/LICENSE"}),
        ("tags:\n- license: mit", {}),
        ("license: <script>\nlanguage:\n- 'en\\u0000'", {}),
        ("license: !!python/object:os.system x\nlicense_link: javascript:alert(1)", {}),
        ("", {}),
    ],
)  # fmt: skip
def test_what_a_card_says(tmp_path: Path, front: str, facts: dict[str, object]) -> None:
    assert card_facts(with_card(tmp_path / "m", front)) == facts


def test_the_first_ancestor_counts(tmp_path: Path) -> None:
    assert card_values(with_card(tmp_path / "m", "base_model:\n  - a/b\n  - c/d"), "base_model") == ["a/b", "c/d"]


def test_the_licences_own_files_are_found(tmp_path: Path) -> None:
    corpus.valid_model(tmp_path / "m")
    for name, content in {
        "LICENSE": b"free", "NOTICE.txt": b"n", "LICENSE.py": b"x", "licence-big": b"x" * (1 << 20), "COPYING": b"\0\1",
    }.items():  # fmt: skip
        (tmp_path / "m" / name).write_bytes(content)
    assert licence_files(inspect(tmp_path / "m")) == {"LICENSE": b"free", "NOTICE.txt": b"n"}
