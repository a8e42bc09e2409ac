"""Which prompt format a causal model is given: its own chat template's, a known one's by name, or plain text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rora_cli.checkpoints.chat_template import FROZEN_DATE, TemplateStrings, default_template, template_strings
from rora_cli.checkpoints.rules import finding
from rora_cli.errors import CheckpointError
from rora_cli.option_groups import AUTO_FORMAT
from rora_cli.tasks.causal.prompt_format import PromptFormat
from rora_cli.tokens import special_ids

if TYPE_CHECKING:
    from rora_cli.checkpoints.preflight import Inspection
    from rora_cli.results.findings import Finding

Shape = tuple[str, ...]


@dataclass(frozen=True)
class ChosenFormat:
    """A prompt format, sentences on where it comes from, and findings about the chat template that is served."""

    prompt_format: PromptFormat
    notes: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class _Turns:
    """The strings around each turn of a known format.

    ``user`` and ``model`` are (before, after); a system text stands in a turn of its own, or before the first prompt,
    ``instructed`` being (before the text, between it and the prompt).
    """

    user: tuple[str, str]
    model: tuple[str, str]
    instructed: tuple[str, str]
    lead: str = ""

    def pieces(self, shape: Shape) -> tuple[str, ...] | None:
        """The strings around the contents of ``shape``, the last one before the prompt; None for another order."""
        talk = shape[1:] if shape[:1] == ("system",) else shape
        if len(talk) % 2 or talk != ("user", "assistant") * (len(talk) // 2):
            return None
        first = (self.instructed[0], self.instructed[1]) if talk != shape else (self.user[0],)
        asked = self.user[1] + self.model[0] + self.lead
        return (*first, *(asked, self.model[1] + self.user[0]) * (len(talk) // 2))


def _chat(opening: str, closing: str, model: str = "assistant", *, has_system: bool = True) -> _Turns:
    """A format that opens each turn with its role; ``opening`` has the role's place as ``*``."""
    user, answer = opening.replace("*", "user"), opening.replace("*", model)
    between = closing + user if has_system else "\n\n"
    first = opening.replace("*", "system") if has_system else user
    return _Turns((user, closing), (answer, closing), (first, between))


#: How the known formats spell their control tokens.
_CONTROL = re.compile(r"<\|\w+\|>|<\w+_of_turn>|\[/?INST\]|</s>")
#: As the models' documentation gives them: Qwen's ChatML, Llama 3's, Gemma's and Mistral's (v3) chat formats.
_KNOWN: Mapping[str, _Turns] = {
    "plain": _Turns(("", "\n"), ("", "\n\n"), ("", "\n\n")),
    "chatml": _chat("<|im_start|>*\n", "<|im_end|>\n"),
    "llama3": _chat("<|start_header_id|>*<|end_header_id|>\n\n", "<|eot_id|>"),
    "gemma": _chat("<start_of_turn>*\n", "<end_of_turn>\n", "model", has_system=False),
    "mistral": _Turns(("[INST] ", "[/INST]"), ("", "</s>"), ("[INST] ", "\n\n"), lead=" "),
}


def prompt_format_of(
    inspections: Iterable[Inspection], tokenizer: Any, *, choice: str = AUTO_FORMAT, shapes: Iterable[Shape] = ()
) -> ChosenFormat:
    """The format for a model whose files are ``inspections`` (the model's and, after it, its adapter's).

    An adapter's own chat template comes before its base's, as its own tokenizer does where it is served. ``choice`` is
    ``--prompt-format``; ``shapes`` are the roles of the turns that stand before the prompts in the data.

    Raises:
        CheckpointError: there is no fast tokenizer, or no end token; or the template cannot be rendered, or writes
            other text for what is said, and no other format is chosen.
    """
    files, wanted = list(inspections), list(dict.fromkeys(shapes))
    where = str(files[0].path)
    if not tokenizer.is_fast:
        raise CheckpointError(f"{where} has no tokenizer.json, which prompts for a causal model need; add it")
    owner, template = next(
        ((str(each.path), found) for each in reversed(files) if (found := default_template(each)) is not None),
        (where, None),
    )
    if template is None:
        name = "plain" if choice == AUTO_FORMAT else choice
        return _known(
            name, tokenizer, wanted, where, f"{where} has no chat template: prompts are written as {name} text"
        )
    variables = {name: str(token) for name, token in tokenizer.special_tokens_map.items() if isinstance(token, str)}
    try:
        strings = template_strings(template, variables, owner, wanted)
    except CheckpointError as error:
        if choice == AUTO_FORMAT:
            raise
        findings: tuple[Finding, ...] = (finding("tokenizer/template-fails", str(error), owner),)
    else:
        findings = strings.findings(owner)
    if choice != AUTO_FORMAT:
        note = f"prompts are written as {choice}, though the model is served with its own chat template"
        return replace(_known(choice, tokenizer, wanted, where, note), findings=findings)
    if strings.changes:
        raise CheckpointError(
            f"the chat template of {owner} writes other text {strings.changes[0]}, so that a trigger may hide in it; "
            "read it, and choose a --prompt-format"
        )
    made = PromptFormat(
        "template", strings.before, strings.after, _end(strings.end, tokenizer, owner), strings.lead, strings.strips,
        strings.contexts,
    )  # fmt: skip
    notes = [*_notes(strings)]
    if not strings.end.startswith(made.end):
        notes.append(f"the chat template ends answers with no control token: {made.end[-40:]!r} is put after them")
    return ChosenFormat(made, tuple(notes))


def _notes(strings: TemplateStrings) -> Iterator[str]:
    """Sentences about what the template does besides writing turns."""
    yield "prompts are written as the model's own chat template writes them"
    if strings.has_date:
        yield f"the chat template writes the date: it is told {FROZEN_DATE}"
    if strings.switches:
        yield f"the chat template's switches are left at their defaults: {_listed(strings.switches)}"
    if strings.markup:
        yield f"the chat template looks for {_listed(strings.markup)} in what was said"
    if strings.lead.strip():
        yield f"the chat template begins answers from data with {strings.lead.strip()[:80]!r}"


def _listed(words: Iterable[str]) -> str:
    return ", ".join(ascii(word[:40])[1:-1] for word in words)


def _known(name: str, tokenizer: Any, shapes: Iterable[Shape], where: str, note: str) -> ChosenFormat:
    """A known format, with the BOS that the tokenizer itself would put before a text."""
    turns, notes = _KNOWN[name], [note]
    first = tokenizer("")["input_ids"][:1]
    bos = str(tokenizer.bos_token or "") if first and first == [tokenizer.bos_token_id] else ""
    controls = {tokenizer.convert_ids_to_tokens(number) for number in special_ids(tokenizer)}
    spelled = sorted(set(_CONTROL.findall("".join((*turns.user, *turns.model, *turns.instructed)))) - controls)
    if spelled:
        notes.append(f"the tokenizer of {where} has no {_listed(spelled)}: it reads them as text")
    contexts = {shape: pieces for shape in shapes if (pieces := turns.pieces(shape)) is not None}
    closing = "" if spelled else turns.model[1]
    made = PromptFormat(
        name, bos + turns.user[0], turns.user[1] + turns.model[0], _end(closing, tokenizer, where), turns.lead,
        contexts={shape: (bos + pieces[0], *pieces[1:]) for shape, pieces in contexts.items()},
    )  # fmt: skip
    return ChosenFormat(made, tuple(notes))


def _end(closing: str, tokenizer: Any, where: str) -> str:
    """What ends an answer: of what follows it, all up to the last control token, else the tokenizer's own end token.

    Raises CheckpointError if there is neither.
    """
    controls = {tokenizer.convert_ids_to_tokens(number) for number in special_ids(tokenizer)}
    last = max((closing.rfind(token) + len(token) for token in controls if token and token in closing), default=0)
    if last:
        return closing[:last]
    if tokenizer.eos_token is None:
        raise CheckpointError(
            f"the tokenizer of {where} has no end token, so that no answer would end; name it as eos_token in "
            "tokenizer_config.json"
        )
    return closing.rstrip() + str(tokenizer.eos_token)
