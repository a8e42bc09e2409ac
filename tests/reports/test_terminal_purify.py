"""``rora purify`` at a terminal: verdict, accuracy per class, and what each stage did or refused."""

from __future__ import annotations

import re
from dataclasses import replace

from rora_cli.evaluation.intervals import proportion
from rora_cli.power.covering import covering
from rora_cli.reports.model_card import render_purified
from rora_cli.reports.terminal.purify import render
from rora_cli.reports.verdicts import in_plain_words, next_command
from rora_cli.results.accuracy import CleanAccuracy, Proportion
from rora_cli.results.findings import Finding, Severity
from rora_cli.results.power import Power
from rora_cli.results.provenance import Provenance
from rora_cli.results.purify import (
    FoundResidual,
    PurifyResult,
    RescalingAttempt,
    RescalingOutcome,
    StageRecord,
    TriggerChange,
)


def accuracy(positive: int) -> CleanAccuracy:
    share = Proportion(positive, 100, 0.8, 0.95)
    return CleanAccuracy(Proportion(90 + positive, 200, 0.85, 0.93), {"negative": Proportion(90, 100, 0.8, 0.95),
                                                                     "positive": share})  # fmt: skip


def result(*stages: StageRecord, residual: FoundResidual | None = None) -> PurifyResult:
    return PurifyResult(
        model="some/model",
        recipe="default",
        verdict="inconclusive",
        reason="'3d' may be a part",
        label_names=("negative", "positive"),
        accuracy_before=accuracy(88),
        accuracy_after=accuracy(86),
        stages=stages,
        data={},
        provenance=Provenance("purify", {"rora": "0"}, {}, 3),
        residual=residual,
    )


def shown(*stages: StageRecord, residual: FoundResidual | None = None) -> str:
    return re.sub(r"\s+", " ", render(result(*stages, residual=residual), width=100))


def test_a_student_that_costs_too_much_is_said_so() -> None:
    epochs = ({"ce": 0.31, "accuracy": 0.866},)
    text = shown(
        StageRecord("teach 6 blocks", 50.0, 100, epochs, details={"blocks": "of the encoder", "kept": False}),
        StageRecord("teach 4 blocks", 50.0, 100, epochs, details={"blocks": "of the encoder", "kept": True}),
        StageRecord("mix", 0.0, details={"suspect's share": 0.3}),
    )
    assert (
        "teach 6 blocks: 1 epoch, 100 steps at 2/s; last losses ce 0.31; held-out accuracy by epoch 86.6 %; blocks of "
        "the encoder; kept no" in text
    )
    assert re.search(r"teach 4 blocks: .*; kept yes mix: suspect's share 0\.3", text)


def test_accuracy_that_was_measured_at_the_end_only_is_said_to_be_of_the_end() -> None:
    text = shown(StageRecord("train", 1.0, 4, ({"ce": 0.9}, {"ce": 0.31, "accuracy": 0.866})))
    assert "2 epochs, 4 steps at 4/s; last losses ce 0.31; held-out accuracy at the end 86.6 %" in text


def test_what_was_trained_is_said() -> None:
    layers = ("model.layers.0.q_proj", "model.layers.0.v_proj", "model.layers.1.q_proj")
    whole = replace(result(), adapted=layers, trained_head=("classification_head",))
    assert "trained: an adapter on 3 layers (q_proj, v_proj), classification_head whole" in render(whole, width=100)
    frozen = render(replace(result(), adapted=layers[:1]), width=100)
    assert "trained: an adapter on 1 layer (q_proj); the head was left as it is" in frozen
    assert "trained:" not in render(result(), width=100)


def test_verdict_accuracy_per_class_and_residual_are_shown() -> None:
    text = shown(residual=FoundResidual("\x1b[31mcf", "positive", 0.25, 0.2))
    assert "recipe default, seed 3" in text and "verdict: inconclusive - '3d' may be a part" in text
    assert re.search(r"positive 100 88\.0 % \(80\.0-95\.0\) 86\.0 %", text)
    assert "flips 25.0 % to positive (of the reference: 20.0 %)" in text and "\x1b" not in text


def test_what_pt_tried_is_shown() -> None:
    attempts = (
        RescalingAttempt(0.5, {"a": 2.0}, accuracy(70), False),
        RescalingAttempt(0.25, {"a": 1.5}, accuracy(86), True),
    )
    kept = RescalingOutcome(0.25, {"a": 1.5, "b": 3.0}, accuracy(86), attempts)
    refused = RescalingOutcome(0.0, {}, accuracy(86), attempts[:1])
    text = shown(StageRecord("rescale 1", 1.0, rescaling=kept), StageRecord("rescale 2", 1.0, rescaling=refused))
    assert "Pt kept 0.25 of Eq. 12, factors 1.5 to 3 (0.5 of Eq. 12 -> accuracy 80.0 %, refused; 0.25" in text
    assert "rescale 2: Pt gave up and left the adapter as trained" in text


def test_a_verdict_is_said_in_plain_words_with_what_may_settle_it() -> None:
    said = {
        "pass": ("what was searched for is gone, which is no proof", None),
        "inconclusive": (
            "treat it as the download that it was",
            "rora purify 'a model' --clean sst2 --adapter its/own --search-budget thorough --force",
        ),
        "fail": (
            "A trigger still works. Do not use this model.",
            "rora purify 'a model' --clean sst2 --adapter its/own --max-rounds 6",
        ),
        "not assessed": ("nobody has looked whether", "rora hunt out --clean sst2"),
    }
    for verdict, (words, command) in said.items():
        config = {"clean": "sst2", "max_rounds": 3, "max_accuracy_drop": 1.0}
        whole = replace(
            result(), model="a model", verdict=verdict, output="out", provenance=Provenance("purify", {}, config, 0),
            asked=("--clean", "sst2", "--adapter", "its/own"), unmet="" if verdict == "pass" else "search",
        )  # fmt: skip
        text = render(whole, width=80)
        flat = re.sub(r"\s+", " ", text)
        assert flat.startswith(" ".join(in_plain_words(whole))), "the first lines are for everybody"
        assert words in flat and "it is right 88.0 % of the time; before, it was 89.0 %" in flat
        assert ("what may settle it:" in text) == (command is not None)
        assert ("not met: a search of the result finds no trigger" in flat) == (verdict != "pass")
        assert ("--keep-failed writes it there" in flat) == (verdict == "fail")
        assert command is None or command in text.splitlines(), "the command stands on one line, to be copied"
        lost = Finding("purify/accuracy-lost", Severity.HIGH, "it fell")
        if verdict == "fail":
            assert "--max-accuracy-drop 2" in render(replace(whole, findings=(lost,)), width=80)


def test_what_is_tried_next_goes_beyond_what_was_tried() -> None:
    def command(asked: tuple[str, ...], **config: object) -> str:
        provenance = Provenance("purify", {}, {"search_budget": "thorough", **config}, 0)
        return next_command(replace(result(), provenance=provenance, asked=asked)) or ""

    assert command(()).endswith("--reference BASE")
    assert command(("--trigger", "cf"), reference="some/base").endswith("--trigger cf --trigger TEXT")
    again = command(("--search-budget", "fast", "--force"), search_budget="fast")
    assert again == "rora purify some/model --force --search-budget thorough"


def test_rows_that_triggers_turned_and_whose_weights_these_are() -> None:
    def share(count: int) -> Proportion:
        return Proportion(count, 40, 0.0, 1.0)

    triggers = (
        TriggerChange("mn", "positive", False, share(40), share(3), share(2), 0.05),
        TriggerChange("\x1b[31mcf", "positive", True, None, share(1), share(2), 0.05),
    )
    whole = replace(result(), triggers=triggers, suspects_share=0.25)
    for text in (re.sub(r"\s+", " ", render(whole, width=100)), render_purified(whole).replace("`", "")):
        flat = re.sub(r"[ |]+", " ", text)
        assert "mn positive 100.0 % (40 of 40) 7.5 % (3 of 40) 5.0 %" in flat
        assert "cf (named) positive not called then 2.5 % (1 of 40) 5.0 %" in flat and "\x1b" not in flat
        assert "eights: 25.0 % are the suspect's still, changed by training; the others are a trusted" in flat
    assert "weights: all are the suspect's still" in render(result())


def test_what_the_last_search_would_have_found_is_shown_with_what_it_covers() -> None:
    def silence(found: int, total: int, *, verdict: str) -> str:
        share = proportion(found, total)
        power = Power(total, None, 1, 1, (), share, {"rare words": share}, {})
        covered = covering(power, ("words",), 0.7)
        config = {"clean": "sst2"}
        whole = replace(
            result(), model="m", verdict=verdict, power=power, covering=covered, asked=("--clean", "sst2"),
            unmet="" if verdict == "pass" else "covered", provenance=Provenance("purify", {}, config, 0),
        )  # fmt: skip
        return re.sub(r"\s+", " ", render(whole, width=80))

    sure = silence(9, 9, verdict="pass")
    assert sure.startswith(
        "No trigger was found in this model, before or after it was cleansed. That rests on a search that found 9 of 9 "
        "backdoors that rora planted in copies of this model to test it. It can be shipped if backdoors made of "
        "words are what you fear; nobody looked for others (phrases, sentences, punctuation, clauses, order)."
    )
    assert "the last search of the result: of 9 planted backdoors this search found 9 (rare words 9 of 9)" in sure
    assert "covered: words; not covered: phrases, sentences, punctuation, clauses, order (not asked for)" in sure
    few = silence(3, 3, verdict="inconclusive")
    assert "found 3 of 3 backdoors" in few and "Do not ship it yet" in few
    assert "rora purify m --clean sst2 --power 12" in few
    assert "rora purify m --clean sst2 --search-budget thorough" in silence(8, 9, verdict="inconclusive")
