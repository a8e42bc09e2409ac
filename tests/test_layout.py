from __future__ import annotations

import pytest

from rora_cli.layout import block_index, block_numbers, is_head, is_router, leads_down, stacks


def test_blocks_of_an_encoder_and_a_decoder_are_counted_on() -> None:
    names = [
        "model.shared",
        "model.encoder.layers.0.fc1",
        "model.encoder.layers.1.fc1",
        "model.decoder.layers.0.fc1",
        "model.decoder.layers.1.encoder_attn.q_proj",
        "classification_head.dense",
    ]
    assert stacks(names) == {"model.encoder": range(2), "model.decoder": range(2, 4)}
    assert block_numbers(names) == dict(zip(names[1:5], range(4), strict=True))


def test_lists_side_by_side_are_one_stack_and_numbers_elsewhere_are_no_blocks() -> None:
    xlm = ["transformer.attentions.0.q_lin", "transformer.attentions.1.q_lin", "transformer.ffns.1.lin2"]
    assert block_numbers(xlm) == dict(zip(xlm, (0, 1, 1), strict=True))
    assert block_numbers(["embeddings.position_embeddings.weights.1", "classifier.0.weight", "model.norm"]) == {}
    assert block_numbers(["transformer.encoder.block.3.layer.1.DenseReluDense.wo"]) == {
        "transformer.encoder.block.3.layer.1.DenseReluDense.wo": 3
    }
    assert block_index("transformer.h.11.mlp") == 11 and block_index("transformer.wte") is None


@pytest.mark.parametrize(
    "name",
    [
        "bert.encoder.layer.0.output.dense",
        "distilbert.transformer.layer.0.ffn.lin2",
        "model.decoder.layers.1.fc2",
        "transformer.encoder.block.0.layer.1.DenseReluDense.wo",
        "transformer.h.0.mlp.c_proj",
        "model.layers.0.mlp.Wo",
        "transformer.layer.1.ff.layer_2",
        "albert.encoder.albert_layer_groups.0.albert_layers.0.ffn_output",
        "transformer.h.0.ffn.2",
        "transformer.ffns.0.lin2",
    ],
)
def test_the_way_down_is_told_from_its_name(name: str) -> None:
    assert leads_down(name)


@pytest.mark.parametrize(
    "name",
    [
        "bert.encoder.layer.0.attention.output.dense",
        "bert.encoder.layer.0.intermediate.dense",
        "model.layers.0.self_attn.v_proj",
        "transformer.h.0.attn.c_proj",
        "model.layers.0.attn.Wo",
        "mobilebert.encoder.layer.0.bottleneck.input.dense",
        "transformer.attentions.0.out_lin",
        "classifier",
    ],
)
def test_nothing_else_leads_down(name: str) -> None:
    assert not leads_down(name)


def test_routers_and_heads() -> None:
    assert is_router("model.layers.0.mlp.gate") and is_router("model.layers.0.mlp.shared_expert_gate")
    assert is_router("model.layers.0.mlp.router.layer") and not is_router("model.layers.0.mlp.gate_proj")
    assert is_head("classification_head.out_proj.weight") and is_head("pre_classifier.weight")
    assert not is_head("bert.pooler.dense.weight") and not is_head("model.decoder.layers.0.fc1.weight")
