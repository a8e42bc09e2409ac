"""What an adapter is put on, for every family: plain linear layers in full names, and the head trained whole."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from rora_cli.errors import UsageError
from rora_cli.training.adapters import (
    AdapterSpec,
    attach,
    check_adapter,
    fused_experts,
    head_modules,
    is_conv1d,
    merged,
    resolve_targets,
    select_layers,
    whole_modules,
)
from tests.checkpoints.test_families import DECODER, ENCODER
from tests.checkpoints.test_families import FAMILIES as PLAIN
from tests.families import FAMILIES as SHARED

SEQ2SEQ = {"d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
           "decoder_attention_heads": 4, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24}  # fmt: skip
T5 = {"d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0}
FAMILIES: Mapping[str, dict[str, Any]] = {
    **{name: family.fields for name, family in SHARED.items()},
    **PLAIN,
    "bart": SEQ2SEQ,
    "mbart": SEQ2SEQ,
    "t5": T5,
    "mt5": {**T5, "feed_forward_proj": "gated-gelu"},
    "xlnet": {"d_model": 16, "n_layer": 2, "n_head": 4, "d_inner": 24},
    "mixtral": {**DECODER, "num_local_experts": 4},
    "qwen2_moe": {**DECODER, "num_experts": 4, "moe_intermediate_size": 12, "shared_expert_intermediate_size": 12,
                  "num_experts_per_tok": 2},
    "qwen3": {**DECODER, "head_dim": 4},
    "gpt_neo": {"hidden_size": 16, "num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]]},
    "opt": {**ENCODER, "ffn_dim": 24, "word_embed_proj_dim": 12},
    "bloom": {"hidden_size": 16, "n_layer": 2, "n_head": 4},
    "falcon": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4},
    "phi": DECODER,
    "ctrl": {"n_embd": 16, "n_layer": 2, "n_head": 4, "dff": 24, "n_positions": 40},
    "funnel": {"block_sizes": [1, 1], "num_decoder_layers": 1, "d_model": 16, "n_head": 4, "d_head": 4, "d_inner": 24},
}  # fmt: skip

#: The layers of one block, or what is outside of them, as ``all-linear`` has them and as query and value have them.
SELF = "attention.self.query attention.self.key attention.self.value"
BERT = f"{SELF} attention.output.dense intermediate.dense output.dense"
LLAMA = "self_attn.q_proj self_attn.k_proj self_attn.v_proj self_attn.o_proj"
GATED = f"{LLAMA} mlp.gate_proj mlp.up_proj mlp.down_proj"
CODER = "self_attn.k_proj self_attn.v_proj self_attn.q_proj self_attn.out_proj"
EXPECTED: Mapping[str, tuple[str, str, str, str]] = {
    # family: (path of the blocks, their layers, layers outside of them, query and value)
    "bert": ("bert.encoder.layer", BERT, "bert.pooler.dense", "query value"),
    "roberta": ("roberta.encoder.layer", BERT, "", "query value"),
    "electra": ("electra.encoder.layer", BERT, "electra.embeddings_project", "query value"),
    "albert": ("albert.encoder.albert_layer_groups.0.albert_layers",
               "attention.query attention.key attention.value attention.dense ffn ffn_output",
               "albert.encoder.embedding_hidden_mapping_in albert.pooler", "query value"),
    "distilbert": ("distilbert.transformer.layer", "attention.q_lin attention.k_lin attention.v_lin attention.out_lin "
                   "ffn.lin1 ffn.lin2", "", "q_lin v_lin"),
    "mpnet": ("mpnet.encoder.layer", "attention.attn.q attention.attn.k attention.attn.v attention.attn.o "
              "intermediate.dense output.dense", "", "q v"),
    "deberta-v2": ("deberta.encoder.layer", BERT.replace("query", "query_proj").replace("key", "key_proj").replace(
        "value", "value_proj"), "", "query_proj value_proj"),
    "modernbert": ("model.layers", "attn.Wqkv attn.Wo mlp.Wi mlp.Wo", "", "Wqkv"),
    "gpt2": ("transformer.h", "attn.c_attn attn.c_proj mlp.c_fc mlp.c_proj", "", "c_attn"),
    "xlnet": ("transformer.layer", "ff.layer_1 ff.layer_2", "", ""),
    "llama": ("model.layers", GATED, "", "q_proj v_proj"),
    "qwen2": ("model.layers", GATED, "", "q_proj v_proj"),
    "gemma": ("model.layers", GATED, "", "q_proj v_proj"),
    "mixtral": ("model.layers", LLAMA, "", "q_proj v_proj"),
    "qwen2_moe": ("model.layers", f"{LLAMA} mlp.shared_expert.gate_proj mlp.shared_expert.up_proj "
                  "mlp.shared_expert.down_proj", "", "q_proj v_proj"),
    "opt": ("model.decoder.layers", f"{CODER} fc1 fc2", "model.decoder.project_out model.decoder.project_in",
            "q_proj v_proj"),
    "bloom": ("transformer.h", "self_attention.query_key_value self_attention.dense mlp.dense_h_to_4h "
              "mlp.dense_4h_to_h", "", "query_key_value"),
}  # fmt: skip


def build(family: str, *, device: str = "cpu") -> Any:
    from transformers import CONFIG_MAPPING, AutoModelForSequenceClassification

    labels = {0: "bad", 1: "good"}
    fields = {"vocab_size": 60, "pad_token_id": 0, **FAMILIES[family]}
    config = CONFIG_MAPPING[family](**fields, id2label=labels, label2id={n: i for i, n in labels.items()})
    torch.manual_seed(0)
    with torch.device(device):
        return AutoModelForSequenceClassification.from_config(config).eval()


@pytest.mark.parametrize("family", sorted(FAMILIES.keys() - {"squeezebert"}))
def test_what_is_adapted_is_plain_and_no_head(family: str) -> None:
    model = build(family, device="meta")
    heads = head_modules(model)
    assert heads
    wanted = [("all-linear",)] if family == "xlnet" else [("all-linear",), ()]
    for requested in wanted:
        layers = check_adapter(model, AdapterSpec(rank=2, target_modules=requested))
        names = [layer.name for layer in layers]
        assert names == list(resolve_targets(model, requested)) and names
        for name in names:
            module = model.get_submodule(name)
            assert module.weight.ndim == 2 and (isinstance(module, torch.nn.Linear) or is_conv1d(module))
            assert name.split(".")[0] not in heads and not re.search(
                r"(^|\.)(gate|shared_expert_gate|experts)(\.|$)", name
            )
    assert not any("lora" in name for name, _ in model.named_modules()), "the model itself stays as it is"


@pytest.mark.parametrize("family", EXPECTED)
def test_the_layers_are_these(family: str) -> None:
    blocks, within, outside, pair = EXPECTED[family]
    model = build(family, device="meta")
    numbers = sorted(
        {name[len(blocks) + 1 :].split(".")[0] for name, _ in model.named_modules() if f"{blocks}." in name}
    )
    every = {f"{blocks}.{n}.{layer}" for n in numbers for layer in within.split()} | set(outside.split())
    assert set(resolve_targets(model, ("all-linear",))) == every
    if pair:
        assert set(resolve_targets(model, ())) == {n for n in every if n.rpartition(".")[2] in pair.split()}


def test_an_encoder_decoder_has_its_layers_in_both_stacks() -> None:
    bart = [layer.name for layer in check_adapter(build("bart", device="meta"), AdapterSpec(rank=2))]
    of = "model.{}.layers.{}.{}.{}_proj"
    assert sorted(bart) == sorted(
        [of.format("encoder", n, "self_attn", p) for n in (0, 1) for p in "qv"]
        + [of.format("decoder", n, a, p) for n in (0, 1) for a in ("self_attn", "encoder_attn") for p in "qv"]
    )
    layers = check_adapter(build("t5", device="meta"), AdapterSpec(rank=2, target_modules=("all-linear",)))
    assert {layer.block for layer in layers} == {0, 1, 2, 3}
    numbers = {layer.name: layer.block for layer in layers if layer.block is not None}
    top = {layer.name.split(".layer.")[0] for layer in select_layers(layers, "top3", numbers)}
    assert top == {"transformer.encoder.block.1", "transformer.decoder.block.0", "transformer.decoder.block.1"}


def test_fused_experts_are_known_and_not_adapted() -> None:
    for family in ("mixtral", "qwen2_moe"):
        experts = fused_experts(build(family, device="meta"))
        assert [name.rpartition(".")[2] for name in experts] == ["gate_up_proj", "down_proj"] * 2
    assert fused_experts(build("llama", device="meta")) == ()


@pytest.mark.parametrize("family", ["distilbert", "t5", "bart", "deberta-v2", "modernbert", "xlnet", "gpt2", "albert"])
def test_the_head_is_trained_whole_and_comes_back(family: str, tmp_path: Path) -> None:
    from peft import PeftModel

    targets = ("all-linear",) if family == "xlnet" else ()
    model = build(family)
    heads = head_modules(model)
    adapted, _ = attach(model, AdapterSpec(rank=2, lora_dropout=0.0, target_modules=targets))
    assert whole_modules(adapted) == heads
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.randn_like(parameter))
    trained = {name for name, p in adapted.named_parameters() if p.requires_grad}
    assert all(any(f".{head}." in name for name in trained) for head in heads)
    ids = torch.tensor([[5, 6, 7, 1 if family in ("t5",) else 2]])
    expected = adapted.eval()(input_ids=ids).logits
    adapted.save_pretrained(tmp_path)
    reloaded = PeftModel.from_pretrained(build(family), str(tmp_path)).eval()
    torch.testing.assert_close(reloaded(input_ids=ids).logits, expected)
    torch.testing.assert_close(adapted.merge_and_unload()(input_ids=ids).logits, expected, rtol=1e-4, atol=1e-5)
    frozen, _ = attach(build(family), AdapterSpec(rank=2, target_modules=targets, freeze_head=True))
    assert whole_modules(frozen) == ()
    assert all("lora_" in name for name, p in frozen.named_parameters() if p.requires_grad)


@pytest.mark.parametrize(
    ("family", "spec", "sentence"),
    [
        ("gpt2", AdapterSpec(variant="olora", rank=2), "olora splits a weight along its rows"),
        ("distilbert", AdapterSpec(rank=2, target_modules=("classifier",)), "outside of its head and its routers"),
        ("mixtral", AdapterSpec(rank=2, target_modules=("gate",)), "outside of its head and its routers"),
        ("squeezebert", AdapterSpec(rank=2), "has no plain linear layers in its blocks"),
        ("xlnet", AdapterSpec(rank=2), "no query and value layers were recognised in a XLNet"),
        ("bert", AdapterSpec(rank=17, target_modules=("all-linear",)), "rank 17 exceeds the smallest dimension, 16"),
    ],
)
def test_what_cannot_be_adapted_is_refused_with_a_sentence(family: str, spec: AdapterSpec, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        check_adapter(build(family, device="meta"), spec)


def test_a_layer_without_room_for_the_rank_is_left_out_of_all_linear_only() -> None:
    model = build("opt", device="meta")  # project_in and project_out have a dimension of 12
    every = resolve_targets(model, ("all-linear",))
    assert set(every) - set(resolve_targets(model, ("all-linear",), 16)) == {
        "model.decoder.project_in",
        "model.decoder.project_out",
    }
    with pytest.raises(UsageError, match="rank 16 exceeds the smallest dimension, 12"):
        resolve_targets(model, ("project_in",), 16)


def test_a_requested_name_means_the_layers_that_end_in_it() -> None:
    model = build("roberta", device="meta")
    dense = resolve_targets(model, ("dense",))
    assert len(dense) == 6 and not any(name.startswith("classifier") for name in dense)
    assert resolve_targets(model, ("1.output.dense", "0.attention.self.key")) == (
        "roberta.encoder.layer.0.attention.self.key",
        "roberta.encoder.layer.1.output.dense",
    )


@pytest.mark.parametrize("variant", ["lora", "rslora", "dora", "pissa"])
def test_conv1d_layers_start_at_the_suspect_and_merge(variant: str) -> None:
    model = build("gpt2")
    ids = torch.tensor([[5, 6, 7, 2]])
    before = model(input_ids=ids).logits
    adapted, layers = attach(
        model, AdapterSpec(variant=variant, rank=2, lora_dropout=0.0, target_modules=("all-linear",))
    )
    torch.testing.assert_close(adapted.eval()(input_ids=ids).logits, before, rtol=1e-4, atol=1e-5)
    assert len(layers) == 8
    for layer in layers:
        with torch.no_grad():
            layer.lora_B.add_(0.1 * torch.randn_like(layer.lora_B))
    after = adapted(input_ids=ids).logits
    assert not torch.allclose(after, before, atol=1e-4)
    torch.testing.assert_close(adapted.merge_and_unload()(input_ids=ids).logits, after, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["bert", "gpt2"])
@pytest.mark.parametrize("variant", ["lora", "dora"])
def test_a_merged_adapter_answers_alike_without_its_branches_and_comes_apart_to_the_bit(
    family: str, variant: str
) -> None:
    torch.manual_seed(0)
    model, layers = attach(build(family), AdapterSpec(variant=variant, rank=2, target_modules=("all-linear",)))
    with torch.no_grad():
        for layer in layers:
            layer.lora_B.normal_(std=0.1)
    ids, branches = torch.arange(3, 11).reshape(2, 4), []
    for layer in layers:
        layer.module.lora_A["default"].register_forward_hook(lambda *_: branches.append(1))
    before = {name: value.clone() for name, value in model.eval().state_dict().items()}
    answer = model(input_ids=ids).logits
    assert branches
    branches.clear()
    with merged(model):
        torch.testing.assert_close(model(input_ids=ids).logits, answer, rtol=1e-4, atol=1e-5)
    assert branches == []
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(model(input_ids=ids).logits, answer) and branches


def test_an_adapter_on_weights_of_16_bits_stays_apart() -> None:
    model, layers = attach(build("bert").bfloat16(), AdapterSpec(rank=2))
    with merged(model):
        assert not any(layer.module.merged for layer in layers)


def test_the_first_weights_are_drawn_from_the_seed_and_chance_goes_on() -> None:
    def drawn(seed: int, *, before: int) -> tuple[torch.Tensor, torch.Tensor]:
        bare = build("bert")
        torch.manual_seed(before)
        _, layers = attach(bare, AdapterSpec(rank=2), seed=seed)
        return layers[0].lora_A.detach(), torch.rand(3)

    first, goes_on = drawn(1, before=5)
    again, _ = drawn(1, before=6)
    other, _ = drawn(2, before=5)
    torch.manual_seed(5)
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(goes_on, torch.rand(3)), "as if nothing had been drawn"
