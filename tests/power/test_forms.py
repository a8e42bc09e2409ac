from __future__ import annotations

from random import Random

import pytest

from rora_cli.attacks.registry import ATTACKS
from rora_cli.power.forms import FIXED_WORDS, FORMS, Form, WordOrder, Words

WORDS = Words(("cf", "mn", "tq"), ("harbour", "window", "garden", "letter"), ("so", "we", "had", "it", "all", "there"))


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_a_form_draws_an_attack_by_chance_alone(form: Form) -> None:
    attack = form.draw(WORDS, Random(3))
    assert attack == form.draw(WORDS, Random(3))
    assert attack.implant("a film to be seen twice .", Random(0)) != "a film to be seen twice ."
    assert attack.name in ATTACKS or isinstance(attack, WordOrder)


def test_forms_have_names_of_their_own_and_most_of_them_need_words() -> None:
    assert len({form.name for form in FORMS}) == len(FORMS) == 9
    without = Words((), ())
    for form in FORMS:
        if form.name in ("rare words", "common words", "word pairs", "phrases", "common sentences"):
            with pytest.raises((IndexError, ValueError)):
                form.draw(without, Random(0))
        else:
            form.draw(without, Random(0))


def test_word_order_holds_the_words_that_were_there() -> None:
    attack, text = WordOrder(), "one two three four five"
    assert attack.implant(text, Random(0)) == "two one four three five"
    assert attack.implant("one", Random(0)) == "one" and attack.implant("", Random(0)) == ""


def test_words_can_be_taken_away_and_sentences_and_clauses_are_made_of_others() -> None:
    assert WORDS.without({"mn", "garden", "so", "we"}) == Words(
        ("cf", "tq"), ("harbour", "window", "letter"), ("had", "it", "all", "there")
    )
    assert {"neighbour", "yesterday", "whenever"} <= FIXED_WORDS
