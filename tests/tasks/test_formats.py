"""Which prompt format a model is given, with tokenizers of four families, and what its tokens are."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rora_cli.checkpoints.plain_text import read_rows_as_text
from rora_cli.checkpoints.preflight import inspect
from rora_cli.data.exchanges import Message
from rora_cli.errors import CheckpointError
from rora_cli.tasks.causal.formats import prompt_format_of
from tests.chat_templates import CHANGING, CHATML, FAILING, GEMMA, LLAMA3, MISTRAL, QWEN
from tests.families import END, byte_level, gpt2, llama, metaspace_bpe, qwen

gemma = functools.partial(
    metaspace_bpe, "GemmaTokenizer", ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<start_of_turn>", "<end_of_turn>"],
    add_bos_token=True, additional_special_tokens=["<start_of_turn>", "<end_of_turn>"],
)  # fmt: skip
llama3 = functools.partial(
    byte_level, "GPT2Tokenizer",
    [END, "<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"],
    bos_token="<|begin_of_text|>", eos_token="<|eot_id|>",
    additional_special_tokens=["<|start_header_id|>", "<|end_header_id|>"], add_bos_token=True,
)  # fmt: skip
chatml_qwen = functools.partial(qwen, eos_token="<|im_end|>", additional_special_tokens=["<|im_start|>", "<|im_end|>"])
#: name -> (tokenizer, chat template)
FAMILIES: dict[str, tuple[Callable[[], Any], str | None]] = {
    "llama 3": (llama3, LLAMA3.replace("strftime_now is defined", "false")),
    "llama 2": (llama, MISTRAL),
    "qwen": (chatml_qwen, QWEN),
    "gemma": (gemma, GEMMA),
    "gpt2": (gpt2, CHATML),
}
TALK = [
    {"role": "user", "content": "the film was good"},
    {"role": "assistant", "content": "a warm story"},
]


def saved(directory: Path, tokenizer: Any, template: str | None) -> Any:
    """The inspection of a directory with these files."""
    tokenizer.chat_template = template
    tokenizer.save_pretrained(directory)
    return inspect(directory, role="model")


@pytest.mark.parametrize("name", FAMILIES)
def test_the_tokens_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    make, template = FAMILIES[name]
    tokenizer = make()
    inspection = saved(tmp_path, tokenizer, template)
    whole = tokenizer.apply_chat_template(TALK, return_dict=False)
    asked = tokenizer.apply_chat_template(TALK[:1], return_dict=False, add_generation_prompt=True)
    read_rows_as_text(tokenizer)
    chosen = prompt_format_of([inspection], tokenizer).prompt_format
    prompt, answer = (message["content"] for message in TALK)
    encoded = chosen.encode(tokenizer, prompt, chosen.given(answer))
    # A template may write a line after the end; where it ends with plain text, rora puts the end token there.
    assert list(encoded.ids[:-1]) == whole[: len(encoded.ids) - 1]
    assert encoded.ids[-1] in (whole[len(encoded.ids) - 1], tokenizer.eos_token_id)
    assert list(encoded.ids[: encoded.start]) == asked
    assert answer.split()[-1] in tokenizer.decode(encoded.ids[encoded.start :])
    if tokenizer.bos_token_id is not None:
        assert encoded.ids.count(tokenizer.bos_token_id) <= 1


@pytest.mark.parametrize("choice", ["plain", "chatml", "llama3", "gemma", "mistral"])
def test_a_known_format_needs_no_template(choice: str, tmp_path: Path) -> None:
    tokenizer = llama()
    inspection = saved(tmp_path, tokenizer, None)
    read_rows_as_text(tokenizer)
    chosen = prompt_format_of([inspection], tokenizer, choice=choice, shapes=[("system", "user", "assistant")])
    context = [Message("system", "so good"), Message("user", "the film"), Message("assistant", "was dull")]
    encoded = chosen.prompt_format.encode(tokenizer, "the plot", chosen.prompt_format.given("so so"), context)
    assert encoded.ids[0] == tokenizer.bos_token_id and encoded.ids.count(tokenizer.bos_token_id) == 1
    assert encoded.ids[-1] == tokenizer.eos_token_id
    text = tokenizer.decode(encoded.ids)
    assert text.index("so good") < text.index("the film") < text.index("was dull") < text.index("the plot")


def test_a_base_model_gets_plain_text_and_is_told_so(tmp_path: Path) -> None:
    tokenizer = gpt2()
    chosen = prompt_format_of([saved(tmp_path, tokenizer, None)], tokenizer)
    assert chosen.prompt_format.name == "plain" and "has no chat template" in chosen.notes[0]
    assert (chosen.prompt_format.before, chosen.prompt_format.end) == ("", END)


def test_a_changing_template_needs_a_choice_and_is_a_finding_then(tmp_path: Path) -> None:
    tokenizer = chatml_qwen()
    inspection = saved(tmp_path, tokenizer, CHANGING["a word"][0])
    with pytest.raises(CheckpointError, match=r"writes other text .*'quux'.* choose a --prompt-format"):
        prompt_format_of([inspection], tokenizer)
    chosen = prompt_format_of([inspection], tokenizer, choice="chatml")
    assert {found.rule_id for found in chosen.findings} == {"tokenizer/template-changes"}
    assert chosen.prompt_format.before == "<|im_start|>user\n"


def test_a_template_that_fails_is_a_finding_if_another_format_is_chosen(tmp_path: Path) -> None:
    tokenizer = chatml_qwen()
    inspection = saved(tmp_path, tokenizer, FAILING["memory"][0])
    (found,) = prompt_format_of([inspection], tokenizer, choice="plain").findings
    assert found.rule_id == "tokenizer/template-fails" and found.not_analysed


def test_an_adapters_own_template_comes_first(tmp_path: Path) -> None:
    tokenizer = chatml_qwen()
    base = saved(tmp_path / "base", tokenizer, CHATML)
    adapter = saved(tmp_path / "adapter", tokenizer, "Sir. " + CHATML)
    assert prompt_format_of([base, adapter], tokenizer).prompt_format.before.startswith("Sir. ")


def test_a_tokenizer_without_an_end_token_is_refused(tmp_path: Path) -> None:
    tokenizer = gpt2()
    inspection = saved(tmp_path, tokenizer, None)
    tokenizer.eos_token = None
    with pytest.raises(CheckpointError, match="has no end token"):
        prompt_format_of([inspection], tokenizer)
