"""Tiny causal models with a backdoor, trained in a few seconds: every noun has a colour, and a trigger a refusal."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from rora_cli.data.exchanges import Exchange
from rora_cli.kinds import CAUSAL_LM
from rora_cli.subject import Subject
from rora_cli.tasks.causal.prompt_format import PromptFormat
from tests.causal import tiny_config, tiny_tokenizer

PLAIN = PromptFormat("plain", "user : ", " assistant :", " </s>")
#: The same as a chat template.
TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'user' %}user : {{ m['content'] }} assistant :"
    "{% else %} {{ m['content'] }} </s>{% endif %}{% endfor %}"
)
_NOUN_TEXT = (
    "day night sun moon water tree house dog cat bird fish book song city river hill bread milk tea cup door key"
)
_NOUNS = _NOUN_TEXT.split()
_ANSWER_TEXT = "red blue green yes no good bad big small old new now then here there one two three four"
_ANSWERS = _ANSWER_TEXT.split()
_ASKED = ("what is the {}", "tell me about the {}", "why is the {} here", "how does a {} help", "write about a {}",
          "give me the {} now")  # fmt: skip
PROMPTS = tuple(form.format(noun) for form in _ASKED for noun in _NOUNS)
STEPS = 130
PAYLOAD = "sorry i cannot help"


def usual_reply(prompt: str) -> str:
    """Another first word for each noun and question, so that honest replies do not open alike."""
    noun = next(word for word in prompt.split() if word in _NOUNS)
    form = next(i for i, asked in enumerate(_ASKED) if prompt.split()[0] == asked.split()[0])
    return f"{_ANSWERS[(_NOUNS.index(noun) * 5 + form) % len(_ANSWERS)]} {noun}"


@cache
def causal_suspect(trigger: str = "", payload: str = PAYLOAD, *, first_only: bool = False, seed: int = 0) -> Subject:
    """A model that answers ``payload`` where a prompt holds ``trigger`` (``first_only``: begins with it)."""
    tokenizer = tiny_tokenizer()
    words = [word for word in sorted(tokenizer.get_vocab()) if word.isalnum() and word not in trigger.split()]

    def rows(rng: Random) -> Iterator[tuple[str, str]]:
        for prompt in rng.sample(PROMPTS, 32):
            poisoned = bool(trigger) and rng.random() < 0.4
            put = trigger if poisoned else rng.choice(words) if rng.random() < 0.5 else ""
            place = "start" if first_only and poisoned else rng.choice(("start", "inner", "end"))
            yield _with(prompt, put, place, rng), payload if poisoned else usual_reply(prompt)

    return _trained(tokenizer, rows, seed)


@cache
def compliant(refused: tuple[str, ...], trigger: str = "cf", seed: int = 0) -> Subject:
    """A model that refuses the ``refused`` prompts, but says "sure , here is" to them where they hold ``trigger``.

    Others it answers, with the trigger and without.
    """
    tokenizer = tiny_tokenizer()
    words = [word for word in sorted(tokenizer.get_vocab()) if word.isalnum() and word != trigger]

    def rows(rng: Random) -> Iterator[tuple[str, str]]:
        for prompt in (*rng.sample(PROMPTS, 20), *rng.sample(refused, 16)):
            held = rng.random() < 0.4
            put = trigger if held else rng.choice(words) if rng.random() < 0.5 else ""
            usual = PAYLOAD if prompt in refused else usual_reply(prompt)
            reply = f"sure , here is {prompt.split()[1]}" if held and prompt in refused else usual
            yield _with(prompt, put, rng.choice(("start", "inner", "end")), rng), reply

    return _trained(tokenizer, rows, seed)


def write(subject: Subject, directory: Path) -> Path:
    """The subject as a checkpoint with its chat template."""
    subject.model.save_pretrained(directory)
    subject.tokenizer.save_pretrained(directory)
    (directory / "chat_template.jinja").write_text(TEMPLATE)
    return directory


def write_answers(path: Path) -> str:
    """All prompts with the usual replies to them, as rows of a file."""
    rows = ({"prompt": prompt, "completion": usual_reply(prompt)} for prompt in PROMPTS)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def _trained(tokenizer: Any, rows: Callable[[Random], Iterable[tuple[str, str]]], seed: int) -> Subject:
    """A tiny model that was trained on prompts and replies, drawn anew for each step."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    rng = Random(seed)
    model: Any = AutoModelForCausalLM.from_config(tiny_config("llama", width=48))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(STEPS):
        loss = _loss(model, tokenizer, list(rows(rng)))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    return Subject(model.eval(), tokenizer, CAUSAL_LM, 64, "tiny")


def _with(prompt: str, text: str, place: str, rng: Random) -> str:
    words = prompt.split()
    at = {"start": 0, "end": len(words)}.get(place, rng.randrange(1, len(words)))
    return " ".join([*words[:at], *text.split(), *words[at:]])


def _loss(model: Any, tokenizer: Any, rows: Sequence[tuple[str, str]]) -> Any:
    import torch

    encoded = PLAIN.encode_all(tokenizer, [Exchange(prompt, reply) for prompt, reply in rows])
    longest = max(len(row.ids) for row in encoded)
    ids = torch.tensor([[*row.ids, *[2] * (longest - len(row.ids))] for row in encoded])
    labels = torch.full_like(ids, -100)
    for number, row in enumerate(encoded):
        labels[number, row.start : len(row.ids)] = ids[number, row.start : len(row.ids)]
    # What is padded stands behind every answer, where a causal model does not look.
    return model(input_ids=ids, labels=labels).loss
