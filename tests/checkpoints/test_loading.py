"""Loading against transformers, and merging against PEFT: what rora has in memory is what they would have."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from rora_cli.checkpoints.loading import load_classifier
from rora_cli.checkpoints.preflight import inspect
from rora_cli.checkpoints.reader import TensorReader
from rora_cli.checkpoints.sanitise import isolated, model_config, tokenizer
from rora_cli.checkpoints.writer import save_classifier
from rora_cli.errors import CheckpointError, UsageError
from rora_cli.files import publish_directory
from tests.hostile import corpus

TEXTS = ["the movie was good", "a bad awful film", "great"]


def logits(model: Any, tokenizer: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(**tokenizer(TEXTS, padding=True, return_tensors="pt")).logits


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("base") / "model"
    corpus.valid_model(directory)
    return directory


def test_weights_are_those_of_transformers(base: Path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    theirs = AutoModelForSequenceClassification.from_pretrained(base, local_files_only=True)
    ours = load_classifier(base)
    assert ours.label_names == ("negative", "positive")
    assert not ours.model.training
    assert ours.new_head == ()
    expected, found = theirs.state_dict(), ours.model.state_dict()
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True)
    assert tokenizer(TEXTS)["input_ids"] == ours.tokenizer(TEXTS)["input_ids"]
    assert torch.equal(logits(theirs, tokenizer), logits(ours.model, ours.tokenizer))


ADAPTERS: dict[str, dict[str, Any]] = {
    "lora": {},
    "rslora": {"use_rslora": True},
    "dora": {"use_dora": True},
    "patterns": {"rank_pattern": {"query": 3}, "alpha_pattern": {"value": 1}},
    "bias-lora-only": {"bias": "lora_only"},
    "bias-all": {"bias": "all"},
    "lora-bias": {"lora_bias": True},
    "pissa": {"init_lora_weights": "pissa"},
    "olora": {"init_lora_weights": "olora"},
    "saved-pooler": {"modules_to_save": ["classifier", "pooler"]},
}


@pytest.mark.parametrize("kind", ADAPTERS)
def test_merging_gives_what_peft_gives(kind: str, base: Path, tmp_path: Path) -> None:
    """Differential: our merge, PEFT's forward pass and PEFT's own merge, on an adapter that changes a great deal."""
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoModelForSequenceClassification

    torch.manual_seed(0)
    plain = AutoModelForSequenceClassification.from_pretrained(base, local_files_only=True)
    config = LoraConfig(r=2, task_type="SEQ_CLS", target_modules=["query", "value", "dense"], **ADAPTERS[kind])
    peft_model = get_peft_model(plain, config)
    with torch.no_grad():
        for parameter in peft_model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.randn_like(parameter))
    peft_model.save_pretrained(tmp_path / "adapter")

    ours = load_classifier(base, adapter=tmp_path / "adapter")
    fresh = AutoModelForSequenceClassification.from_pretrained(base, local_files_only=True)
    theirs = PeftModel.from_pretrained(fresh, tmp_path / "adapter").eval()
    expected = logits(theirs, ours.tokenizer)
    assert (expected - logits(load_classifier(base).model, ours.tokenizer)).abs().max() > 1e-2
    torch.testing.assert_close(logits(ours.model, ours.tokenizer), expected, atol=2e-5, rtol=1e-4)
    merged = theirs.merge_and_unload().state_dict()
    for name, weight in ours.model.state_dict().items():
        torch.testing.assert_close(weight, merged[name], atol=2e-5, rtol=1e-4)


def test_what_changes_is_what_the_inventory_says(base: Path, tmp_path: Path) -> None:
    corpus.valid_adapter(tmp_path / "a")
    before = load_classifier(base).model.state_dict()
    after = load_classifier(base, adapter=tmp_path / "a").model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    named = {n.removeprefix("base_model.model.").split(".lora_")[0] for n in inspect(tmp_path / "a").tensors}
    assert changed == {n if n.startswith("classifier") else f"{n}.weight" for n in named}


def test_conv1d_adapter_merges_as_peft_does(tmp_path: Path) -> None:
    """GPT-2's c_attn is stored transposed, and c_proj is square, so that its shape does not tell."""
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoModelForSequenceClassification, GPT2Config, GPT2ForSequenceClassification

    corpus.valid_model(tmp_path / "g")
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=corpus.VOCAB, n_positions=32, n_embd=8, n_layer=1, n_head=2, pad_token_id=0)
    GPT2ForSequenceClassification(config).save_pretrained(tmp_path / "g")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "g")
    adapter = get_peft_model(
        model, LoraConfig(r=2, task_type="SEQ_CLS", target_modules=["c_attn", "c_proj"], fan_in_fan_out=True)
    )
    with torch.no_grad():
        for parameter in adapter.parameters():
            if parameter.requires_grad:
                parameter.add_(0.5 * torch.randn_like(parameter))
    adapter.save_pretrained(tmp_path / "a")
    ours = load_classifier(tmp_path / "g", adapter=tmp_path / "a")
    fresh = AutoModelForSequenceClassification.from_pretrained(tmp_path / "g")
    theirs = PeftModel.from_pretrained(fresh, tmp_path / "a").eval()
    torch.testing.assert_close(logits(ours.model, ours.tokenizer), logits(theirs, ours.tokenizer), atol=2e-5, rtol=1e-4)


def test_bfloat16_is_merged_in_float32_and_rounded_once(base: Path, tmp_path: Path) -> None:
    corpus.valid_adapter(tmp_path / "a")
    full = load_classifier(base, adapter=tmp_path / "a").model.state_dict()
    half = load_classifier(base, adapter=tmp_path / "a", dtype="bfloat16").model
    assert half.dtype == torch.bfloat16
    assert all(torch.equal(weight, full[name].bfloat16()) for name, weight in half.state_dict().items())


def test_new_head_only_where_it_is_asked_for(base: Path, tmp_path: Path) -> None:
    corpus.make("no-head", tmp_path)
    encoder = tmp_path / "no-head"
    with pytest.raises(CheckpointError, match="no classification head"):
        load_classifier(encoder)
    torch.manual_seed(0)
    made = load_classifier(encoder, new_head=("a", "b", "c"))
    assert made.label_names == ("a", "b", "c")
    assert set(made.new_head) == {"classifier.weight", "classifier.bias"}
    kept = load_classifier(base, new_head=("no", "yes"))
    assert (kept.label_names, kept.new_head) == (("no", "yes"), ())
    assert torch.equal(kept.model.classifier.weight, load_classifier(base).model.classifier.weight)


def test_unknown_dtype(base: Path) -> None:
    with pytest.raises(UsageError, match="float32"):
        load_classifier(base, dtype="int8")


def test_config_fields_are_allow_listed(base: Path, tmp_path: Path) -> None:
    corpus.valid_model(tmp_path / "m")
    corpus.edit_config(
        tmp_path / "m", _attn_implementation="eager", surprise="x", torch_dtype="float16", use_cache=False
    )
    config = load_classifier(tmp_path / "m").model.config
    assert not hasattr(config, "surprise")
    assert (config._attn_implementation, config.dtype, config.use_cache) == ("sdpa", torch.float32, False)


# ---- writing ----


def test_saved_classifier_is_loaded_by_transformers_alone(base: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    loaded = load_classifier(base)
    with publish_directory(tmp_path / "out") as staging:
        save_classifier(loaded.model, loaded.tokenizer, staging)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out", local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out", local_files_only=True)
    assert torch.equal(logits(model, tokenizer), logits(loaded.model, loaded.tokenizer))
    assert model.config.id2label == {0: "negative", 1: "positive"}
    again = load_classifier(tmp_path / "out")
    assert torch.equal(logits(again.model, again.tokenizer), logits(model, tokenizer))
    for file in (tmp_path / "out").iterdir():
        assert str(tmp_path) not in file.read_bytes().decode("latin-1"), "no path of this machine"


# ---- reading ----


def test_reader_agrees_with_safetensors_in_every_type(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    corpus.valid_model(tmp_path / "m")
    types = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int8, torch.uint8, torch.int16,
             torch.int32, torch.int64, torch.bool, torch.float8_e4m3fn, torch.float8_e5m2]  # fmt: skip
    tensors = {str(t)[6:]: (8 * torch.randn(3, 5)).to(t) for t in types}
    tensors |= {"scalar": torch.tensor(2.5), "none": torch.zeros(0, 4)}
    save_file(tensors, tmp_path / "m" / "model.safetensors")
    expected = load_file(tmp_path / "m" / "model.safetensors")
    with TensorReader(inspect(tmp_path / "m")) as reader:
        assert set(reader.names()) == set(expected)
        for name in reader.names():
            tensor = reader.read(name)
            assert tensor.dtype == expected[name].dtype
            assert tensor.shape == expected[name].shape
            assert torch.equal(tensor.view(torch.uint8) if tensor.ndim else tensor, expected[name].view(torch.uint8)
                               if tensor.ndim else expected[name])  # fmt: skip
        with pytest.raises(CheckpointError, match="no tensor"):
            reader.read("absent")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_reader_refuses_what_is_not_finite(tmp_path: Path, value: float, dtype: torch.dtype) -> None:
    from safetensors.torch import save_file

    corpus.valid_model(tmp_path / "m")
    tensor = torch.zeros(300, dtype=dtype)
    tensor[217] = value
    save_file({"w": tensor}, tmp_path / "m" / "model.safetensors")
    with TensorReader(inspect(tmp_path / "m")) as reader:
        assert not torch.isfinite(reader.read("w")).all()
        with pytest.raises(CheckpointError, match="NaN or infinite"):
            reader.read("w", require_finite=True)


def test_reader_refuses_a_file_that_changed(base: Path, tmp_path: Path) -> None:
    corpus.valid_model(tmp_path / "m")
    inspection = inspect(tmp_path / "m")
    corpus.write_safetensors(tmp_path / "m" / "model.safetensors", corpus.model_tensors(seed=7))
    with TensorReader(inspection) as reader, pytest.raises(CheckpointError, match="changed after"):
        reader.read("classifier.bias")
    (tmp_path / "m" / "model.safetensors").unlink()
    (tmp_path / "m" / "model.safetensors").symlink_to(base / "model.safetensors")
    with TensorReader(inspection) as reader, pytest.raises(CheckpointError, match="cannot be opened"):
        reader.read("classifier.bias")


@pytest.mark.parametrize("how", ["in place, with its time set back", "another file"])
@pytest.mark.parametrize("name", ["model.safetensors", "vocab.txt"])
def test_what_is_loaded_is_what_was_inspected(base: Path, tmp_path: Path, name: str, how: str) -> None:
    """Swapped between preflight and load, as an attacker on a shared disk would."""
    directory = tmp_path / "m"
    shutil.copytree(base, directory)
    if name == "vocab.txt":
        (directory / name).write_text("\n".join(corpus.WORDS))
    path = directory / name
    inspection = inspect(directory, role="model")
    before = path.stat()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    if how == "another file":
        path.unlink()
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(CheckpointError, match="changed after it was inspected"):
        if name == "vocab.txt":
            tokenizer(inspection, model_config(inspection)[0], tmp_path)
        else:
            TensorReader(inspection).read("classifier.bias")
    with pytest.raises(CheckpointError, match="changed after it was inspected"):
        inspection.hashes()


def test_no_token_proxy_or_question_in_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("https_proxy", "http://user:secret@proxy")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    stdin = sys.stdin
    with isolated():
        assert "HF_TOKEN" not in os.environ
        assert "https_proxy" not in os.environ
        assert os.environ["HF_HUB_OFFLINE"] == "1"
        with pytest.raises(EOFError):
            input("Do you wish to run the custom code? [y/N] ")
    assert sys.stdin is stdin
    assert os.environ["HF_TOKEN"] == "hf_secret"
    assert "HF_HUB_OFFLINE" not in os.environ
