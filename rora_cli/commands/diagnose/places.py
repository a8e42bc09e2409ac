"""The place of a module in the network, from its name: the number of its block and the kind of its projection."""

from __future__ import annotations

_KINDS = {
    "query": "q_proj query q_lin q to_q wq q_attn",
    "key": "k_proj key k_lin k to_k wk",
    "value": "v_proj value v_lin v to_v wv",
    "attention-out": "o_proj out_proj out_lin o to_out wo",
    "qkv": "c_attn qkv_proj query_key_value qkv in_proj",
    "gate": "gate_proj w1",
    "up": "up_proj w3 fc1 lin1 c_fc dense_h_to_4h",
    "down": "down_proj w2 fc2 lin2 dense_4h_to_h",
    "gate-up": "gate_up_proj",
    "embedding": "embed_tokens word_embeddings wte embed_in",
}
_BY_NAME = {name: kind for kind, names in _KINDS.items() for name in names.split()}


def place(module: str, parameter: str = "weight") -> tuple[int | None, str]:
    """(block, kind) of a module's path; an unknown kind is the last part of the name."""
    parts = module.split(".")
    block = next((int(part) for part in parts if part.isascii() and part.isdigit() and len(part) < 6), None)
    last = parts[-1] if parameter == "weight" else parameter
    if last in ("dense", "c_proj"):  # in BERT and GPT-2, the parent tells the kind
        inside_attention = any(part in ("attention", "attn", "self_attention") for part in parts)
        if last == "dense" and {"intermediate", "pooler"} & set(parts):
            return block, "up" if "intermediate" in parts else "pooler"
        return block, "attention-out" if inside_attention else "down"
    return block, _BY_NAME.get(last, last)
