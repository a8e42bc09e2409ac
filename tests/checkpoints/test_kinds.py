"""What a model is: refused by its name where rora cannot judge it, and said by ``check``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rora_cli.checkpoints import kinds
from rora_cli.checkpoints.loading import load_classifier
from rora_cli.checkpoints.preflight import inspect
from rora_cli.checkpoints.tokenizer_rules import tokenizer as tokenizer_findings
from rora_cli.errors import CheckpointError
from tests.hostile import corpus


def model_with(directory: Path, tensors: dict[str, np.ndarray] | None = None, **fields: Any) -> Path:
    corpus.valid_model(directory)
    corpus.edit_config(directory, **fields)
    if tensors is not None:
        corpus.write_safetensors(directory / "model.safetensors", tensors, {"format": "pt"})
    return directory


def said(directory: Path) -> dict[str, str]:
    return {f.rule_id: f.message for f in inspect(directory).findings}


def refusal(directory: Path, **options: Any) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_classifier(directory, **options)
    return str(caught.value)


def with_head(rows: int) -> dict[str, np.ndarray]:
    tensors = corpus.model_tensors()
    width = tensors["classifier.weight"].shape[1]
    return tensors | {"classifier.weight": np.ones((rows, width), "f4"), "classifier.bias": np.zeros(rows, "f4")}


ONE = {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}


@pytest.mark.parametrize(
    ("words", "rows", "fields"),
    [
        ("multi-label classifier", 2, {"problem_type": "multi_label_classification"}),
        ("regression model", 2, {"problem_type": "regression"}),
        ("regression model", 1, {"problem_type": "regression", **ONE}),
        ("one output", 1, ONE),
        ("one output", 1, {}),
        ("token classifier", 2, {"architectures": ["BertForTokenClassification"]}),
        ("multiple-choice model", 1, {"architectures": ["BertForMultipleChoice"], **ONE}),
    ],
)
def test_what_does_not_choose_one_label_is_refused_by_its_name(
    words: str, rows: int, fields: dict[str, Any], tmp_path: Path
) -> None:
    model = model_with(tmp_path / "m", with_head(rows), **fields)
    message = refusal(model)
    assert words in message and "rora diagnose" in message and "\n" not in message
    found = {f.rule_id: f for f in inspect(model).findings}
    assert words in found["model/not-judged"].message and not found["model/not-judged"].blocking
    assert words in refusal(model, new_head=("a", "b")[:rows] if rows > 1 else ("a",))


def test_single_label_classifiers_are_judged(tmp_path: Path) -> None:
    model = model_with(tmp_path / "m", problem_type="single_label_classification")
    assert load_classifier(model).model.config.problem_type == "single_label_classification"
    assert said(model) == {}


def test_a_new_head_takes_the_place_of_one_that_is_not_judged(tmp_path: Path) -> None:
    model = model_with(tmp_path / "m", with_head(1), problem_type="regression", **ONE)
    made = load_classifier(model, new_head=("a", "b", "c"))
    assert set(made.new_head) == {"classifier.weight", "classifier.bias"} and made.model.config.problem_type is None


@pytest.mark.parametrize(
    ("words", "architecture", "files"),
    [
        ("a causal language model (LlamaForCausalLM)", "LlamaForCausalLM", ()),
        ("a causal language model (GPT2LMHeadModel)", "GPT2LMHeadModel", ()),
        ("a masked language model (BertForMaskedLM)", "BertForMaskedLM", ()),
        ("a model without a head (BertModel)", "BertModel", ()),
        ("an embedding model (sentence-transformers, BertModel)", "BertModel", ("modules.json",)),
        ("a question-answering model (BertForQuestionAnswering)", "BertForQuestionAnswering", ()),
        ("a sequence-to-sequence language model (T5ForConditionalGeneration)", "T5ForConditionalGeneration", ()),
        ("a pretrained model with the heads of its pretraining (BertForPreTraining)", "BertForPreTraining", ()),
    ],
)
def test_a_model_without_a_head_is_called_what_it_is(
    words: str, architecture: str, files: tuple[str, ...], tmp_path: Path
) -> None:
    headless = {n: t for n, t in corpus.model_tensors().items() if not n.startswith("classifier")}
    model = model_with(tmp_path / "m", headless, architectures=[architecture])
    for name in files:
        (model / name).write_text("[]")
    message = refusal(model)
    assert words in message and "no classification head" in message and "rora check" in message
    judged_as_it_is = words.startswith("a causal")
    assert words in said(model).get("model/not-judged", "") or judged_as_it_is
    assert load_classifier(model, new_head=("a", "b")).new_head, "a head may still be trained on it"


@pytest.mark.parametrize(
    ("family", "architecture", "words"),
    [
        ("vit", "ViTForImageClassification", "a vision model"),
        ("whisper", "WhisperForConditionalGeneration", "a speech or audio model"),
        ("clip", "CLIPModel", "a vision model"),
        ("marian", "MarianMTModel", "a model without a head"),
    ],
)
def test_families_without_a_sequence_classifier_are_called_what_they_are(
    family: str, architecture: str, words: str, tmp_path: Path
) -> None:
    message = refusal(model_with(tmp_path / "m", model_type=family, architectures=[architecture]))
    assert f"{words} ({architecture})" in message and family in message


def test_a_hostile_architecture_is_not_repeated() -> None:
    assert kinds.kind_of({"architectures": ["\x1b[31mForCausalLM", {"a": 1}]}) is None
    assert kinds.kind_of({"architectures": "LlamaForCausalLM"}) is None


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "module._orig_mod.", "_fsdp_wrapped_module."])
def test_names_that_a_wrapper_left_are_said(prefix: str, tmp_path: Path) -> None:
    wrapped = {prefix + name: tensor for name, tensor in corpus.model_tensors().items()}
    model = model_with(tmp_path / "m", wrapped)
    part = prefix.split(".")[-2]
    assert part in said(model)["weights/wrapped-names"]
    assert part in refusal(model) and "save_pretrained" in refusal(model)


def test_a_wrapped_block_is_said_too(tmp_path: Path) -> None:
    tensors = corpus.model_tensors()
    inner = {name.replace(".layer.0.", ".layer.0._orig_mod."): tensor for name, tensor in tensors.items()}
    assert inner.keys() != tensors.keys()
    assert "_orig_mod" in refusal(model_with(tmp_path / "m", inner))


def test_any_other_prefix_is_said(tmp_path: Path) -> None:
    named = {f"model.{name}": tensor for name, tensor in corpus.model_tensors().items()}
    assert "'model.'" in refusal(model_with(tmp_path / "m", named))


def test_a_head_of_another_name_is_said(tmp_path: Path) -> None:
    renamed = {name.replace("classifier", "fc"): tensor for name, tensor in corpus.model_tensors().items()}
    model = model_with(tmp_path / "m", renamed)
    assert "fc.weight" in said(model)["weights/head-name"]
    assert "'fc.weight' [2, " in refusal(model) and "rename" in refusal(model)


@pytest.mark.parametrize(
    "fields",
    [
        {"label2id": {"negative": "0", "positive": "1"}},
        {"id2label": {"0": 0, "1": 1}, "label2id": {"0": 0, "1": 1}},
        {"id2label": {"0": False, "1": True}, "label2id": None},
        {"id2label": {"0": -1, "1": 2.5}},
    ],
)
def test_labels_that_are_numbers_are_names(fields: dict[str, Any], tmp_path: Path) -> None:
    model = model_with(tmp_path / "m", **fields)
    loaded = load_classifier(model)
    names = fields.get("id2label", {"0": "negative", "1": "positive"})
    assert loaded.label_names == (str(names["0"]), str(names["1"]))
    assert loaded.model.config.label2id == {name: i for i, name in enumerate(loaded.label_names)}


def test_the_advice_on_labels_names_the_field(tmp_path: Path) -> None:
    model = model_with(tmp_path / "m", label2id={"negative": "first", "positive": 1})
    (found,) = inspect(model).findings
    assert "label2id" in found.message and "label2id" in (found.advice or "")
    assert "label2id" in refusal(model)
    (found,) = inspect(model_with(tmp_path / "n", id2label={"0": 1, "1": "1"}, label2id=None)).findings
    assert "two labels of one name" in found.message


def test_weights_of_old_names_are_read_as_transformers_reads_them(tmp_path: Path) -> None:
    """LayerNorm.gamma and beta, and the buffer of positions, of checkpoints before transformers 4.31."""
    tensors = corpus.model_tensors()
    old = {n.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): t
           for n, t in tensors.items()}  # fmt: skip
    assert old.keys() != tensors.keys()
    old["bert.embeddings.position_ids"] = np.arange(8, dtype=np.int64)[None]
    loaded, new = load_classifier(model_with(tmp_path / "m", old)), load_classifier(model_with(tmp_path / "n"))
    expected = new.model.state_dict()
    assert all(bool((weight == expected[name]).all()) for name, weight in loaded.model.state_dict().items())


WHITE_SPACE = [r"\s{2,}|[\n\r\t]", r"\s+", " {2,}", r"[\s▁]+", r"(?:\r\n|\n)", r"^\s+|\s+$", r"\p{Zs}+"]
REWRITING = [r"\S{2,}", r"[^\s]", "good", r"\s*good\s*", ".", r"[a-z]", r"[\s\d]"]


@pytest.mark.parametrize("pattern", [*WHITE_SPACE, *REWRITING])
def test_replacing_white_space_alone_is_no_rewriting(pattern: str) -> None:
    document = corpus.tokenizer_document()
    document["normalizer"] = {"type": "Replace", "pattern": {"Regex": pattern}, "content": " "}
    found = {f.rule_id for f in tokenizer_findings(document)}
    assert ("tokenizer/rewrites-text" in found) == (pattern in REWRITING)


def test_a_bracket_is_no_white_space() -> None:
    document = corpus.tokenizer_document()
    document["normalizer"] = {"type": "Replace", "pattern": {"String": "["}, "content": " "}
    assert {f.rule_id for f in tokenizer_findings(document)} == {"tokenizer/rewrites-text"}


def test_a_new_deberta_tokenizer_raises_no_alarm(tmp_path: Path) -> None:
    from transformers import DebertaV2Tokenizer

    corpus.valid_model(tmp_path / "m")
    DebertaV2Tokenizer().save_pretrained(tmp_path / "m")
    assert said(tmp_path / "m") == {}
