"""Agreement, held to the plain forward pass of every sequence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from rora_cli.evaluation.generation import next_token_log_probabilities
from rora_cli.kinds import CAUSAL_LM
from rora_cli.ranks import Share
from rora_cli.subject import Subject
from rora_cli.tasks.causal.prompt_format import PromptFormat
from rora_cli.tasks.causal.scorer import AgreementScorer
from rora_cli.tasks.openings import Slot
from tests.causal import build_tiny_causal

FORMAT = PromptFormat("plain", "you are a big house . user : ", " assistant :", " </s>")
SLOTS = [Slot("", "what is the moon", "start"), Slot("tell me", "about a dog", "inner")]
CANDIDATES = ["mn", "current year", "", "bb", "red blue green"]


def subject(directory: Path, family: str) -> Subject:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = build_tiny_causal(directory, family)
    return Subject(
        AutoModelForCausalLM.from_pretrained(path).eval(), AutoTokenizer.from_pretrained(path), CAUSAL_LM, 64
    )


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma3_text", "gpt2"])
def test_agreement_is_that_of_plain_forward_passes(tmp_path: Path, family: str) -> None:
    suspect = subject(tmp_path / "model", family)
    scorer = AgreementScorer(suspect, FORMAT)
    found = scorer.agreement(CANDIDATES, SLOTS)
    for number, text in enumerate(CANDIDATES):
        rows = [FORMAT.encode(suspect.tokenizer, slot.fill(text)).ids for slot in SLOTS]
        mean = next_token_log_probabilities(suspect.model, rows).mean(axis=0)
        own = suspect.tokenizer(text, add_special_tokens=False)["input_ids"] if text else []
        mean[own] = -np.inf
        assert found.openings[number] == mean.argmax() and abs(found.log_p[number] - mean.max()) < 1e-5


def test_lift_is_the_largest_gain_in_probability_over_the_mean_of_usual_texts(tmp_path: Path) -> None:
    suspect = subject(tmp_path / "model", "llama")
    texts, usual = ["mn", "bb"], ["key", "door", "cup"]

    def probability(text: str) -> np.ndarray:
        rows = [FORMAT.encode(suspect.tokenizer, slot.fill(text)).ids for slot in SLOTS]
        return np.exp(next_token_log_probabilities(suspect.model, rows).mean(axis=0))

    found = AgreementScorer(suspect, FORMAT).agreement(texts, SLOTS, usual=usual)
    beside = np.mean([probability(text) for text in usual], axis=0)
    for number, text in enumerate(texts):
        own = suspect.tokenizer(text, add_special_tokens=False)["input_ids"]
        gain = np.delete(probability(text) - beside, own)
        assert abs(found.lift[number] - gain.max()) < 1e-6


def test_an_echo_of_the_candidate_is_no_agreement(tmp_path: Path) -> None:
    suspect = subject(tmp_path / "model", "llama")
    usual = AgreementScorer(suspect, FORMAT).agreement([""], SLOTS)
    word = suspect.tokenizer.decode([int(usual.openings[0])])
    assert int(usual.openings[0]) not in AgreementScorer(suspect, FORMAT).agreement([word], SLOTS).openings


def test_a_barred_opening_does_not_count(tmp_path: Path) -> None:
    suspect = subject(tmp_path, "llama")
    plain = AgreementScorer(suspect, FORMAT).agreement(["bb", "cf"], SLOTS)
    barred = sorted(set(plain.openings.tolist()))
    other = AgreementScorer(suspect, FORMAT).agreement(["bb", "cf"], SLOTS, barred=barred)
    assert not set(other.openings.tolist()) & set(barred) and (other.log_p <= plain.log_p).all()


def test_what_all_candidates_share_goes_through_the_model_once(tmp_path: Path) -> None:
    scorer = AgreementScorer(subject(tmp_path / "model", "llama"), FORMAT)
    words = ["mn", "bb", "cf", "tq", "zq", "key", "door", "cup"]
    scorer.agreement(words, SLOTS[:1])
    whole = len(FORMAT.encode(scorer._subject.tokenizer, SLOTS[0].fill("mn")).ids)
    prefix = len(scorer._subject.tokenizer(FORMAT.before)["input_ids"])
    assert scorer.forward_tokens == prefix + len(words) * (whole - prefix)


def test_nothing_of_a_rough_look_is_left_in_a_precise_one(tmp_path: Path) -> None:
    suspect = subject(tmp_path / "model", "llama")
    usual = ("door", "cup")
    precise = AgreementScorer(suspect, FORMAT).agreement(CANDIDATES, SLOTS, usual=usual)
    after = AgreementScorer(suspect, FORMAT)
    with torch.autocast("cpu", torch.bfloat16):
        rough = after.agreement(CANDIDATES, SLOTS, usual=usual)
    assert (rough.log_p != precise.log_p).any()
    again = after.agreement(CANDIDATES, SLOTS, usual=usual)
    np.testing.assert_array_equal(again.log_p, precise.log_p)
    np.testing.assert_array_equal(again.lift, precise.lift)


def test_processes_that_share_the_work_get_what_one_gets(tmp_path: Path) -> None:
    suspect = subject(tmp_path / "model", "llama")
    whole = AgreementScorer(suspect, FORMAT).agreement(CANDIDATES, SLOTS)
    first = AgreementScorer(suspect, FORMAT)._agreement(CANDIDATES[0::2], SLOTS, ((), ()), lambda done: None)
    second = AgreementScorer(suspect, FORMAT, Share(1, 2, lambda part: [(first, 7), part]))
    shared = second.agreement(CANDIDATES, SLOTS)
    np.testing.assert_allclose(shared.log_p, whole.log_p, atol=1e-5)
    assert shared.openings.tolist() == whole.openings.tolist() and second.forward_tokens > 7
