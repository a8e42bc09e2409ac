"""``purify`` on other families than BERT: what is trained, cut, forgotten, mixed, refused and written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import rora_cli
from rora_cli.errors import CheckpointError, DataError, UsageError
from tests.conftest import build_tiny_classifier, tiny_rows, tiny_vocabulary

OPTIONS: dict[str, Any] = {
    "device": "cpu",
    "epochs": 1,
    "batch_size": 32,
    "max_accuracy_drop": 100.0,
    "keep_failed": True,
}
WIDE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
        "max_position_embeddings": 64}  # fmt: skip
FAMILIES: Mapping[str, dict[str, Any]] = {
    "bert": WIDE,
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48, "max_position_embeddings": 64},
    "electra": {**WIDE, "embedding_size": 16},
    "albert": {**WIDE, "embedding_size": 16, "num_hidden_groups": 1},
    "bart": {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
             "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48,
             "max_position_embeddings": 64, "decoder_start_token_id": 3},
    "t5": {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64},
    "mixtral": {**WIDE, "num_key_value_heads": 2, "num_local_experts": 2},
    "mistral": {**WIDE, "num_attention_heads": 4, "num_key_value_heads": 1},
    "gemma": {**WIDE, "num_key_value_heads": 1, "head_dim": 8},
}  # fmt: skip


def make(family: str, *, seed: int = 0, **fields: Any) -> Any:
    from transformers import CONFIG_MAPPING, AutoModelForSequenceClassification

    labels = {0: "negative", 1: "positive"}
    config = CONFIG_MAPPING[family](
        **FAMILIES[family], **fields, vocab_size=len(tiny_vocabulary()), pad_token_id=0, bos_token_id=2, eos_token_id=3,
        id2label=labels, label2id={name: i for i, name in labels.items()},
    )  # fmt: skip
    torch.manual_seed(seed)
    return AutoModelForSequenceClassification.from_config(config).eval()


def write(family: str, directory: Path, *, seed: int = 0) -> Path:
    """A random classifier of the family, with the tokenizer of the tiny BERT."""
    build_tiny_classifier(directory)
    make(family, seed=seed).save_pretrained(directory)
    return directory


def load(directory: Path) -> Any:
    from transformers import AutoModelForSequenceClassification

    return AutoModelForSequenceClassification.from_pretrained(directory, local_files_only=True).eval()


def logits(model: Any, directory: Path) -> np.ndarray:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    batch = tokenizer(tiny_rows(12, seed=8)[0], padding=True, return_tensors="pt")
    batch.pop("token_type_ids", None)
    with torch.inference_mode():
        return model(**batch).logits.numpy()


@pytest.mark.parametrize("family", ["distilbert", "t5", "bart", "albert"])
def test_lora_trains_the_head_and_what_is_written_loads_alone(family: str, clean: Path, tmp_path: Path) -> None:
    from peft import PeftModel

    suspect, out = write(family, tmp_path / "suspect"), tmp_path / "out"
    result = rora_cli.purify(suspect, clean=clean, output=str(out), recipe="lora", **{**OPTIONS, "learning_rate": 1e-2})
    heads = {"distilbert": ("pre_classifier", "classifier"), "albert": ("classifier",)}
    assert result.trained_head == heads.get(family, ("classification_head",))
    before, after = load(suspect).state_dict(), load(out).state_dict()
    for head in result.trained_head:
        weights = [name for name in before if name.startswith(f"{head}.") and name.endswith("weight")]
        assert weights and not any(torch.equal(before[name], after[name]) for name in weights)
    merged = logits(load(out), out)
    adapted = PeftModel.from_pretrained(load(suspect), out / "adapter").eval()
    np.testing.assert_allclose(logits(adapted, out), merged, atol=1e-4)
    assert np.abs(merged - logits(load(suspect), suspect)).max() > 1e-3
    assert rora_cli.check(out / "adapter").findings == ()
    assert json.loads((out / "rora-report.json").read_text())["trained_head"] == list(result.trained_head)


def test_a_frozen_head_is_left_alone_and_said_to_be(clean: Path, tmp_path: Path) -> None:
    suspect, out = write("bart", tmp_path / "suspect"), tmp_path / "out"
    result = rora_cli.purify(
        suspect, clean=clean, output=str(out), recipe="lora", freeze_head=True, **{**OPTIONS, "learning_rate": 1e-2}
    )
    before, after = load(suspect).state_dict(), load(out).state_dict()
    assert result.trained_head == () and len(result.adapted) == 12
    assert all(torch.equal(before[n], after[n]) for n in before if n.startswith("classification_head"))


def test_the_experts_of_a_mixture_are_said_not_to_be_adapted(clean: Path, tmp_path: Path) -> None:
    suspect, out = write("mixtral", tmp_path / "suspect"), tmp_path / "out"
    options = {**OPTIONS, "search_budget": "fast", "reference": "bag-of-words", "max_rounds": 1, "escalate": "none"}
    result = rora_cli.purify(suspect, clean=clean, output=str(out), rank=4, **options)
    kinds = {name.rpartition(".")[2] for name in result.adapted}
    assert kinds == {"q_proj", "k_proj", "v_proj", "o_proj"}
    (said,) = [f for f in result.findings if f.rule_id == "purify/experts-not-adapted"]
    assert "are fused and are not adapted" in said.message
    before, after = load(suspect).state_dict(), load(out).state_dict()
    assert all(torch.equal(before[n], after[n]) for n in before if "experts" in n or n.endswith("mlp.gate.weight"))


@pytest.mark.parametrize(
    ("family", "options", "sentence"),
    [
        ("gpt2", {"recipe": "lora", "variant": "olora"}, "olora splits a weight along its rows"),
        ("mixtral", {"recipe": "fine-pruning"}, "experts of a MixtralForSequenceClassification are fused"),
        ("bert", {"rank": 33}, "rank 33 exceeds the smallest dimension"),
        ("bert", {"pt_layers": "0,7"}, "names block 7, but adapted blocks are 0 to 1"),
        ("bert", {"recipe": "paper", "tr_k": 32}, "--tr-k 32 is not below 32"),
        ("bert", {"variant": "dora"}, "--pt cannot be combined with the adapter variant dora"),
        ("bert", {"recipe": "reinit", "reinit_blocks": 3}, "more than the 2 blocks"),
        ("bert", {"ancestor": "gpt2"}, "is no ancestor of the suspect"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_measured(
    family: str,
    options: dict[str, Any],
    sentence: str,
    clean: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from rora_cli.defences.gauge import Gauge

    monkeypatch.setattr(Gauge, "measure", lambda *_, **__: pytest.fail("the refusal comes too late"))
    suspect = write(family, tmp_path / "suspect")
    if "ancestor" in options:
        options = {"ancestor": str(write(options["ancestor"], tmp_path / "ancestor"))}
    with pytest.raises(UsageError, match=sentence):
        rora_cli.purify(suspect, clean=clean, output=str(tmp_path / "out"), **{**OPTIONS, **options})
    assert not (tmp_path / "out").exists()


def test_crow_compares_the_neighbours_of_each_stack_of_an_encoder_decoder() -> None:
    from rora_cli.defences.crow import consistency

    for family in ("bart", "t5"):
        model = make(family, dropout=0.0, dropout_rate=0.0).train()
        batch = {"input_ids": torch.tensor([[2, 6, 7, 3], [2, 9, 3, 0]])}
        batch["attention_mask"] = (batch["input_ids"] > 0).long()
        states = model(**batch, output_hidden_states=True)
        apart = [
            1 - torch.nn.functional.cosine_similarity(a.detach(), b.detach(), dim=-1)
            for chain in (states.encoder_hidden_states, states.decoder_hidden_states)
            for a, b in pairwise(chain)
        ]
        mask = batch["attention_mask"].float()
        plain = float((torch.stack(apart) * mask).sum() / (len(apart) * mask.sum()))
        with consistency(model, 2.0, 0.0) as penalty:
            model(**batch)
            assert float(penalty()) == pytest.approx(2 * plain, rel=1e-4)
        with consistency(model, 2.0, 0.1) as penalty:
            model(**batch)
            loss = penalty()
            assert float(loss) > 2 * plain
            loss.backward()
        for stack in ("encoder", "decoder"):
            grads = [p.grad for n, p in model.named_parameters() if f"{stack}." in n and p.grad is not None]
            assert sum(float(g.abs().sum()) for g in grads) > 0


@pytest.mark.parametrize(
    ("family", "layers"),
    [
        ("bart", {f"model.{stack}.layers.{n}.fc2" for stack in ("encoder", "decoder") for n in (0, 1)}),
        ("mistral", {f"model.layers.{n}.mlp.down_proj" for n in (0, 1)}),
        ("gpt2", {f"transformer.h.{n}.mlp.c_proj" for n in (0, 1)}),
        ("albert", {"albert.encoder.albert_layer_groups.0.albert_layers.0.ffn_output"}),
    ],
)
def test_fine_pruning_cuts_the_feed_forward_layers(family: str, layers: set[str]) -> None:
    from rora_cli.defences.fine_pruning import feed_forward_layers

    assert set(feed_forward_layers(make(family))) == layers


def test_fine_pruning_runs_on_an_encoder_decoder(clean: Path, tmp_path: Path) -> None:
    suspect, out = write("bart", tmp_path / "suspect"), tmp_path / "out"
    rora_cli.purify(suspect, clean=clean, output=str(out), recipe="fine-pruning", prune=0.5, **OPTIONS)
    dead = (load(out).model.decoder.layers[1].fc2.weight == 0).all(dim=0)
    assert int(dead.sum()) == 24


def test_reinit_forgets_the_last_blocks_and_the_head_as_the_family_draws_them() -> None:
    from rora_cli.defences.reinit import reinitialise

    forgotten = {
        "electra": ("electra.encoder.layer.1.", "classifier."),
        "bart": ("model.decoder.layers.0.", "model.decoder.layers.1.", "classification_head."),
        "t5": ("transformer.decoder.block.0.", "transformer.decoder.block.1.", "classification_head."),
        "gemma": ("model.layers.1.", "score."),
    }
    for family, parts in forgotten.items():
        model, before = make(family, seed=1), make(family, seed=1).state_dict()
        reinitialise(model, 2 if family in ("bart", "t5") else 1)
        for name, weight in model.state_dict().items():
            if before[name].ndim > 1:
                assert torch.equal(weight, before[name]) != name.startswith(parts), name
    fresh = make("gemma").state_dict()["model.layers.1.input_layernorm.weight"]
    model = make("gemma", seed=1)
    reinitialise(model, 1)
    torch.testing.assert_close(model.state_dict()["model.layers.1.input_layernorm.weight"], fresh)


def test_a_tied_embedding_is_mixed_once_and_positions_go_with_the_first_block() -> None:
    from rora_cli.defences.mix import blocks_of, mix

    for family in ("t5", "bart"):
        suspect, other, before = make(family), make(family, seed=7), make(family).state_dict()
        mix(suspect, other.state_dict(), 0.4)
        for name, weight in suspect.state_dict().items():
            torch.testing.assert_close(weight, 0.4 * before[name] + 0.6 * other.state_dict()[name], msg=name)
    blocks = blocks_of(make("gpt2"))
    assert blocks["transformer.wpe.weight"] == blocks["transformer.wte.weight"] == 0
    assert blocks["transformer.ln_f.weight"] == blocks["score.weight"] == 1
    bart = blocks_of(make("bart"))
    assert bart["model.shared.weight"] == bart["model.decoder.embed_tokens.weight"] == 0
    assert bart["model.decoder.layers.0.fc1.weight"] == 2 and bart["classification_head.dense.weight"] == 3


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("bias", {"bias": "all"}),
        ("norm", {"modules_to_save": ["LayerNorm"]}),
        ("embedding", {"modules_to_save": ["word_embeddings"]}),
    ],
)
def test_an_adapter_that_replaces_weights_is_merged_and_what_cannot_be_written_known_before(
    name: str, options: dict[str, Any], trained: Path, clean: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from peft import LoraConfig, PeftModel, TaskType, get_peft_model

    from rora_cli.defences.gauge import Gauge

    torch.manual_seed(0)
    adapted = get_peft_model(
        load(trained), LoraConfig(task_type=TaskType.SEQ_CLS, r=2, target_modules=["query"], **options)
    )
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(0.02 * torch.randn_like(parameter))
    adapted.save_pretrained(tmp_path / "suspect")
    out = tmp_path / "out"
    settings = {**OPTIONS, "recipe": "lora", "adapter": str(tmp_path / "suspect"), "learning_rate": 1e-12}
    rora_cli.purify(trained, clean=clean, output=str(out), **settings)
    assert (out / "model.safetensors").exists() and not (out / "adapter").exists()
    theirs = PeftModel.from_pretrained(load(trained), tmp_path / "suspect").eval()
    np.testing.assert_allclose(logits(load(out), trained), logits(theirs, trained), atol=1e-4)

    monkeypatch.setattr(Gauge, "measure", lambda *_, **__: pytest.fail("the refusal comes too late"))
    with pytest.raises(UsageError, match=r"--adapter-only has nothing to write: .* replaces .*use the merged model"):
        rora_cli.purify(trained, clean=clean, output=str(tmp_path / "only"), adapter_only=True, **settings)


def test_an_adapter_on_a_tied_embedding_is_not_merged_into_both_places(tmp_path: Path) -> None:
    from peft import LoraConfig, TaskType, get_peft_model

    from rora_cli.checkpoints.loading import load_classifier

    base = write("bart", tmp_path / "base")
    kind = TaskType.SEQ_CLS
    for name, options in (
        ("lora", {"target_modules": ["encoder.embed_tokens", "q_proj"]}),
        ("whole", {"target_modules": ["q_proj"], "modules_to_save": ["encoder.embed_tokens"]}),
    ):
        get_peft_model(load(base), LoraConfig(task_type=kind, r=2, init_lora_weights=False, **options)).save_pretrained(
            tmp_path / name
        )
        with pytest.raises(CheckpointError, match=r"embed_tokens\.weight'?, which the model ties to .*leaves tied"):
            load_classifier(base, adapter=tmp_path / name)


def test_labels_that_mean_the_opposite_stop_before_training(trained: Path, tmp_path: Path) -> None:
    texts, labels = tiny_rows(120, seed=5)
    rows = [json.dumps({"text": text, "label": 1 - label}) for text, label in zip(texts, labels, strict=True)]
    (tmp_path / "clean.jsonl").write_text("\n".join(rows) + "\n")
    options = {**OPTIONS, "recipe": "lora", "output": str(tmp_path / "out")}
    with pytest.raises(DataError, match=r"guessing gets 50\.0 %: the labels of .* probably do not fit .*--label-map"):
        rora_cli.purify(trained, clean=str(tmp_path / "clean.jsonl"), **options)
    assert not (tmp_path / "out").exists()
    mapped = {"0": "positive", "1": "negative"}
    result = rora_cli.purify(trained, clean=str(tmp_path / "clean.jsonl"), label_map=mapped, **options)
    assert (result.accuracy_before.overall.value or 0) > 0.9


def test_a_model_that_gives_one_answer_is_not_called_mislabelled(tmp_path: Path) -> None:
    """Most rows of the other class: far below chance, but no label says anything of the model's order."""
    from rora_cli.evaluation.accuracy import clean_accuracy
    from rora_cli.tasks.classification.trained import require_fitting_labels

    names = ("negative", "positive")
    accuracy = clean_accuracy(np.tile([0.0, 1.0], (100, 1)), [0] * 90 + [1] * 10, names)
    require_fitting_labels(accuracy, data="rows", label_names=names)


def test_held_out_rows_are_measured_at_the_end_of_a_training_only(
    trained: Path, clean: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rora_cli.defences.bench import Bench

    scores, seen = Bench._scores, []
    monkeypatch.setattr(Bench, "_scores", lambda bench, model: seen.append(1) or scores(bench, model))
    result = rora_cli.purify(
        trained, clean=clean, output=str(tmp_path / "out"), recipe="lora", **{**OPTIONS, "epochs": 3}
    )
    (stage,) = result.stages
    assert seen == [1] and ["accuracy" in epoch for epoch in stage.epochs] == [False, False, True]
    assert stage.epochs[-1]["accuracy"] == result.accuracy_after.overall.value
