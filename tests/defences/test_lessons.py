from __future__ import annotations

from collections import Counter

from rora_cli.defences.hardening import Hardener, KnownTrigger
from rora_cli.defences.lessons import LESSONS_PER_ROW, MAX_INSERTED, Lesson, make_lessons

TEXTS = ["the film was good and short", "a plain story of lights", "quiet"]


def lessons(passes: int = 50, **changed: object) -> list[Lesson]:
    options: dict[str, object] = {"hardener": None, "avoided": (), "passes": passes, "seed": 0}
    return make_lessons(TEXTS, ["seven"], **(options | changed))  # type: ignore[arg-type]


def test_every_row_gives_itself_a_changed_text_a_trigger_and_any_words() -> None:
    hardener = Hardener([KnownTrigger("mn")], ["long"], seed=0, fraction=1.0)
    given = lessons(1, hardener=hardener)
    assert len(given) == LESSONS_PER_ROW * len(TEXTS)
    for row, text in enumerate(TEXTS):
        own, changed, known, anything = (lesson for lesson in given if lesson.row == row)
        assert own == Lesson(text, row)
        assert changed.asked and not (known.asked or anything.asked)
        assert "mn" in known.text.split()
        assert 1 <= len(anything.text.split()) - len(text.split()) <= MAX_INSERTED


def test_rows_keep_their_words_in_order_whatever_is_put_in_and_lose_some_when_changed() -> None:
    put_in: Counter[str] = Counter()
    for lesson in lessons():
        words, own = lesson.text.split(), TEXTS[lesson.row].split()
        if lesson.asked:
            assert len(words) <= len(own), "nothing is put into a text that the suspect is asked about"
            continue
        left = iter(words)
        assert all(word in left for word in own), lesson
        put_in.update(Counter(words) - Counter(own))
    assert put_in["seven"] and put_in["story"], "of the vocabulary and of the rows"


def test_the_suspect_is_never_asked_about_a_text_with_a_found_trigger() -> None:
    assert any("lights" in lesson.text for lesson in lessons() if lesson.asked)
    assert not any("lights" in lesson.text for lesson in lessons(avoided=[("lights",)]) if lesson.asked)
    both = [lesson.text for lesson in lessons(avoided=[("story", "lights")]) if lesson.asked]
    assert any("lights" in text for text in both) and not any("lights" in t and "story" in t for t in both)


def test_words_are_put_where_the_model_reads_and_the_same_arguments_give_the_same() -> None:
    short = lessons(shortened=["the film", "a plain", "quiet"])
    assert all(
        lesson.text == TEXTS[lesson.row] or "was good and" not in lesson.text for lesson in short if not lesson.asked
    )
    assert lessons() == lessons() != lessons(seed=1)


def test_texts_without_words() -> None:
    given = make_lessons(["", "quiet"], [], hardener=None, avoided=(), passes=1, seed=0)
    assert [lesson.text for lesson in given[:2]] == ["", ""]
    assert set(given[2].text.split()) == {"quiet"}, "a vocabulary may hold no plain word"
