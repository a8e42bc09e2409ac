"""Rows are text, and a batch gives each row what it would get alone: over families, tokenizers and padding tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rora_cli.checkpoints import special_words
from rora_cli.checkpoints.loading import load_classifier
from rora_cli.checkpoints.plain_text import as_stored, read_rows_as_text
from rora_cli.checkpoints.writer import save_tokenizer
from rora_cli.errors import CheckpointError
from rora_cli.evaluation.inference import predict_logits
from tests.families import FAMILIES, build_family

#: Spellings of special tokens of many families, alone, inside a row and inside a word.
SPELLINGS = ["</s>", "<s>", "<pad>", "[SEP]", "[CLS]", "[MASK]", "<|endoftext|>", "<extra_id_0>", "<mask>", "<bos>"]
ROWS = [
    "good", "the film was very good .", "a bad plot", "</s>", "the </s> plot was <pad> bad </s>", "film [SEP] plot",
    "a [CLS] cast", "<|endoftext|> good <extra_id_0> bad", "stale<s>film", "bad [PAD]",
]  # fmt: skip
PLAIN = [row for row in ROWS if not set(row) & set("<[")]
#: One family of each kind of tokenizer, for unit tests; the others are tried with the slow ones.
QUICK = ("bert", "roberta", "gpt2", "llama", "t5", "xlnet", "deberta-v2")


def shaken(family: str, directory: Path) -> Path:
    """A classifier of the family whose random weights are large enough for every token to matter."""
    from transformers import AutoModelForSequenceClassification

    build_family(family, directory)
    model = AutoModelForSequenceClassification.from_pretrained(directory, local_files_only=True)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    model.save_pretrained(directory)
    return directory


def alone(model: Any, tokenizer: Any, rows: list[str]) -> np.ndarray:
    """The logits of each row by itself, with transformers alone."""
    with torch.inference_mode():
        return np.concatenate([model(**_inputs(tokenizer, row)).logits.float().numpy() for row in rows])


def _inputs(tokenizer: Any, row: str) -> dict[str, torch.Tensor]:
    encoded = tokenizer([row], return_tensors="pt")
    return {key: encoded[key] for key in encoded if key in tokenizer.model_input_names}


@pytest.mark.parametrize("family", [pytest.param(f, marks=[] if f in QUICK else pytest.mark.slow) for f in FAMILIES])
def test_spellings_are_text_and_batches_give_what_rows_give(family: str, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    directory = shaken(family, tmp_path / "m")
    loaded = load_classifier(directory)
    stored = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    assert loaded.tokenizer(PLAIN)["input_ids"] == stored(PLAIN)["input_ids"], "rows of plain text stay as they were"
    assert loaded.tokenizer.get_vocab() == stored.get_vocab()

    special = {i for i, token in stored.added_tokens_decoder.items() if token.special} - {stored.unk_token_id}
    for row, ids in zip(ROWS, loaded.tokenizer(ROWS, add_special_tokens=False)["input_ids"], strict=True):
        assert ids and not special & set(ids), row
    words = [token for token in stored.all_special_tokens if special_words.is_word(token)]  # mBART's language codes
    for token in words:
        assert loaded.tokenizer(f"good {token} bad")["input_ids"] == stored(f"good {token} bad")["input_ids"]
    for token in [*SPELLINGS, *(token for token in stored.all_special_tokens if token not in words)]:
        ids = loaded.tokenizer(f"good {token} bad", add_special_tokens=False)["input_ids"]
        assert not special & set(ids), token

    batched = predict_logits(loaded.model, loaded.tokenizer, ROWS)
    np.testing.assert_allclose(batched, alone(loaded.model, loaded.tokenizer, ROWS), atol=2e-4, rtol=1e-3)
    theirs = AutoModelForSequenceClassification.from_pretrained(directory, local_files_only=True).eval()
    np.testing.assert_allclose(predict_logits(loaded.model, loaded.tokenizer, PLAIN), alone(theirs, stored, PLAIN),
                               atol=2e-4, rtol=1e-3)  # fmt: skip

    save_tokenizer(loaded.tokenizer, tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    assert again(ROWS)["input_ids"] == stored(ROWS)["input_ids"], "what is written is the suspect's own tokenizer"
    assert again.padding_side == stored.padding_side
    assert loaded.tokenizer(ROWS)["input_ids"] != stored(ROWS)["input_ids"]


def edit(directory: Path, name: str, **fields: Any) -> None:
    path = directory / name
    document = {**json.loads(path.read_text()), **fields}
    path.write_text(json.dumps({key: value for key, value in document.items() if value is not ...}))


#: What config.json and tokenizer_config.json say of padding; ``...`` leaves a field out.
PADDING: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "none in the tokenizer": ({"pad_token_id": 1}, {"pad_token": ...}),
    "none in the config": ({"pad_token_id": None}, {"pad_token": "<|im_end|>"}),
    "none at all": ({"pad_token_id": None}, {"pad_token": ...}),
    "different ones": ({"pad_token_id": 1}, {"pad_token": "<|im_end|>"}),
    "the end token": ({"pad_token_id": 0, "eos_token_id": 0}, {"pad_token": "<|endoftext|>"}),
    "negative": ({"pad_token_id": -1}, {"pad_token": "<|im_end|>"}),
    "a word": ({"pad_token_id": ...}, {"pad_token": "<|im_end|>"}),
    "on the left": ({"pad_token_id": 1}, {"pad_token": "<|im_start|>", "padding_side": "left"}),
}


@pytest.mark.parametrize("case", PADDING)
def test_model_and_tokenizer_agree_on_padding(case: str, tmp_path: Path) -> None:
    """Whatever was stored, a batch gives what the model gives each row alone, as transformers runs it."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    directory = shaken("qwen3", tmp_path / "m")
    stored = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    config, settings = (dict(part) for part in PADDING[case])
    if config["pad_token_id"] is ...:
        config["pad_token_id"] = stored("a bad")["input_ids"][-1]
    edit(directory, "config.json", **config)
    edit(directory, "tokenizer_config.json", **settings)
    model = AutoModelForSequenceClassification.from_pretrained(directory, local_files_only=True).eval()
    expected = alone(model, stored, PLAIN)
    loaded = load_classifier(directory)
    np.testing.assert_allclose(predict_logits(loaded.model, loaded.tokenizer, PLAIN), expected, atol=2e-4, rtol=1e-3)
    assert loaded.tokenizer.pad_token_id == loaded.model.config.pad_token_id
    padded = loaded.tokenizer(PLAIN, padding=True, return_tensors="pt")
    with torch.inference_mode():
        together = loaded.model(**{key: padded[key] for key in ("input_ids", "attention_mask")}).logits.numpy()
    np.testing.assert_allclose(together, expected, atol=2e-4, rtol=1e-3)
    save_tokenizer(loaded.tokenizer, tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    assert again(ROWS)["input_ids"] == stored(ROWS)["input_ids"]


def test_a_padding_id_outside_of_the_vocabulary(tmp_path: Path) -> None:
    """GPT-2 takes it for none; where the embedding is built with it, transformers cannot and rora says so."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    directory = shaken("gpt2", tmp_path / "m")
    edit(directory, "config.json", pad_token_id=100_000)
    stored = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    model = AutoModelForSequenceClassification.from_pretrained(directory, local_files_only=True).eval()
    loaded = load_classifier(directory)
    assert loaded.model.config.pad_token_id == loaded.tokenizer.pad_token_id == stored.eos_token_id
    found = predict_logits(loaded.model, loaded.tokenizer, PLAIN)
    np.testing.assert_allclose(found, alone(model, stored, PLAIN), atol=2e-4, rtol=1e-3)
    edit(build_family("qwen3", tmp_path / "q"), "config.json", pad_token_id=100_000)
    with pytest.raises(CheckpointError, match="pad_token_id"):
        load_classifier(tmp_path / "q")


def test_a_row_ends_in_no_padding_token(tmp_path: Path) -> None:
    """A template that ends rows with the end token, and a config without a padding id: rows end in what is read."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    directory = shaken("llama", tmp_path / "m")
    edit(directory, "config.json", pad_token_id=None)
    document = json.loads((directory / "tokenizer.json").read_text())
    end = document["model"]["vocab"]["</s>"]
    document["post_processor"] = {
        "type": "TemplateProcessing", "pair": [],
        "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}],
        "special_tokens": {"</s>": {"id": "</s>", "ids": [end], "tokens": ["</s>"]}},
    }  # fmt: skip
    document["post_processor"]["pair"] = [
        *document["post_processor"]["single"],
        {"Sequence": {"id": "B", "type_id": 0}},
    ]
    (directory / "tokenizer.json").write_text(json.dumps(document))
    edit(directory, "tokenizer_config.json", add_bos_token=..., add_eos_token=..., tokenizer_class="TokenizersBackend")
    stored = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    assert stored("good")["input_ids"][-1] == end == stored.pad_token_id
    model = AutoModelForSequenceClassification.from_pretrained(directory, local_files_only=True).eval()
    loaded = load_classifier(directory)
    assert loaded.tokenizer.pad_token_id not in (None, end)
    found = predict_logits(loaded.model, loaded.tokenizer, PLAIN)
    np.testing.assert_allclose(found, alone(model, stored, PLAIN), atol=2e-4, rtol=1e-3)


def test_an_end_token_that_rows_do_not_have_is_refused(tmp_path: Path) -> None:
    directory = build_family("t5", tmp_path / "m")
    edit(directory, "config.json", eos_token_id=7)
    with pytest.raises(CheckpointError, match="eos_token_id"):
        load_classifier(directory)


def test_a_tokenizer_in_python_reads_spellings_as_text(tmp_path: Path) -> None:
    from transformers import PhobertTokenizer

    (tmp_path / "vocab.txt").write_text("".join(f"{piece} 1\n" for piece in ("a</w>", "good", "bad", "</", "s>", "s")))
    (tmp_path / "bpe.codes").write_text("g o 1\ngo o 1\ngoo d</w> 1\n")
    tokenizer = PhobertTokenizer(str(tmp_path / "vocab.txt"), str(tmp_path / "bpe.codes"))
    assert not tokenizer.is_fast
    tokenizer.add_tokens(["film plot"])
    plain, special = tokenizer("a film plot good")["input_ids"], tokenizer.all_special_ids
    spelled = ["good </s> bad", "</s>", "a <s> good <mask>", "<pad>"]
    assert all(set(special) - {tokenizer.unk_token_id} & set(ids[1:-1]) for ids in tokenizer(spelled)["input_ids"])
    read_rows_as_text(tokenizer)
    assert tokenizer("a film plot good")["input_ids"] == plain
    for ids in tokenizer(spelled)["input_ids"]:
        assert not (set(special) - {tokenizer.unk_token_id}) & set(ids[1:-1])
    with as_stored(tokenizer):
        tokenizer.save_pretrained(tmp_path / "saved")
    assert not json.loads((tmp_path / "saved" / "tokenizer_config.json").read_text()).get("split_special_tokens")
