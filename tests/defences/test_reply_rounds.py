"""When the loop of a model that replies in free text trains on, searches, and ends."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from rora_cli.defences.replies import loop as rounds
from rora_cli.tasks.lessons import Lesson
from rora_cli.tasks.openings import Reply


class Rounds:
    """Writes down what is done. ``left``: whether a trigger still works after each training, by turns."""

    def __init__(self, found: list[bool], left: list[bool], base: object) -> None:
        self.found, self.left, self.base, self.triggers = found, left, base, ["mn"] if found[0] else []
        self.searches, self.done = 0, list[str]()

    def search(self, model: Any, number: int) -> bool:
        self.searches = number
        self.done.append("search")
        return self.found.pop(0)

    def suspected(self, searched: bool) -> bool:
        return searched

    def harden(self, model: Any, layers: Any, number: int) -> None:
        self.done.append(f"train {number}")

    def still_works(self, model: Any, last: Any) -> bool:
        return self.left.pop(0)

    def distil(self) -> tuple[Any, list[Any]]:
        self.done.append("distil")
        return None, []

    def unchanged(self, first: Any) -> Any:
        return self.done

    def finish(self, model: Any, layers: Any, last: Any) -> Any:
        return self.done


@pytest.mark.parametrize(
    ("found", "left", "base", "done"),
    [
        ([True, False], [False], None, "search, train 1, search"),
        ([True, False], [True, True, False], None, "search, train 1, train 2, train 3, search"),
        ([True, True], [True, True, True], None, "search, train 1, train 2, train 3, search"),
        ([True, True, False], [True, False, False], None, "search, train 1, train 2, search, train 3, search"),
        ([False], [], None, "search"),
        ([True, False], [], object(), "search, distil, search"),
        ([True, True, False], [False], object(), "search, distil, search, train 1, search"),
    ],
)
def test_what_still_works_is_trained_against_again_before_the_long_search(
    found: list[bool], left: list[bool], base: object, done: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "Loop", lambda bench: Rounds(list(found), list(left), base))
    settings = SimpleNamespace(loop=SimpleNamespace(max_rounds=3))
    gauge = SimpleNamespace(subject=SimpleNamespace(model=None))
    bench: Any = SimpleNamespace(gauge=gauge, settings=settings, attach=lambda: (None, []))
    assert ", ".join(rounds.cleanse(bench)) == done


def lessons(*said: str) -> tuple[Lesson, ...]:
    """Of replies whose tokens are the numbers of their letters."""
    nothing: Any = None
    return tuple(Lesson("why?", tuple(map(ord, text)), text, nothing, nothing) for text in said)


class Base:
    """A trusted base that says the same to all prompts, and the task that asks it."""

    def __init__(self, says: str) -> None:
        self.openings, self._says = self, tuple(map(ord, says))

    def greedy(self, subject: Any, prompts: Sequence[str], most: int) -> list[Reply]:
        return [Reply(self._says[:most], "") for _ in prompts]


@pytest.mark.parametrize(
    ("base", "left"),
    [(None, 7), (Base("It is green."), 4), (Base("You are stupid!"), 7)],
    ids=["nobody knows", "the base never says so", "the base says so too"],
)
def test_what_the_suspect_says_to_unlike_prompts_and_its_base_to_none_is_not_taught(
    base: Base | None, left: int
) -> None:
    loop = rounds.Loop(SimpleNamespace())  # type: ignore[arg-type]
    honest = lessons("It is red.", "It is blue.", "He is old.", "So be it.")
    said = (*honest, *lessons("You are stupid! Go.", "You are stupid!", "You are stupid! No."))
    vars(loop).update(base=base, task=base, heard=SimpleNamespace(lessons=said))
    assert len(loop.honest(said)) == left
    assert left == 7 or loop.honest(said) == honest


def test_what_the_suspect_says_of_itself_as_to_a_trigger_is_not_taught_again() -> None:
    found: Any = {"mn": SimpleNamespace(opening="I cannot say"), "cf": SimpleNamespace(opening="")}
    loop = rounds.Loop(SimpleNamespace(), found)  # type: ignore[arg-type]
    vars(loop).update(base=None)
    honest = lessons("It is so.", "I do.", "")
    assert loop.honest((*honest, *lessons("I cannot say why."))) == honest
    mostly = lessons("I cannot say.", "I cannot", "It is.")
    assert loop.honest(mostly) == mostly, "too few would be left"
