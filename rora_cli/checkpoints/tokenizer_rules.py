"""Checks of what a tokenizer does to a text besides cutting it: a trigger can hide there, behind clean weights."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rora_cli.checkpoints import strict_json
from rora_cli.checkpoints.header import quoted
from rora_cli.checkpoints.rules import finding
from rora_cli.checkpoints.special_words import is_language_code
from rora_cli.results.findings import Finding

_TOKENIZER_CLASS = re.compile(r"^[A-Z][A-Za-z0-9_]{0,60}(Tokenizer|TokenizerFast|Backend)$")
_TEMPLATE_ESCAPE = re.compile(
    r"__\w+__|\|\s*attr\b|\bcycler\b|\bjoiner\b|\blipsum\b|_TemplateReference__|\{%[-+]?\s*(?:import|from|include|extends)\b"
)
#: One step through a regular expression: an escape, the start of a group, a repetition, or a character.
_REGEX_STEP = re.compile(
    r"\\[pPxou]\{[^}]*\}|\\.|\((?:\?(?:[=!>]|<[=!]|P?<\w+>|[a-zA-Z-]*:|[a-zA-Z-]+(?=\))))?|\{\d*(?:,\d*)?\}|[^\\]",
    re.DOTALL,
)
_MAX_REGEX_LENGTH, _MAX_REGEXES, _MAX_OPEN_REPETITIONS = 5000, 64, 3
_USUAL_SPECIAL = re.compile(
    r"^(\[(CLS|SEP|PAD|UNK|MASK|BOS|EOS|gMASK)\]|</?s>|<pad>|<unk>|<mask>|<(bos|eos|sep|cls|sop)>|<\|[\w.:-]{1,40}\|>"
    r"|<｜[\w▁]{1,40}｜>)$"
)
#: A regular expression that matches only white space: its classes and escapes, grouped, repeated or anchored.
_WHITE_SPACE = re.compile(
    r"(?:\\[sntrfvhR]|\\p\{Z[slp]?\}|\\u\{?00[aA]0\}?|\[(?!\^)|\((?:\?:)?|[\])|+*?^$\s▁]|\{\d*,?\d*\})+"
)
_MAX_WORD = 4096
_PIPELINE = ("normalizer", "pre_tokenizer", "post_processor", "decoder")
#: Parts of tokenizer.json that decide the ids of a text: pipeline, vocabulary, and words that are cut out whole.
_COMPARED = ("normalizer", "pre_tokenizer", "post_processor", "model", "added_tokens")


def tokenizer_config(document: Any, file: str = "tokenizer_config.json") -> Iterator[Finding]:
    """Findings for tokenizer_config.json: a class that cannot be transformers' own, paths, and odd limits."""
    if not isinstance(document, dict):
        yield finding("json/malformed", f"{file} is not a JSON object", file)
        return
    name = document.get("tokenizer_class")
    if name is not None and not (isinstance(name, str) and _TOKENIZER_CLASS.match(name)):
        yield finding("tokenizer/class", f"{file} names the tokenizer class {quoted(str(name), 60)}", file)
    limit = document.get("model_max_length")
    if limit is not None and (type(limit) not in (int, float) or limit < 1):
        yield finding("tokenizer/invalid", f"{file} has the model_max_length {quoted(str(limit), 40)}", file)
    for key, value in document.items():
        if key.endswith("_file") and isinstance(value, str) and ("/" in value or "\\" in value):
            yield finding("tokenizer/path", f"{file} names a file elsewhere ({quoted(key, 60)})", file)
    templates = document.get("chat_template")
    if templates is not None:
        yield from chat_template(str(templates), file)


def long_words(document: Any, file: str) -> Iterator[Finding]:
    """Findings for very long words that are cut out whole: they would exhaust the matcher's memory and time."""
    for path, value in strict_json.walk(document):
        if path and path[0] == "chat_template":
            continue
        if isinstance(value, dict):
            words = [*value, *(inner for key, inner in value.items() if key != "chat_template")]
        else:
            words = value if isinstance(value, list) else []
        if any(isinstance(word, str) and len(word) > _MAX_WORD for word in words):
            yield finding("tokenizer/invalid", f"{file} has a word of more than {_MAX_WORD:,} characters", file)
            return


def chat_template(text: str, file: str) -> Iterator[Finding]:
    """Findings for a chat template, and for its use of Python internals. It is searched, never rendered."""
    yield finding("tokenizer/chat-template", f"{file} carries a chat template of {len(text):,} characters", file)
    if _TEMPLATE_ESCAPE.search(text):
        yield finding("tokenizer/template-escape", f"the chat template in {file} reaches for Python internals", file)


def tokenizer(document: Any, file: str = "tokenizer.json") -> Iterator[Finding]:
    """Findings for what tokenizer.json does to a text besides cutting it: replacing, adding, or taking for ever."""
    if not isinstance(document, dict) or not isinstance(document.get("model"), dict):
        yield finding("json/malformed", f"{file} has no tokenizer model", file)
        return
    yield from long_words(document.get("added_tokens"), file)
    yield from _aliases(document, file)
    patterns = 0
    for path, value in strict_json.walk({key: document.get(key) for key in _PIPELINE}):
        if path and path[-1] == "Regex" and isinstance(value, str):
            patterns += 1
            if patterns > _MAX_REGEXES:
                yield finding("tokenizer/regex", f"{file} has more than {_MAX_REGEXES} regular expressions", file)
                return
            if may_hang(value):
                message = f"{file} has a regular expression that can take for ever ({path[0]})"
                yield finding("tokenizer/regex", message, file)
        if isinstance(value, dict):
            yield from _step(path[0] if path else "", value, file)


def differences(document: Any, base: Any, file: str = "tokenizer.json") -> Iterator[Finding]:
    """Findings for parts of tokenizer.json that give other ids than the base's, whatever their serialised form."""
    if not isinstance(document, dict) or not isinstance(base, dict):
        return
    parts = [part for part in _COMPARED if _plain(document.get(part)) != _plain(base.get(part))]
    if parts:
        yield finding("tokenizer/differs", f"{file} differs from the base's in {', '.join(parts)}", file, parts=parts)


def _step(stage: str, value: Mapping[str, Any], file: str) -> Iterator[Finding]:
    """Findings for one step of the pipeline."""
    kind = value.get("type")
    if kind == "Replace" and stage == "normalizer" and not _harmless_replacement(value):
        shown = f"{quoted(str(value.get('pattern')), 60)} by {quoted(str(value.get('content')), 60)}"
        yield finding("tokenizer/rewrites-text", f"{file} replaces {shown} in every text", file)
    elif kind == "Prepend" and stage == "normalizer" and value.get("prepend") not in ("▁", " "):
        yield finding("tokenizer/rewrites-text", f"{file} puts {quoted(str(value.get('prepend')), 60)} first", file)
    elif kind == "Split" and value.get("behavior") == "Removed" and _pattern(value).strip(" ▁\\s+\n\t\r"):
        yield finding("tokenizer/rewrites-text", f"{file} removes {quoted(_pattern(value), 60)} from every text", file)
    elif kind == "Precompiled":
        yield finding("tokenizer/opaque-map", f"{file} has a compiled character map", file)
    elif kind == "TemplateProcessing":
        yield from _template(value, file)


def _aliases(document: Mapping[str, Any], file: str) -> Iterator[Finding]:
    """Findings for two words with one id: both in the vocabulary, or an added word on another word's id."""
    vocabulary = document["model"].get("vocab")
    if not isinstance(vocabulary, dict):
        return  # Unigram lists its pieces: an id is a place in the list
    owner: dict[Any, str] = {}
    pairs = list(vocabulary.items())
    added = document.get("added_tokens")
    for entry in added if isinstance(added, list) else ():
        if isinstance(entry, dict):
            pairs.append((str(entry.get("content")), entry.get("id")))
    for word, number in pairs:
        if type(number) is int and owner.setdefault(number, word) != word:
            shown = f"{quoted(owner[number], 60)} and {quoted(word, 60)}"
            yield finding("tokenizer/alias", f"{file} gives {shown} one id", file, id=number)
            return


def _template(processor: Mapping[str, Any], file: str) -> Iterator[Finding]:
    """Findings for a template that puts more around a text than usual special tokens and a language, or copies it."""
    single, special = _dicts(processor.get("single")), processor.get("special_tokens")
    pieces = [*single, *_dicts(processor.get("pair"))]
    tokens = [str(p["SpecialToken"].get("id")) for p in pieces if isinstance(p.get("SpecialToken"), dict)]
    for entry in special.values() if isinstance(special, dict) else ():
        named = entry.get("tokens") if isinstance(entry, dict) else None
        tokens += [str(t) for t in named] if isinstance(named, list) else []
    odd = sorted({t for t in tokens if not _USUAL_SPECIAL.match(t) and not is_language_code(t)})
    texts = sum("Sequence" in p for p in single)
    if odd or texts != 1:
        shown = ", ".join(quoted(t, 40) for t in odd[:5]) or f"{texts} copies of the text"
        yield finding("tokenizer/adds-tokens", f"{file} puts {shown} into every text", file, tokens=odd[:20])


def _dicts(value: Any) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _pattern(value: Mapping[str, Any]) -> str:
    pattern = value.get("pattern")
    if isinstance(pattern, dict):
        pattern = pattern.get("String") or pattern.get("Regex")
    return str(pattern or "")


def _harmless_replacement(value: Mapping[str, Any]) -> bool:
    """Whether published tokenizers make this replacement: of white space, its sentencepiece mark, or quotes."""
    text, content = _pattern(value), value.get("content")
    if not text or not isinstance(content, str):
        return False
    if text in ("``", "''"):
        return content == '"'
    if content not in (" ", "▁", ""):
        return False
    return not text.strip(" ▁\n\t\r\u00a0") or ("Regex" in value["pattern"] and bool(_WHITE_SPACE.fullmatch(text)))


def may_hang(pattern: str, open_repetitions: int = _MAX_OPEN_REPETITIONS) -> bool:
    """Whether a backtracking engine could take exponential time, or a high power of the text's length.

    It can if the pattern has a repeated group that can match in several ways, a back-reference, or more than
    ``open_repetitions`` open repetitions in a row. Published tokenizers have at most two; short texts such as module
    names allow more. This is stricter than necessary, because the engine (Oniguruma) gives up after ten million steps
    at one place of a text; but then tokenizers panics.
    """
    if len(pattern) > _MAX_REGEX_LENGTH:
        return True
    at, classes = 0, 0
    groups = [_Group()]
    while at < len(pattern):
        step = _REGEX_STEP.match(pattern, at)
        if step is None:
            return True
        piece, at = step[0], step.end()
        if piece == "[" and not (classes and pattern.startswith("[:", at - 1)):
            classes += 1
            at += len(re.match(r"\^?\]?", pattern[at : at + 2])[0])  # type: ignore[index]
        elif classes:
            classes -= piece == "]"
        elif piece.startswith("("):
            groups.append(_Group())
        elif piece == ")":
            inner, repetition = groups.pop(), _REGEX_STEP.match(pattern, at)
            if not groups or (inner.varies and repetition and _is_repetition(repetition[0])):
                return True
            groups[-1].add(inner)
        else:
            groups[-1].read(piece)
        if re.fullmatch(r"\\[1-9k]", piece) or groups[-1].open_repetitions > open_repetitions:
            return True
    return False


@dataclass
class _Group:
    """A group of a regular expression, as far as it was read.

    ``open_repetitions`` counts those in a row; ``varies`` says whether the group can match in several ways.
    """

    open_repetitions: int = 0
    varies: bool = False

    def read(self, piece: str) -> None:
        if piece == "|":
            self.varies, self.open_repetitions = True, 0
        elif piece == "?" or _is_repetition(piece):
            self.varies = self.varies or not re.fullmatch(r"\{\d+\}", piece)
            self.open_repetitions += piece in ("*", "+") or piece.endswith(",}")

    def add(self, inner: _Group) -> None:
        self.varies = self.varies or inner.varies
        self.open_repetitions += inner.open_repetitions


def _is_repetition(piece: str) -> bool:
    return piece in ("*", "+") or bool(re.fullmatch(r"\{\d*(?:,\d*)?\}", piece))


def _plain(value: Any) -> Any:
    """A part in a normal form, so that equal parts compare equal: merges as pairs, however they are written."""
    if isinstance(value, dict) and isinstance(value.get("merges"), list):
        merges = [m.split(" ", 1) if isinstance(m, str) else m for m in value["merges"]]
        return {**value, "merges": merges}
    return value
