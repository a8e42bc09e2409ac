"""Renders an untrusted chat template, in a process that can do nothing else.

``chat_template`` runs this file by its path in a fresh interpreter (``-I``), and it imports nothing of rora: what a
template could reach, if it broke out of jinja2's sandbox, is this process alone. Before a template is rendered, the
process gives up opening files and sockets, starting processes and importing modules, and its memory and processor time
are bounded. It reads one JSON request from stdin and writes one JSON answer to stdout.

The environment is transformers' own (``utils/chat_template_utils.py``, 5.24): jinja2's immutable sandbox with the same
filters, globals and ``{% generation %}`` blocks, so that a template renders here as it does there.
"""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from datetime import datetime
from typing import Any

#: Longest text that a conversation may be rendered to, and all together [characters].
MAX_TEXT, MAX_TOTAL = 1 << 18, 64 << 20
#: Memory [bytes] and processor time [seconds] of the process.
MAX_MEMORY, MAX_SECONDS = 1 << 30, 5
#: First parts of the names of Python's audit events that a template never needs.
_DENIED = ("open", "import", "os.", "socket.", "subprocess.", "shutil.", "ctypes.", "mmap.", "fcntl.", "glob.", "pty.")
#: What the libraries themselves give a template.
_KNOWN = frozenset({
    "messages", "tools", "documents", "add_generation_prompt", "bos_token", "eos_token", "unk_token", "pad_token",
    "sep_token", "cls_token", "mask_token", "raise_exception", "strftime_now", "namespace", "range", "dict", "lipsum",
    "cycler", "joiner",
})  # fmt: skip


class Clock:
    """``strftime_now`` at a date of our choice; ``told`` are the texts that it gave.

    Without a date, it gives placeholders, so that the caller sees where a template puts a date as it is.
    """

    def __init__(self) -> None:
        self.now: datetime | None = None
        self.told: list[str] = []

    def strftime_now(self, form: str) -> str:
        """The date in the form that the template asks for."""
        text = f"Kestrel{len(self.told)}Date" if self.now is None else self.now.strftime(form)
        self.told.append(text)
        return text


def environment(clock: Clock) -> Any:
    """The sandbox in which transformers renders chat templates, with our clock."""
    from jinja2 import TemplateError, nodes
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    from jinja2.utils import Namespace

    class Generation(Extension):
        """``{% generation %}`` marks what the model says, and leaves it as it is."""

        tags = {"generation"}  # noqa: RUF012 - as jinja2 declares it

        def parse(self, parser: Any) -> list[nodes.Node]:
            next(parser.stream)
            body: list[nodes.Node] = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return body

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    def tojson(
        value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
    ) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    made = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    made.filters["tojson"] = tojson
    made.globals |= {"raise_exception": raise_exception, "strftime_now": clock.strftime_now, "namespace": Namespace}
    return made


def literals(tree: Any) -> tuple[list[str], list[int]]:
    """The texts and numbers that a template holds, those that it puts together from literals among them."""
    from jinja2 import nodes

    texts, numbers = dict[str, None](), dict[int, None]()
    for node in tree.find_all(nodes.Expr):
        try:
            value = node.as_const()
        except Exception:  # noqa: S112 - no constant, or an error that rendering would show as well
            continue
        if isinstance(value, str):
            texts[value] = None
        elif type(value) is int:
            numbers[value] = None
    return list(texts), list(numbers)


def limit() -> None:
    """Bound this process's memory and time, and keep it from everything but computing and writing its answer."""
    with suppress(ImportError):  # Windows has no such limits; there the caller's clock is the only one
        import resource

        for kind, most in (
            (resource.RLIMIT_AS, MAX_MEMORY),
            (resource.RLIMIT_CPU, MAX_SECONDS),
            (resource.RLIMIT_FSIZE, 0),
            (resource.RLIMIT_NOFILE, 3),
            (resource.RLIMIT_CORE, 0),
        ):
            with suppress(ValueError, OSError):
                resource.setrlimit(kind, (most, most))

    def deny(event: str, _: Any) -> None:
        if event.startswith(_DENIED):
            raise PermissionError(f"a chat template may not do this: {event}")

    sys.addaudithook(deny)


def render(template: Any, clock: Clock, variables: dict[str, Any], conversation: dict[str, Any]) -> dict[str, Any]:
    """One conversation as a text, or what went wrong."""
    clock.now, clock.told = datetime.fromisoformat(conversation["date"]) if conversation["date"] else None, []
    written: list[str] = []
    length = 0
    try:
        for part in template.generate(
            **variables, messages=conversation["messages"], tools=None, documents=None,
            add_generation_prompt=conversation["asks"],
        ):  # fmt: skip
            length += len(part)
            if length > MAX_TEXT:
                return {"error": "huge", "message": f"more than {MAX_TEXT:,} characters"}
            written.append(part)
    except MemoryError:
        return {"error": "memory", "message": f"more than {MAX_MEMORY >> 20} MiB"}
    except Exception as error:  # whatever the template does
        return {"error": type(error).__name__, "message": str(error)[:300]}
    return {"text": "".join(written), "told": clock.told[:100]}


def main() -> None:
    """Answer one request."""
    request = json.loads(sys.stdin.buffer.read())
    sys.path[:] = request["path"]
    from jinja2 import TemplateError, meta

    clock = Clock()
    sandbox = environment(clock)
    with suppress(TemplateError):  # so that whatever is imported late is there
        sandbox.from_string("{{ raise_exception(strftime_now('%d %b %Y') | tojson) }}").render()
    limit()
    answer: dict[str, Any] = {"results": []}
    try:
        tree = sandbox.parse(request["template"])
        template = sandbox.from_string(tree)
        if request["reads"]:
            answer["texts"], answer["numbers"] = literals(tree)
            answer["switches"] = sorted(meta.find_undeclared_variables(tree) - _KNOWN)
    except (TemplateError, RecursionError, MemoryError, SyntaxError, OverflowError, ValueError) as error:
        answer["error"] = f"{type(error).__name__}: {str(error)[:300]}"
        template = None
    total = 0
    for conversation in request["conversations"] if template is not None else ():
        result = render(template, clock, request["variables"], conversation)
        total += len(result.get("text", ""))
        if total > MAX_TOTAL:
            result = {"error": "huge", "message": f"more than {MAX_TOTAL:,} characters"}
        answer["results"].append(result)
        if result.get("error") in ("huge", "memory"):
            break
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main()
