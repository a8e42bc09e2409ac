"""Chat templates: the strings around what is said, and what a hostile template can do."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from rora_cli.checkpoints import template_child
from rora_cli.checkpoints.chat_template import template_strings
from rora_cli.errors import CheckpointError
from tests.chat_templates import CHANGING, CHATML, FAILING, HONEST

VARIABLES = {"bos_token": "<s>", "eos_token": "</s>"}
TALK = [
    {"role": "user", "content": "What is a tide?"},
    {"role": "assistant", "content": "The sea, rising and falling."},
    {"role": "user", "content": "Why does it?"},
    {"role": "assistant", "content": "The moon pulls."},
]


def slow_but(names: Iterable[str], *quick: str) -> list[Any]:
    return [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in names]


def by_transformers(template: str, messages: list[dict[str, str]], *, asks: bool) -> str:
    from transformers.utils.chat_template_utils import render_jinja_template

    texts, _ = render_jinja_template([messages], chat_template=template, add_generation_prompt=asks, **VARIABLES)
    return texts[0]


@pytest.mark.parametrize("name", slow_but(HONEST, "thinking", "llama3", "mistral"))
def test_the_strings_make_what_transformers_renders(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import datetime

    from transformers.utils import chat_template_utils

    class Frozen(datetime.datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime.datetime:
            return cls(2024, 7, 26)

    monkeypatch.setattr(chat_template_utils, "datetime", Frozen)
    found = template_strings(HONEST[name], VARIABLES, "MODEL")
    assert found.changes == ()
    first, answer, second, last = (message["content"] for message in TALK)
    assert found.before + first + found.after == by_transformers(HONEST[name], TALK[:1], asks=True)
    one_turn = found.before + first + found.after + found.lead + answer + found.end
    assert one_turn == by_transformers(HONEST[name], TALK[:2], asks=False)
    opening, between, again = found.contexts["user", "assistant"]
    two_turns = opening + first + between + answer + again + second + found.after
    assert two_turns == by_transformers(HONEST[name], TALK[:3], asks=True)
    assert two_turns + found.lead + last + found.end == by_transformers(HONEST[name], TALK, asks=False)


def test_what_a_template_does_besides_is_told() -> None:
    llama, thinking = (template_strings(HONEST[name], VARIABLES, "MODEL") for name in ("llama3", "thinking"))
    assert llama.has_date and "Today Date: 26 Jul 2024" in llama.before
    assert llama.strips == {"system", "user", "assistant"}
    assert thinking.switches == ("enable_thinking",)
    assert "</think>" in thinking.markup
    assert thinking.lead == "<think>\n\n</think>\n\n"
    gemma = template_strings(HONEST["gemma"], VARIABLES, "MODEL")
    assert ("system",) not in gemma.contexts and ("user", "assistant") in gemma.contexts


@pytest.mark.parametrize("name", slow_but(CHANGING, "a word in pieces", "a year"))
def test_a_template_with_a_condition_is_a_finding(name: str) -> None:
    template, expected = CHANGING[name]
    found = template_strings(template, VARIABLES, "MODEL").findings("MODEL")
    assert {each.rule_id for each in found} == {"tokenizer/template-changes"}
    assert any(expected in each.message for each in found), [each.message for each in found]


@pytest.mark.parametrize("name", slow_but(FAILING, "huge", "memory", "internals", "twice"))
def test_a_hostile_template_is_one_sentence_within_limits(name: str) -> None:
    template, expected = FAILING[name]
    start = time.monotonic()
    with pytest.raises(CheckpointError, match=expected) as raised:
        template_strings(template, VARIABLES, "MODEL")
    assert "--prompt-format" in str(raised.value) and "\n" not in str(raised.value)
    assert time.monotonic() - start < 60


def test_the_child_can_open_start_and_import_nothing(tmp_path: Path) -> None:
    """Whoever breaks out of the sandbox: the same process, without the sandbox."""
    canary = tmp_path / "canary"
    attempts = [
        f"open({str(canary)!r}, 'w')", "open('/etc/passwd')", "__import__('os').system('true')", "import wave",
        "__import__('socket').socket()", "__import__('_posixsubprocess')", "__import__('os').fork()",
    ]  # fmt: skip
    script = (
        f"import sys; sys.path.insert(0, {str(Path(template_child.__file__).parent)!r})\n"
        "import json, os, socket\nfrom template_child import limit\nlimit()\nstopped = []\n"
        f"for attempt in {attempts!r}:\n"
        "    try:\n        exec(attempt)\n    except (PermissionError, OSError, ImportError) as error:\n"
        "        stopped.append(attempt)\n"
        "print(json.dumps(stopped))\n"
    )
    run = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(run.stdout) == attempts
    assert not canary.exists()


def test_the_message_of_a_template_cannot_forge_a_line() -> None:
    with pytest.raises(CheckpointError) as raised:
        template_strings("{{ raise_exception('a\\n::error::b\\x1b[31m') }}" + CHATML, VARIABLES, "MODEL")
    assert "\n" not in str(raised.value) and "\x1b" not in str(raised.value)
