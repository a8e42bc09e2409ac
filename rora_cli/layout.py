"""What the name of a module or weight tells: whether it is a head or a router, its kind, and the number of its block.

It works on plain strings, so that every room can use it. Names are those of transformers, as in ``named_modules`` and
in checkpoints.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

#: Parts of a name that mean a task's head, wherever they stand in it.
TASK_HEADS = frozenset({
    "classifier", "score", "pre_classifier", "classification_head", "logits_proj", "sequence_summary", "qa_outputs",
    "lm_head",
})  # fmt: skip
#: ``TASK_HEADS``, and BERT's pooler, which a fine-tune trains together with the head.
TRAINED_HEADS = TASK_HEADS | {"pooler"}
#: First parts of the names of modules on top of the encoder, in transformers' sequence classifiers.
HEAD_MODULES = (TASK_HEADS - {"qa_outputs", "lm_head"}) | {"head", "dense", "out_proj", "pooler"}
#: The heads that PEFT saves with an adapter of the task types SEQ_CLS and TOKEN_CLS, whatever its config declares.
IMPLICIT_HEADS = ("classifier", "score")
#: Weights of the last linear layer of a classifier's head, surest name first; their first dimension counts the labels.
LABEL_LAYERS = (
    "classifier.weight",
    "score.weight",
    "classifier.out_proj.weight",
    "classification_head.out_proj.weight",
    "logits_proj.weight",
    "classifier.linear_out.weight",
    "sequence_summary.summary.weight",
)
#: Last parts of the names of input embeddings.
EMBEDDINGS = frozenset({"embed_tokens", "word_embeddings", "wte", "embed_in", "embed_out", "shared"})

#: Attention projections that stand for the paper's "query and value", most specific name first.
QUERY_VALUE = (
    ("query", "value"),
    ("q_proj", "v_proj"),
    ("q_lin", "v_lin"),
    ("query_proj", "value_proj"),
    ("q", "v"),
    ("q_head", "v_head"),
    ("Wq", "Wv"),
    ("Wqkv",),
    ("qkv_proj",),
    ("query_key_value",),
    ("c_attn",),
    ("in_proj",),
)

_ROUTERS = frozenset({"router", "gate", "shared_expert_gate"})
_ATTENTION = re.compile(r"att(?:n|ention)s?$", re.IGNORECASE)
_FEED_FORWARD_DOWN = frozenset({
    "down_proj", "fc2", "lin2", "wo", "Wo", "w2", "c_proj", "dense_4h_to_h", "ffn_output", "layer_2", "fc_out",
    "linear_2", "dense2",
})  # fmt: skip
_ATTENTION_OUT = frozenset({"o_proj", "out_proj", "c_proj", "dense", "o", "Wo", "out_lin", "wo"})
_NUMBER = re.compile(r"(?:^|\.)(\d+)(?=\.|$)")


def is_head(name: str) -> bool:
    """Whether a module or parameter of a sequence classifier belongs to its head."""
    return name.partition(".")[0] in HEAD_MODULES


def is_router(name: str) -> bool:
    """Whether a module chooses among experts, or is part of a module that does."""
    return not _ROUTERS.isdisjoint(name.split("."))


def leads_down(name: str) -> bool:
    """Whether a module maps the neurons of a feed-forward layer back to the width of the model."""
    *above, last = name.split(".")
    if any(_ATTENTION.search(part) for part in above):
        return False
    tail = (above[-1] if above else "", last)
    return last in _FEED_FORWARD_DOWN or tail in (("output", "dense"), ("ffn", "2"))


def writes_to_stream(name: str) -> bool:
    """Whether a module's output is added to what runs from block to block: attention's or the feed-forward's last."""
    *above, last = name.split(".")
    return leads_down(name) or (last in _ATTENTION_OUT and any(_ATTENTION.search(part) for part in above))


def block_index(name: str) -> int | None:
    """The first number in a dotted name, which counts the blocks of its stack; None outside of the blocks."""
    found = _NUMBER.search(name)
    return int(found.group(1)) if found else None


def stacks(names: Iterable[str]) -> dict[str, range]:
    """Path of a stack of blocks -> numbers of its blocks, in the order of ``names``.

    The count runs on from encoder to decoder: "model.encoder" has blocks 0 to n - 1, "model.decoder" n to n + m - 1.
    Lists side by side ("attentions.0" and "ffns.0" of XLM) are one stack.
    """
    sizes: dict[str, int] = {}
    for name in names:
        if (stack := stack_of(name)) is not None:
            sizes[stack] = max(sizes.get(stack, 0), 1 + (block_index(name) or 0))
    numbered, start = {}, 0
    for stack, size in sizes.items():
        numbered[stack] = range(start, start + size)
        start += size
    return numbered


def blocks_in(text: str) -> set[int] | None:
    """The numbers in a text such as ``0,2,4-6``, each of at most four digits; None for a text of another form."""
    chosen: set[int] = set()
    for part in text.split(","):
        found = re.fullmatch(r"\s*(\d{1,4})(?:-(\d{1,4}))?\s*", part)
        if found is None:
            return None
        chosen.update(range(int(found[1]), int(found[2] or found[1]) + 1))
    return chosen


def block_numbers(names: Iterable[str]) -> dict[str, int]:
    """Name -> number of its block over all stacks, without names outside of blocks; ``names`` are a whole model's."""
    known = list(names)
    numbered = stacks(known)
    return {name: numbered[stack][block_index(name) or 0] for name in known if (stack := stack_of(name)) is not None}


def stack_of(name: str) -> str | None:
    """The path of the module with the list of blocks that ``name`` is in; None outside of the blocks."""
    found = _NUMBER.search(name)
    if found is None or is_head(name) or "embed" in name[: found.start()]:
        return None
    return name[: found.start()].rpartition(".")[0]
