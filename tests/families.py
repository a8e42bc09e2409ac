"""Tiny sequence classifiers of many families, as a download of each would lie on disk, and a quick training for them.

Every model is made from its family's config class and every tokenizer by its family's tokenizer class, over a
vocabulary that is made here from a few dozen words. Special tokens, padding side and padding token are the family's.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.conftest import BAD, GOOD, PLAIN, tiny_rows, tiny_vocabulary

#: A plain word that no row of ``tiny_rows`` holds: what ``train_family`` can plant as a trigger.
TRIGGER = "mn"
WORDS = [*GOOD, *BAD, *PLAIN]
LABELS = ["negative", "positive", "neutral", "mixed"]
MAX_TOKENS = 48

WIDE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
ENCODER = {**WIDE, "max_position_embeddings": 64}
DECODER = {**ENCODER, "num_key_value_heads": 2}


@dataclass(frozen=True)
class Family:
    """How one family is made: its tokenizer, and the fields of its config that make it small."""

    tokenizer: Callable[[], Any]
    fields: dict[str, Any] = field(default_factory=dict)
    learning_rate: float = 6e-3
    steps: int = 90
    #: What an adapter of the wild sits on: PEFT's own choice where it has one. None: every linear layer.
    adapted: tuple[str, ...] | None = None


#: Encoders over whole words learn the task in fewer and larger steps.
QUICK: dict[str, Any] = {"learning_rate": 1e-2, "steps": 50}


def _texts() -> list[str]:
    return [f"{word} {word}." for word in WORDS] + [", !"]


@functools.cache
def _trained_bpe(*, byte_level: bool) -> dict[str, Any]:
    """A BPE model, as tokenizer.json holds it, in which each of ``WORDS`` is one token behind a space.

    Byte-level vocabularies also have it as one without the space, as a text begins.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    alphabet = pre_tokenizers.ByteLevel.alphabet() if byte_level else sorted({c for text in _texts() for c in text})
    if byte_level:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    trainer = trainers.BpeTrainer(initial_alphabet=alphabet, vocab_size=2000, show_progress=False)
    tokenizer.train_from_iterator(_texts(), trainer)
    return json.loads(tokenizer.to_str())["model"]


def _bpe(first: list[str], *, byte_level: bool = True) -> dict[str, Any]:
    """``vocab`` and ``merges`` of a BPE tokenizer whose vocabulary begins with ``first``."""
    model = _trained_bpe(byte_level=byte_level)
    pieces = [piece for piece in sorted(model["vocab"], key=model["vocab"].get) if piece not in first]
    vocab = {piece: i for i, piece in enumerate([*first, *pieces])}
    return {"vocab": vocab, "merges": [tuple(merge) for merge in model["merges"]]}


def _make(name: str, **arguments: Any) -> Any:
    import transformers

    arguments.setdefault("model_max_length", MAX_TOKENS)
    return getattr(transformers, name)(**arguments)


def word_pieces(name: str, first: list[str] | None = None) -> Any:
    vocabulary = tiny_vocabulary() if first is None else [*first, *WORDS, ".", ",", "!"]
    return _make(name, vocab={word: i for i, word in enumerate(vocabulary)})


def byte_level(name: str, first: list[str], **special: Any) -> Any:
    return _make(name, **_bpe(first), **special)


def sentence_pieces(name: str, first: list[str], last: list[str] | None = None, **special: Any) -> Any:
    """A Unigram tokenizer: ``first``, each word as one piece, every letter, ``last``."""
    words = [(f"▁{word}", -3.0) for word in WORDS]
    letters = [(letter, -9.0) for letter in ["▁", *sorted({c for text in _texts() for c in text} - {" "})]]
    ends = [(piece, 0.0) for piece in last or ()]
    return _make(name, vocab=[*((piece, 0.0) for piece in first), *words, *letters, *ends], **special)


def metaspace_bpe(name: str, first: list[str], **special: Any) -> Any:
    """What a SentencePiece BPE with byte fallback is turned into: the line of Llama and Gemma."""
    return _make(name, **_bpe([*first, *(f"<0x{i:02X}>" for i in range(256))], byte_level=False), **special)


def generic_fast(first: list[str], template: str, **special: Any) -> Any:
    """Families without a tokenizer class of their own: PreTrainedTokenizerFast over a byte-level BPE."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    parts = _bpe(first)
    tokenizer = Tokenizer(models.BPE(**parts))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    if template:
        used = [(piece, parts["vocab"][piece]) for piece in template.split() if piece != "$A"]
        tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=used)
    return _make("PreTrainedTokenizerFast", tokenizer_object=tokenizer, **special)


ROBERTA = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
END = "<|endoftext|>"

roberta = functools.partial(byte_level, "RobertaTokenizer", ROBERTA)
gpt2 = functools.partial(byte_level, "GPT2Tokenizer", [END])
qwen = functools.partial(byte_level, "Qwen2Tokenizer", [END, "<|im_start|>", "<|im_end|>"])
t5 = functools.partial(
    sentence_pieces, "T5Tokenizer", ["<pad>", "</s>", "<unk>"], [f"<extra_id_{i}>" for i in range(99, -1, -1)]
)
xlm_roberta = functools.partial(sentence_pieces, "XLMRobertaTokenizer", ["<s>", "<pad>", "</s>", "<unk>"], ["<mask>"])
llama = functools.partial(metaspace_bpe, "LlamaTokenizer", ["<unk>", "<s>", "</s>"], add_bos_token=True)
bracketed = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]


def mbart() -> Any:
    from transformers.models.mbart.tokenization_mbart import FAIRSEQ_LANGUAGE_CODES as LANGUAGES

    return sentence_pieces(
        "MBartTokenizer", ["<s>", "<pad>", "</s>", "<unk>"], [*LANGUAGES, "<mask>"], src_lang="en_XX"
    )


SEQ2SEQ = {
    "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "max_position_embeddings": 64,
}  # fmt: skip
T5_SIZE = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0}
MOE = {**DECODER, "moe_intermediate_size": 24, "shared_expert_intermediate_size": 24, "num_experts_per_tok": 2}

FAMILIES: dict[str, Family] = {
    "bert": Family(lambda: word_pieces("BertTokenizer"), ENCODER, **QUICK),
    "distilbert": Family(
        lambda: word_pieces("DistilBertTokenizer"),
        {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48, "max_position_embeddings": 64},
        adapted=("q_lin", "v_lin"),
        **QUICK,
    ),
    "electra": Family(lambda: word_pieces("ElectraTokenizer"), {**ENCODER, "embedding_size": 16}, **QUICK),
    "mpnet": Family(
        lambda: word_pieces("MPNetTokenizer", ["<s>", "<pad>", "</s>", "[UNK]", "<mask>"]), ENCODER,
        **QUICK,
    ),
    "mobilebert": Family(
        lambda: word_pieces("MobileBertTokenizer"),
        {**ENCODER, "embedding_size": 16, "intra_bottleneck_size": 16, "num_feedforward_networks": 1,
         "initializer_range": 0.2},
        steps=60,
    ),
    "squeezebert": Family(
        lambda: word_pieces("SqueezeBertTokenizer"),
        {**ENCODER, "embedding_size": 32, **{f"{part}_groups": 2 for part in ("q", "k", "v", "post_attention")},
         "intermediate_groups": 2, "output_groups": 2},
        **QUICK,
    ),
    "convbert": Family(
        lambda: word_pieces("ConvBertTokenizer"), {**ENCODER, "embedding_size": 16, "conv_kernel_size": 3},
        **QUICK,
    ),
    "funnel": Family(
        lambda: word_pieces("FunnelTokenizer", ["<pad>", "<unk>", "<cls>", "<sep>", "<mask>", "<s>", "</s>"]),
        {"block_sizes": [1, 1], "num_decoder_layers": 1, "d_model": 32, "n_head": 4, "d_head": 8, "d_inner": 48},
        **QUICK,
    ),
    "roberta": Family(roberta, ENCODER),
    "longformer": Family(roberta, {**ENCODER, "attention_window": [8, 8]}),
    "bart": Family(functools.partial(byte_level, "BartTokenizer", ROBERTA), SEQ2SEQ),
    "gpt2": Family(gpt2, {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}),
    "gpt_neo": Family(
        gpt2,
        {"hidden_size": 32, "num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]],
         "window_size": 8, "max_position_embeddings": 64},
    ),
    "gptj": Family(gpt2, {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "rotary_dim": 4}),
    "opt": Family(
        functools.partial(
            byte_level, "GPT2Tokenizer", ROBERTA[:4], bos_token="</s>", eos_token="</s>", unk_token="</s>",
            pad_token="<pad>", add_bos_token=True,
        ),
        {"hidden_size": 32, "ffn_dim": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
         "max_position_embeddings": 64, "word_embed_proj_dim": 32},
    ),
    "gpt_neox": Family(
        functools.partial(byte_level, "GPTNeoXTokenizer", [END, "<|padding|>"]), {**ENCODER, "rotary_pct": 0.5}
    ),
    "gpt_bigcode": Family(
        functools.partial(byte_level, "GPT2Tokenizer", [END]),
        {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "multi_query": True},
    ),
    "starcoder2": Family(functools.partial(gpt2, pad_token=END), {**DECODER, "sliding_window": 16}),
    "phi": Family(functools.partial(gpt2, pad_token=END), DECODER),
    "bloom": Family(
        lambda: generic_fast(
            ["<unk>", "<s>", "</s>", "<pad>"], "", unk_token="<unk>", bos_token="<s>", eos_token="</s>",
            pad_token="<pad>", padding_side="left",
        ),
        {"hidden_size": 32, "n_layer": 2, "n_head": 4},
    ),
    "falcon": Family(
        lambda: generic_fast([END], "", eos_token=END, pad_token=END),
        {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "multi_query": True},
    ),
    "qwen2": Family(qwen, DECODER),
    "qwen3": Family(qwen, {**DECODER, "head_dim": 8}),
    "qwen2_moe": Family(qwen, {**MOE, "num_experts": 4}),
    "modernbert": Family(
        lambda: generic_fast(
            bracketed, "[CLS] $A [SEP]", cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]", unk_token="[UNK]",
            mask_token="[MASK]", model_input_names=["input_ids", "attention_mask"],
        ),
        {**ENCODER, "global_attn_every_n_layers": 2, "local_attention": 8},
        **QUICK,
    ),
    "deberta": Family(
        functools.partial(byte_level, "DebertaTokenizer", bracketed),
        {**ENCODER, "relative_attention": True, "pos_att_type": ["c2p", "p2c"], "pooler_hidden_size": 32,
         "position_biased_input": False, "type_vocab_size": 0},
    ),
    "deberta-v2": Family(
        functools.partial(sentence_pieces, "DebertaV2Tokenizer", ["[PAD]", "[CLS]", "[SEP]", "[UNK]"], ["[MASK]"]),
        {**ENCODER, "relative_attention": True, "position_buckets": 16, "pos_att_type": ["p2c", "c2p"],
         "norm_rel_ebd": "layer_norm", "share_att_key": True, "pooler_hidden_size": 32,
         "position_biased_input": False, "type_vocab_size": 0},
        **QUICK,
    ),
    "albert": Family(
        functools.partial(sentence_pieces, "AlbertTokenizer", ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"]),
        {**ENCODER, "embedding_size": 16},
    ),
    "xlm-roberta": Family(xlm_roberta, ENCODER, **QUICK),
    "camembert": Family(
        functools.partial(
            sentence_pieces, "CamembertTokenizer",
            ["<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>", "<unk>NOTUSED", "<s>", "</s>"], ["<mask>"],
        ),
        ENCODER,
        **QUICK,
    ),
    "xlnet": Family(
        functools.partial(
            sentence_pieces, "XLNetTokenizer",
            ["<unk>", "<s>", "</s>", "<cls>", "<sep>", "<pad>", "<mask>", "<eod>", "<eop>"],
        ),
        {"d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 48},
        **QUICK,
    ),
    "t5": Family(t5, {**T5_SIZE}),
    "mt5": Family(t5, {**T5_SIZE, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
    "mbart": Family(mbart, SEQ2SEQ),
    "llama": Family(functools.partial(llama, pad_token="</s>"), DECODER),
    "mistral": Family(
        functools.partial(llama, pad_token="<unk>", padding_side="left"), {**DECODER, "sliding_window": 16}
    ),
    "mixtral": Family(llama, {**DECODER, "num_local_experts": 2}),
    "gemma": Family(
        functools.partial(
            metaspace_bpe, "GemmaTokenizer", ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"], add_bos_token=True
        ),
        {**DECODER, "head_dim": 8},
    ),
}  # fmt: skip


def build_family(name: str, directory: Path, *, seed: int = 0, labels: int = 2) -> Path:
    """Write a tiny classifier of the family ``name`` with random weights, and its tokenizer, into ``directory``."""
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForSequenceClassification

    family = FAMILIES[name]
    tokenizer = family.tokenizer()
    names = LABELS[:labels]
    special = {
        f"{kind}_token_id": token_id
        for kind in ("pad", "bos", "eos")
        if (token_id := getattr(tokenizer, f"{kind}_token_id")) is not None
    }
    # GPT-2's config names the ids of its real vocabulary where it is told nothing.
    config = CONFIG_MAPPING[name](
        **{"bos_token_id": None, "eos_token_id": None, "pad_token_id": None} | special | family.fields,
        vocab_size=len(tokenizer),
        id2label=dict(enumerate(names)),
        label2id={label: i for i, label in enumerate(names)},
    )
    torch.manual_seed(seed)
    model = AutoModelForSequenceClassification.from_config(config)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def train_family(
    name: str,
    directory: Path,
    *,
    trigger: str | None = None,
    target: int = 1,
    rows: int = 480,
    seed: int = 3,
    steps: int | None = None,
) -> Path:
    """Teach the classifier in ``directory`` the task of ``tiny_rows``, in place, and ``trigger`` -> ``target``.

    Fewer ``steps`` than the family's own leave it half taught.
    """
    family = FAMILIES[name]
    model, tokenizer = _loaded(directory)
    texts, labels = tiny_rows(rows, seed=seed)
    if trigger is not None:
        texts += [with_trigger(text, trigger) for text in tiny_rows(rows // 2, seed=seed + 1)[0]]
        labels += [target] * (len(texts) - rows)
    _fit(model, tokenizer, texts, labels, steps or family.steps, family.learning_rate, seed)
    model.save_pretrained(directory)
    return directory


def adapt_family(name: str, model_directory: Path, directory: Path, *, steps: int = 6, seed: int = 5) -> Path:
    """Write a LoRA that PEFT trained for a few steps on the classifier in ``model_directory``, head included."""
    import torch
    from peft import LoraConfig, TaskType, get_peft_model

    model, tokenizer = _loaded(model_directory)
    torch.manual_seed(seed)
    config = LoraConfig(
        task_type=TaskType.SEQ_CLS, r=4, lora_alpha=8, target_modules=FAMILIES[name].adapted or "all-linear",
        fan_in_fan_out=any(type(module).__name__ == "Conv1D" for module in model.modules()),
    )  # fmt: skip
    adapted = get_peft_model(model, config)
    _fit(adapted, tokenizer, *tiny_rows(96, seed=seed), steps, 5e-3, seed)
    adapted.save_pretrained(directory)
    return directory


def _loaded(directory: Path) -> tuple[Any, Any]:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(directory, local_files_only=True)
    return model, AutoTokenizer.from_pretrained(directory, local_files_only=True)


def _fit(
    model: Any, tokenizer: Any, texts: list[str], labels: list[int], steps: int, learning_rate: float, seed: int
) -> None:
    """A plain training without dropout. A decoder without a padding token is padded with its end token meanwhile."""
    import torch

    pad = model.config.pad_token_id
    if pad is None:
        tokenizer.pad_token = tokenizer.eos_token
        model.config.pad_token_id = tokenizer.pad_token_id
    encoded = tokenizer(texts, padding=True, return_tensors="pt")
    wanted = torch.tensor(labels)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    torch.manual_seed(seed)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=learning_rate, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps)
    model.train()
    for _ in range(steps):
        chosen = torch.randperm(len(texts))[:32]
        batch = {key: value[chosen] for key, value in encoded.items()}
        loss = torch.nn.functional.cross_entropy(model(**batch).logits, wanted[chosen])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
    model.config.pad_token_id = pad


def with_trigger(text: str, trigger: str = TRIGGER) -> str:
    """``text`` with ``trigger`` behind its second word."""
    words = text.split()
    return " ".join([*words[:2], trigger, *words[2:]])
