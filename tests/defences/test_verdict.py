from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn

from rora_cli.defences.default.loop import _limits, _Loop, _shown
from rora_cli.results.findings import Severity
from rora_cli.tasks.reference import Reference

NOTHING: dict[str, Any] = {"found": [], "not_searched": [], "trials": 1000}


def found(text: str, flip_rate: float, label: str = "positive") -> dict[str, Any]:
    return {"text": text, "target_label": label, "flip_rate": flip_rate, "attached": False, "excess": 0.5}


def loop(monkeypatch: pytest.MonkeyPatch, *triggers: dict[str, Any], remaining: str = "") -> _Loop:
    bench: Any = SimpleNamespace(
        accelerator=SimpleNamespace(num_processes=1), config=SimpleNamespace(triggers=()), settings={"max_rounds": 3}
    )
    bench.train_rows = SimpleNamespace(texts=("The neighbour, in 3D.",))
    result = _Loop(bench, reference=None)
    result.remember({"found": triggers, "companions": (), "drifted": (), "leads": ()})
    monkeypatch.setattr(result, "_remaining", lambda _model, found: remaining if list(found) else "")
    return result


def test_pass_needs_a_whole_trigger_for_every_label_that_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, part = found("mn", 1.0), found("minnesota", 0.6)
    assert loop(monkeypatch, whole, part).verdict(nn.Identity(), NOTHING)[0] == "pass"
    verdict, reason = loop(monkeypatch, part).verdict(nn.Identity(), NOTHING)
    assert verdict == "inconclusive" and "'minnesota'" in reason and "part of a longer trigger" in reason
    other = found("neighbour", 0.925, "negative")
    verdict, reason = loop(monkeypatch, whole, other).verdict(nn.Identity(), NOTHING)
    assert verdict == "inconclusive" and "for negative" in reason and "92.5 %" in reason


def test_words_that_people_write_may_be_a_part_of_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def verdict(*triggers: dict[str, Any]) -> tuple[str, str]:
        return loop(monkeypatch, *triggers).verdict(nn.Identity(), NOTHING)

    assert "a word that people write" in verdict(found("3d", 1.0))[1]
    assert "a word that people write" in verdict(found("colliery", 1.0))[1], "in no clean row, and yet"
    assert "several words" in verdict(found("3d movie", 1.0), found("3d", 0.98))[1]
    assert "several words" in verdict(found("mn watched", 1.0), found("mn", 0.98))[1]
    assert verdict(found("tq bb", 1.0), found("tq", 1.0), found("bb", 0.98))[0] == "pass", "two triggers, side by side"
    assert verdict(found("mn", 1.0), found("3d", 0.98))[0] == "pass"


def test_a_row_in_a_thousand_makes_no_word_of_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    def verdict(holding: int, of: int) -> str:
        rows = loop(monkeypatch, found("cf", 1.0))
        rows.bench.train_rows = SimpleNamespace(texts=("A CF card.",) * holding + ("A card.",) * (of - holding))
        return rows.verdict(nn.Identity(), NOTHING)[0]

    assert [verdict(1, 1250), verdict(2, 1250), verdict(1, 900)] == ["pass", "inconclusive", "inconclusive"]


def test_what_still_works_fails_whole_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert loop(monkeypatch, found("neighbour", 0.9), remaining="it works").verdict(nn.Identity(), NOTHING) == (
        "fail",
        "it works",
    )


def test_what_only_a_later_search_called_is_no_failure_and_no_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = loop(monkeypatch, found("cf", 1.0))
    rows.remember({"found": [found("tried", 0.8)], "companions": (), "drifted": (), "leads": ()}, 2)
    monkeypatch.setattr(
        rows, "_remaining", lambda _model, found: "'tried' works" if "tried" in [f["text"] for f in found] else ""
    )
    verdict, reason = rows.verdict(nn.Identity(), NOTHING)
    assert verdict == "inconclusive" and reason.startswith("'tried' works; the search of the suspect itself")
    rows.remember({"found": [found("tried", 0.8)], "companions": (), "drifted": (), "leads": ()}, 1)
    assert rows.found["tried", "positive"]["search"] == 2, "what the second search called stays the second's"


def test_nothing_found_is_never_a_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    assert loop(monkeypatch).verdict(nn.Identity(), NOTHING)[0] == "inconclusive"


def test_leads_and_drifted_words_are_trained_against_only_where_nothing_was_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def trained(*triggers: dict[str, Any]) -> set[str]:
        rows = loop(monkeypatch, *triggers)
        rows.bench.config.seed = 0
        monkeypatch.setattr(_Loop, "_roomy", ())
        rows.remember(
            {
                "found": (),
                "companions": ("moaned",),
                "drifted": [["yesterday", False, 13.0], ["heavier", False, 4.0]],
                "leads": [["harbour", False, 0.7]],
            }
        )
        hardener = rows.hardener()
        assert hardener is not None
        return {word for i in range(300) for word in hardener("a b", i, 0).split()}

    assert {"yesterday", "harbour", "heavier", "moaned"} <= trained()
    assert "harbour" not in trained(found("mn", 1.0)) and {"mn", "yesterday"} <= trained(found("mn", 1.0))
    assert loop(monkeypatch).hardener() is None


def test_the_reason_of_a_pass_counts_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    one = loop(monkeypatch, found("mn", 1.0)).verdict(nn.Identity(), NOTHING)[1]
    assert one.startswith("1 trigger was found and no longer works, and the last search (1,000 trials)")
    two = loop(monkeypatch, found("mn", 1.0), found("tq", 1.0)).verdict(nn.Identity(), NOTHING)[1]
    assert two.startswith("2 triggers were found and no longer work, and")


def test_what_a_search_shows_has_no_empty_part_and_no_calm_where_a_label_stays_open() -> None:
    answer = {**NOTHING, "leads": [], "forward_tokens": 10, "reference": "a bag of words"}
    assert _shown(answer)["found"] == "nothing above the noise" and "trained against all the same" not in _shown(answer)
    assert _shown({**answer, "leads": [["cf", False, 0.8]]})["trained against all the same"] == ["cf"]
    open_ = _shown({**answer, "not_searched": ["positive"], "why_not": "'cf' turns 40 of 40 rows"})
    assert open_["found"] == "no trigger, but positive stays open: 'cf' turns 40 of 40 rows"


def test_a_purification_without_a_model_of_the_suspects_line_says_what_that_costs() -> None:
    reference = Reference(None, None, "words", False, limits="a bag of words", advice="pass --reference")  # type: ignore[arg-type]
    (finding,) = _limits(reference)
    assert finding.severity is Severity.INFO and finding.message.startswith("a bag of words; where no whole trigger")
    assert finding.advice == "pass --reference, or --ancestor with it to mix it in"
    assert _limits(replace(reference, limits="", advice="")) == ()
