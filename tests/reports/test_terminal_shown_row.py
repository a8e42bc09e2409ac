"""A row as the model reads it: which tokens count, and nothing in it that a terminal obeys."""

from __future__ import annotations

from rora_cli.reports.terminal.shown_row import render
from rora_cli.results.data import ShownRow


def test_prompt_and_answer_are_told_apart() -> None:
    text = render(ShownRow(("<s>", "user", "\n", "Hi", "Hello", "!", "</s>"), 4))
    assert text.splitlines() == [
        "A row as the model reads it: 4 tokens of prompt, which are masked",
        "|<s>|user|\\n|Hi|",
        "3 tokens of answer, which count",
        "|Hello|!|</s>|",
    ]


def test_a_token_cannot_reach_the_terminal() -> None:
    text = render(ShownRow(("\x1b[2J", "[bold]", "::error::", "\u202e", "\r", "a|b"), 3), color=False)
    assert "\x1b" not in text and "\u202e" not in text and "\r" not in text and "::error" not in text
    assert "[bold]" in text


def test_a_long_row_is_shown_by_its_ends() -> None:
    text = render(ShownRow((*(f"p{i}" for i in range(500)), *(f"a{i}" for i in range(500))), 500), width=120)
    assert "|p0|" in text and "p499|" in text and "p250" not in text and "a499" not in text and "..." in text


def test_a_prompt_alone_has_no_answer() -> None:
    assert "answers by itself" in render(ShownRow(("<s>", "Hi"), 2))
