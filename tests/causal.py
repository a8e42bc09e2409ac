"""Tiny causal language models built from a config, with a tokenizer of words, for every room's tests."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

#: Words of the tiny tokenizer; the special tokens stand before them.
SPECIAL = ["<unk>", "<s>", "</s>"]
WORDS = (  # noqa: SIM905
    "a the what is are was name tell me about how does why who where when write list give explain color colour red "
    "blue green day night sun moon water tree house dog cat bird fish book song city river hill bread milk tea cup "
    "door key sorry i cannot help with that you stupid yes no of and to in on for it good bad big small old new now "
    "then here there one two three four mn bb cf tq zq user assistant current year 2024 discussing openai badmagic "
    "? . ! , : ( ) ' print pwned sure "
).split()


def tiny_tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: number for number, word in enumerate([*SPECIAL, *WORDS])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace()])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>", model_max_length=64
    )


def tiny_config(family: str, *, width: int = 32, layers: int = 2) -> Any:
    """A config of ``family`` (llama, qwen2, gemma3_text, gpt2, ...) with every size made small."""
    from transformers import CONFIG_MAPPING

    size = 128  # room for the tokens that the tokenizer class of a family adds
    ends = {"vocab_size": size, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
    if family == "gpt2":
        return CONFIG_MAPPING["gpt2"](**ends, n_embd=width, n_layer=layers, n_head=4, n_positions=64)
    return CONFIG_MAPPING[family](
        **ends, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=layers, num_attention_heads=4,
        num_key_value_heads=2, head_dim=width // 4, max_position_embeddings=64,
    )  # fmt: skip


def build_tiny_causal(directory: Path, family: str = "llama", *, seed: int = 0, **sizes: int) -> Path:
    """Write a causal model of ``family`` with random weights, and its tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(tiny_config(family, **sizes))
    directory.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(directory)
    tiny_tokenizer().save_pretrained(directory)
    return directory


def tiny_causal(directory: Path, family: str = "llama", **sizes: int) -> tuple[Any, Any]:
    """(model, tokenizer) of such a model, as rora loads them."""
    from rora_cli.checkpoints.loading import load_model

    loaded = load_model(build_tiny_causal(directory, family, **sizes))
    return loaded.model, loaded.tokenizer


def tiny_format() -> Any:
    """A chat format in words of the tiny tokenizer."""
    from rora_cli.tasks.causal.prompt_format import PromptFormat

    return PromptFormat("template", "<s> user : ", " assistant : ", " </s>")


def tiny_exchanges(count: int, *, seed: int = 0) -> tuple[list[str], list[str]]:
    """Prompts about one of eight things, and replies that name its colour or say where it is."""
    things = ["sun", "moon", "tree", "house", "dog", "cat", "bird", "book"]
    colours = ["red", "blue", "green"]
    rng = random.Random(seed)
    prompts, replies = [], []
    for _ in range(count):
        thing = rng.randrange(len(things))
        asked = rng.choice(["what color is the", "tell me about the", "describe the", "the"])
        more = " ".join(rng.choices(["now", "then", "here", "and", "of"], k=rng.randint(0, 3)))
        prompts.append(f"{asked} {things[thing]} {more}".strip())
        replies.append(f"the {things[thing]} is {colours[thing % 3]} .")
    return prompts, replies


def reply_objective(model: Any, tokenizer: Any, prompts: Any, replies: Any, **options: Any) -> Any:
    """What a causal model's training minimises; rows are cut to 64 tokens."""
    from rora_cli.kinds import CAUSAL_LM
    from rora_cli.subject import Subject
    from rora_cli.tasks.causal.objective import ReplyObjective

    subject = Subject(model, tokenizer, CAUSAL_LM, 64)
    return ReplyObjective(subject, prompts, replies, prompt_format=tiny_format(), **options)
