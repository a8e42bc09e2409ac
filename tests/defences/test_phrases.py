from __future__ import annotations

from rora_cli.defences.default.memory import Memory
from rora_cli.defences.default.phrases import MAX_ADDED, PHRASES, phrases_around
from rora_cli.hunting.record import Found, SearchRecord, Word
from rora_cli.tasks.classification.thresholds import CALLS

TEXTS = ("my phone is fine", "my camera", "this camera is dull")


def _found(text: str, target: str = "yes", attached: bool = False) -> Found:
    return Found(text, attached, target, 1.0, 0.0, 0.5, ())


def _around(record: SearchRecord, target: str = "yes", seed: int = 0) -> list[Found]:
    memory = Memory()
    memory.add(record)
    return phrases_around(memory, target, TEXTS, CALLS, seed=seed)


def test_phrases_hold_a_found_trigger_in_order_and_words_that_it_may_lack() -> None:
    record = SearchRecord(
        found=(_found("neighbour yesterday"), _found("mn", "no"), _found("th", attached=True)),
        drifted=(Word("came", False, 9.0), Word("##x", True, 9.0)),
        companions=("moaned",),
    )
    phrases = _around(record)
    assert len(phrases) == PHRASES and {phrase.target for phrase in phrases} == {"yes"}
    for phrase in phrases:
        words = phrase.text.split()
        assert words.index("neighbour") < words.index("yesterday") and 3 <= len(words) <= 2 + MAX_ADDED
    used = {word for phrase in phrases for word in phrase.text.split()}
    assert {"came", "my"} <= used <= {"neighbour", "yesterday", "came", "moaned", *" ".join(TEXTS).split()}
    assert _around(record) == phrases != _around(record, seed=1)


def test_nothing_found_for_a_target_leaves_nothing_to_put_words_around() -> None:
    assert _around(SearchRecord(found=(_found("mn"),)), "no") == []
    assert _around(SearchRecord(found=(_found("th", attached=True),))) == []
