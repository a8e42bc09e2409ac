"""``rora purify`` at a terminal: verdict, accuracy per class, and what each stage did or refused."""

from __future__ import annotations

import re
from dataclasses import replace

from rora_cli.reports.terminal.purify import render
from rora_cli.results.accuracy import CleanAccuracy, Proportion
from rora_cli.results.findings import Finding, Severity
from rora_cli.results.provenance import Provenance
from rora_cli.results.purify import FoundResidual, PurifyResult, RescalingAttempt, RescalingOutcome, StageRecord


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
            "rora purify 'a model' --clean sst2 --search-budget thorough",
        ),
        "fail": ("Do not use this model: a trigger still works.", "rora purify 'a model' --clean sst2 --max-rounds 6"),
        "not assessed": ("nobody has looked whether", "rora hunt out --clean sst2"),
    }
    for verdict, (words, command) in said.items():
        config = {"clean": "sst2", "max_rounds": 3, "max_accuracy_drop": 1.0}
        whole = replace(
            result(), model="a model", verdict=verdict, output="out", provenance=Provenance("purify", {}, config, 0)
        )
        text = render(whole, width=80)
        flat = re.sub(r"\s+", " ", text)
        assert words in flat and "it is right 88.0 % of the time; before, it was 89.0 %" in flat
        assert ("what may settle it:" in text) == (command is not None)
        assert command is None or command in text.splitlines(), "the command stands on one line, to be copied"
        lost = Finding("purify/accuracy-lost", Severity.HIGH, "it fell")
        if verdict == "fail":
            assert "--max-accuracy-drop 2" in render(replace(whole, findings=(lost,)), width=80)
