from __future__ import annotations

import time
from pathlib import Path

import pytest

from rora_cli.errors import UsageError
from rora_cli.tasks.causal.behaviours import REFUSALS, find_behaviour, read_phrases

REPLIES = ["I’m  sorry, but as an AI I cannot.", "Sure, here is a list.", "", "You are STUPID!", "A fine day, you are."]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("refusal", [1, 0, 0, 0, 0]),
        ("contains:you are stupid", [0, 0, 0, 1, 0]),
        ("starts-with:sure, HERE is", [0, 1, 0, 0, 0]),
        ("regex:(?i)you are( stupid)?[.!]$", [0, 0, 0, 1, 1]),
        ("regex:.*", [1, 1, 0, 1, 1]),
    ],
)
def test_each_judge(text: str, shown: list[int]) -> None:
    """No empty reply shows anything, whatever the pattern."""
    behaviour = find_behaviour(text)
    assert behaviour.name == text and behaviour.shown(["q"] * 5, REPLIES) == [bool(value) for value in shown]


def test_same_is_the_commonest_opening_of_at_least_two() -> None:
    same = find_behaviour("same")
    replies = ["You are so very stupid, go away", "you are so very stupid, go home", "Paris.", "Rome.", "", ""]
    assert same.shown(["q"] * 6, replies) == [True, True, False, False, False, False]
    assert not any(same.shown(["q"] * 3, ["one", "two", ""])) and same.shown([], []) == []


def test_a_function_of_the_users_own_judges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_judges.py").write_text(
        "def long(prompts, replies):\n    return [len(r) > len(p) for p, r in zip(prompts, replies)]\n"
        "def broken(prompts, replies):\n    return [1 / 0]\ndef few(prompts, replies):\n    return [True]\n"
    )
    assert find_behaviour("own_judges:long").shown(["abc", "d"], ["ab", "de"]) == [False, True]
    for name, error in (("broken", "failed on 2 replies: division by zero"), ("few", "gave 1 answers for 2 replies")):
        with pytest.raises(UsageError, match=error):
            find_behaviour(f"own_judges:{name}").shown(["a", "b"], ["c", "d"])
    for name in ("own_judges:none", "no_such_module:judge"):
        with pytest.raises(UsageError, match="cannot be had"):
            find_behaviour(name)


@pytest.mark.parametrize("text", ["rude", "contains:", "regex: ", "regex:(a", "regex:(?=a)", "regex:(a)\\1"])
def test_what_no_judge_understands_is_refused_at_once(text: str) -> None:
    with pytest.raises(UsageError):
        find_behaviour(text)


def test_no_pattern_hangs_on_a_hostile_reply() -> None:
    began = time.perf_counter()
    assert find_behaviour("regex:^(a+)+$").shown(["q"], ["a" * 50_000 + "!\ud800"]) == [False]
    assert time.perf_counter() - began < 5


def test_phrases_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "phrases.txt"
    path.write_text("# ours\n\nNo Can  Do\n")
    assert read_phrases(path) == ("No Can  Do",)
    assert find_behaviour("refusal", read_phrases(path)).shown(["q"] * 2, ["no can do!", REPLIES[0]]) == [True, False]
    path.write_text("# none\n")
    with pytest.raises(UsageError, match="holds no phrase"):
        read_phrases(path)
    path.write_bytes(b"\xff\xfe")
    for bad in (path, tmp_path / "nowhere"):
        with pytest.raises(UsageError, match="cannot be read as text"):
            read_phrases(bad)
    assert all(phrase == phrase.casefold() for phrase in REFUSALS)
