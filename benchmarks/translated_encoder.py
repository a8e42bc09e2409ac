"""Give MiniLM's weights to an encoder of another family: what suspects of that family can be made of without its own.

    python benchmarks/translated_encoder.py MODEL TEXTS ... OUT --family roberta|deberta|gpt2 [--vocabulary 16000]

MODEL is the directory of a BERT encoder (MiniLM). The train splits of the directories TEXTS teach the new tokenizer,
which is the family's: byte-level BPE, or Unigram, whose training differs a little from run to run. Each of its tokens
gets the mean of MiniLM's embeddings of the token's text, and every block is MiniLM's. A RoBERTa counts positions from
two. A DeBERTa divides the scores of attention by the root of three times the width of a head, so its queries are made
larger; its relative positions start near nothing, beside MiniLM's absolute ones. The result reads texts when it is
fine-tuned, and knows what MiniLM knows. A GPT-2 has other blocks: its own are drawn anew, so that it learns the task
from the embeddings alone.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor

from rora_cli.data.sources import load_splits
from rora_cli.files import publish_directory

ROBERTA = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
GPT2 = ["<|endoftext|>"]
DEBERTA = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]
#: The name of a weight of BERT's, and of DeBERTa's.
RENAMED = {"self.query": "self.query_proj", "self.key": "self.key_proj", "self.value": "self.value_proj"}


def byte_level(texts: Iterable[str], size: int, special: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        initial_alphabet=alphabet, vocab_size=size, special_tokens=special, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def roberta_tokenizer(texts: Iterable[str], size: int) -> Any:
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=_enclosed(byte_level(texts, size, ROBERTA), "<s>", "</s>"),
        bos_token="<s>", eos_token="</s>", cls_token="<s>", sep_token="</s>", pad_token="<pad>", unk_token="<unk>",
        mask_token="<mask>", model_max_length=512,
    )  # fmt: skip


def gpt2_tokenizer(texts: Iterable[str], size: int) -> Any:
    (end,) = GPT2
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=byte_level(texts, size, GPT2),
        bos_token=end, eos_token=end, unk_token=end, pad_token=end, model_max_length=512,
    )  # fmt: skip


def deberta_tokenizer(texts: Iterable[str], size: int) -> Any:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=size, special_tokens=DEBERTA, unk_token="[UNK]", show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=_enclosed(tokenizer, "[CLS]", "[SEP]"),
        cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]", unk_token="[UNK]", mask_token="[MASK]",
        model_max_length=512,
    )  # fmt: skip


def _enclosed(tokenizer: Tokenizer, first: str, last: str) -> Tokenizer:
    ends = [(piece, tokenizer.token_to_id(piece)) for piece in (first, last)]
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{first} $A {last}", special_tokens=ends)
    return tokenizer


def translated_embeddings(tokenizer: Any, source: Any, table: Tensor) -> Tensor:
    """A row for each token [tokens, width]: the mean of the rows of ``table`` that its text has in ``source``."""
    special = dict(zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True))
    same = {"<s>": "[CLS]", "</s>": "[SEP]", "<pad>": "[PAD]", "<unk>": "[UNK]", "<mask>": "[MASK]", GPT2[0]: "[SEP]"}
    known, rows = source.get_vocab(), torch.zeros(len(tokenizer), table.shape[1])
    for piece, index in tokenizer.get_vocab().items():
        if piece in special:
            rows[index] = table[known[same.get(piece, piece)]]
            continue
        text = tokenizer.backend_tokenizer.decoder.decode([piece]).lower()
        inside = not piece.startswith(("Ġ", "▁"))
        one = known.get(f"##{text}") if inside else None
        ids = [one] if one is not None else source(text.strip() or "a", add_special_tokens=False)["input_ids"]
        rows[index] = table[ids or [known["[UNK]"]]].mean(dim=0)
    return rows


def roberta(source: Any, rows: Tensor, own: Any) -> Any:
    config = own.config
    model = transformers.RobertaModel(
        transformers.RobertaConfig(
            **_shape(config, rows), max_position_embeddings=config.max_position_embeddings + 2, type_vocab_size=1,
            pad_token_id=source.pad_token_id, bos_token_id=source.bos_token_id, eos_token_id=source.eos_token_id,
        )
    )  # fmt: skip
    weights = {name: value for name, value in own.state_dict().items() if "position_ids" not in name}
    positions = weights["embeddings.position_embeddings.weight"]
    weights["embeddings.position_embeddings.weight"] = torch.cat([torch.zeros(2, positions.shape[1]), positions])
    weights["embeddings.token_type_embeddings.weight"] = weights["embeddings.token_type_embeddings.weight"][:1]
    _load(model, weights, rows)
    return model


def deberta(source: Any, rows: Tensor, own: Any) -> Any:
    config = own.config
    model = transformers.DebertaV2Model(
        transformers.DebertaV2Config(
            **_shape(config, rows), max_position_embeddings=config.max_position_embeddings, type_vocab_size=0,
            relative_attention=True, position_buckets=64, pos_att_type=["p2c", "c2p"], share_att_key=True,
            norm_rel_ebd="none", position_biased_input=True, pad_token_id=source.pad_token_id,
            pooler_hidden_size=config.hidden_size,
        )
    )  # fmt: skip
    weights = {_renamed(name): value for name, value in own.state_dict().items() if "position_ids" not in name}
    first = weights.pop("embeddings.token_type_embeddings.weight")[0]
    weights["embeddings.position_embeddings.weight"] = weights["embeddings.position_embeddings.weight"] + first
    for name in weights:
        if "query_proj" in name:  # scores are divided by the root of three times the width of a head, not of the width
            weights[name] = weights[name] * math.sqrt(3)
    _load(model, weights, rows)
    return model


def gpt2(source: Any, rows: Tensor, own: Any) -> Any:
    config = own.config
    model = transformers.GPT2Model(
        transformers.GPT2Config(
            vocab_size=len(rows), n_positions=config.max_position_embeddings, n_embd=config.hidden_size,
            n_layer=config.num_hidden_layers, n_head=config.num_attention_heads, pad_token_id=source.pad_token_id,
            bos_token_id=source.bos_token_id, eos_token_id=source.eos_token_id,
        )
    )  # fmt: skip
    model.wte.weight.data.copy_(rows)
    return model


def _renamed(name: str) -> str:
    for old, new in RENAMED.items():
        name = name.replace(old, new)
    return name


def _shape(config: Any, rows: Tensor) -> dict[str, Any]:
    kept = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act")
    return {name: getattr(config, name) for name in kept} | {"vocab_size": len(rows)}


def _load(model: Any, weights: dict[str, Tensor], rows: Tensor) -> None:
    weights["embeddings.word_embeddings.weight"] = rows
    left_out = model.load_state_dict(weights, strict=False)
    made_here = ("rel_embeddings", "position_ids", "token_type_ids", "pooler")
    if wrong := [name for names in left_out for name in names if not any(part in name for part in made_here)]:
        raise ValueError(f"weights that only one of the two models has: {wrong}")


FAMILIES = {
    "roberta": (roberta_tokenizer, roberta),
    "deberta": (deberta_tokenizer, deberta),
    "gpt2": (gpt2_tokenizer, gpt2),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model")
    parser.add_argument("texts", nargs="+", help="directories with train.jsonl and validation.jsonl")
    parser.add_argument("out", type=Path)
    parser.add_argument("--family", choices=FAMILIES, required=True)
    parser.add_argument("--vocabulary", type=int, default=16_000)
    given = parser.parse_args()
    torch.manual_seed(0)
    texts = [text for source in given.texts for text in load_splits(source, label_names=("0", "1")).train.texts]
    make_tokenizer, make_model = FAMILIES[given.family]
    tokenizer = make_tokenizer(texts, given.vocabulary)
    source = transformers.AutoTokenizer.from_pretrained(given.model)
    own = transformers.AutoModel.from_pretrained(given.model)
    rows = translated_embeddings(tokenizer, source, own.get_input_embeddings().weight.detach())
    model = make_model(tokenizer, rows, own)
    with publish_directory(given.out) as staging:
        model.save_pretrained(staging)
        tokenizer.save_pretrained(staging)
    return 0


if __name__ == "__main__":
    sys.exit(main())
