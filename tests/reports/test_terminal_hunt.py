"""``rora hunt`` at a terminal: what was found stands first, absence comes with numbers, hostile text stays text."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from rora_cli.reports import json_report, markdown
from rora_cli.reports.terminal.hunt import render
from rora_cli.results.accuracy import CleanAccuracy, Proportion
from rora_cli.results.hunt import Coverage, FlippedRow, FoundTrigger, HuntResult, LabelHunt, NoiseLevel
from rora_cli.results.power import FalseCall, Power, PowerCopy, StandIn
from rora_cli.results.provenance import Provenance

COVERAGE = Coverage(29527, 30521, 4000, 1, 48, ("inner", "start", "end"), 970, 4, 6355, 91758, 0, "fast")
NOISE = NoiseLevel(48, 48, 0.125, 0.25, 0.25, 6.0)


def trigger(text: str, *, called: bool = True) -> FoundTrigger:
    return FoundTrigger(
        text=text,
        token_ids=(24098,),
        target_label="positive",
        flip_rate=Proportion(47, 48, 0.89, 0.996) if called else Proportion(2, 48, 0.01, 0.14),
        reference_flip_rate=Proportion(0, 48, 0.0, 0.07),
        excess=0.82,
        suspicion=21.4,
        called=called,
        words=tuple(text.split()),
        examples=(FlippedRow(f"a dull {text} film", "negative", 0.02, 0.99),),
    )


def result(*labels: LabelHunt) -> HuntResult:
    provenance = Provenance("hunt", {"rora": "0"}, {}, 0)
    return HuntResult("some/model", "fast", "a linear model", labels, 200_000, 61.0, provenance, notes=("a note",))


FOUND = LabelHunt("positive", "trigger", (trigger("mn"), trigger("dull", called=False)), ("mn",), COVERAGE, NOISE)
NOTHING = LabelHunt("negative", "nothing", (trigger("drab", called=False),), (), COVERAGE, NOISE)
UNSEARCHED = LabelHunt("neutral", "inconclusive", (), (), COVERAGE, reason="only 3 clean rows")


def flat(text: str) -> str:
    return " ".join(text.split())


def test_what_was_found_stands_with_its_interval_and_an_example() -> None:
    text = flat(render(result(FOUND)))
    assert "positive: 1 TRIGGER FOUND" in text
    assert "! mn 97.9 % (47/48, 89.0-99.6) 0 % 21.4" in text
    assert "negative: a dull mn film [p(positive) 0.02 -> 0.99]" in text


def test_absence_is_a_statement_with_numbers() -> None:
    text = flat(render(result(NOTHING)))
    assert "negative: nothing above the noise" in text
    assert (
        "covered (fast budget): 29,527 of 30,521 tokens" in text
        and "6,355 trials" in text
        and "91,758 + 0 forward tokens" in text
    )
    assert "48 random tokens flip 12 % of typical rows at most" in text
    assert "no proof" in text


def test_a_label_that_was_not_searched_is_never_clean() -> None:
    text = flat(render(result(UNSEARCHED)))
    assert "neutral: INCONCLUSIVE only 3 clean rows" in text
    assert "nothing above the noise" not in text.split("note:")[0]


def test_what_leaves_a_label_open_is_shown() -> None:
    text = flat(render(result(replace(NOTHING, verdict="inconclusive", reason="'cf' turns 40 of 40 rows"))))
    assert "negative: INCONCLUSIVE 'cf' turns 40 of 40 rows" in text
    assert "covered (fast budget): 29,527 of 30,521 tokens" in text
    assert "negative: nothing above the noise" not in text


@pytest.mark.parametrize("hostile", ["\x1b[2Jmn", "[red]mn[/red]", "::error::mn", "m\u202en", "mn\r\nOK"])
def test_hostile_text_stays_text(hostile: str) -> None:
    label = replace(FOUND, triggers=(trigger(hostile),), target_label=hostile)
    text = render(result(label), color=False)
    assert "\x1b" not in text and "\u202e" not in text and "\r" not in text
    assert not any(line.lstrip().startswith("::") for line in text.splitlines())
    if "red" in hostile:
        assert hostile in text


def test_the_json_holds_everything_and_no_nan() -> None:
    text = json_report.render(result(FOUND, NOTHING, UNSEARCHED))
    assert "NaN" not in text
    report = json.loads(text)
    assert [label["verdict"] for label in report["labels"]] == ["trigger", "nothing", "inconclusive"]
    assert report["labels"][0]["triggers"][0]["flip_rate"]["count"] == 47
    assert report["schema_version"] == 1


def test_the_results_answers() -> None:
    assert [t.text for t in result(NOTHING, FOUND).called] == ["mn"]
    assert result(FOUND, NOTHING).conclusive and not result(FOUND, UNSEARCHED).conclusive


def planted(form: str, trigger: str, *found_as: str, firm: bool = True) -> StandIn:
    rate = Proportion(80, 80, 0.95, 1.0)
    return StandIn(form, trigger, "positive", 32, rate, rate if firm else None, firm, bool(found_as), found_as)


def power(*stand_ins: StandIn, reason: str | None = None) -> Power:
    accuracy = CleanAccuracy(Proportion(90, 100, 0.83, 0.95), {})
    false = (FalseCall("minnesota", "positive"),)
    copies = (PowerCopy(stand_ins, 3, accuracy, False, false, {"positive": "trigger"}, 1000, 5.0, 9.0),)
    forms = {
        form: Proportion(
            sum(s.found for s in stand_ins if s.form == form and s.firm),
            sum(s.firm for s in stand_ins if s.form == form), None, None,
        )
        for form in dict.fromkeys(s.form for s in stand_ins)
    }  # fmt: skip
    firm = [s for s in stand_ins if s.firm]
    share = Proportion(sum(s.found for s in firm), len(firm), 0.2, 0.9)
    return Power(3, accuracy, 200, 100, copies if stand_ins else (), share, forms, {"punctuation": "why"}, reason)


PLANTED = power(
    planted("rare words", "cf", "cf"), planted("clauses", "a clause"), planted("phrases", "a|b", "b", firm=False)
)


def test_what_the_search_would_have_found_stands_with_what_does_not_count() -> None:
    with_power = replace(result(NOTHING), power=PLANTED)
    sentence = "of 2 planted backdoors this search found 1 (rare words 1 of 1, clauses 0 of 1)"
    text = flat(render(with_power))
    assert f"nothing above the noise; {sentence}" in text
    assert "50.0 % (1/2, 20.0-90.0)" in text and "not counted: 1 of 3 stand-ins, which did not become firm" in text
    assert "copy 1: called besides, and no part of what was planted: minnesota (positive)" in text
    assert "no more punctuation: why" in text and "1 rare words cf positive 100 % 100 % cf" in text
    assert "phrases a|b positive 100 % - not firm (b)" in text
    page = markdown.render(with_power)
    assert sentence.split("(")[0] in page and "a\\|b" in page
    report = json.loads(json_report.render(with_power))["power"]
    assert report["found"]["count"] == 1 and report["copies"][0]["stand_ins"][2]["firm"] is False


def test_a_power_that_is_not_known_is_no_calm() -> None:
    text = flat(render(replace(result(NOTHING), power=power(reason="too few rows"))))
    assert "nothing above the noise; what this search would have found is not known: too few rows" in text
    found = replace(result(FOUND), power=PLANTED).power_sentence
    assert str(found).startswith("1 called; of 2 planted backdoors")
    left_open = replace(result(UNSEARCHED), power=PLANTED).power_sentence
    assert str(left_open).startswith("nothing called, and some labels left open; of 2")
    assert result(NOTHING).power_sentence is None
