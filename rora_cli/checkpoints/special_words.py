"""Words that a tokenizer's files declare as special tokens.

transformers cuts special tokens out of a text whole, by their spelling. rora reads such spellings in a row as text
(``plain_text``), which is right for ``</s>`` and ``[SEP]``, because nobody writes them. But a special token that people
can write may be a trigger, so it must reach the model of a search as it reaches the model in use.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from rora_cli.checkpoints.header import quoted
from rora_cli.checkpoints.rules import finding
from rora_cli.results.findings import Finding

#: Control symbols, as the families spell them, and the fillers in fairseq's vocabularies.
_CONTROL = re.compile(r".*[<>\[\]{}|｜].*|__\w+__|madeupword\d+|\W*", re.DOTALL)
#: Language codes of multilingual models ("en_XX", "eng_Latn"); they are honest.
_LANGUAGE = re.compile(r"[a-z]{2,3}_[A-Z][A-Za-z]{1,3}")
_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
_ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_LISTS = ("additional_special_tokens", "extra_special_tokens")


def findings(documents: Mapping[str, Any]) -> Iterator[Finding]:
    """A finding for each tokenizer file that declares words, other than language codes, as special tokens."""
    for file in _FILES:
        words = sorted({word for word in _special(documents.get(file)) if is_word(word) and not is_language_code(word)})
        if words:
            shown = ", ".join(quoted(word, 40) for word in words[:6])
            more = f" and {len(words) - 6} more" if len(words) > 6 else ""
            yield finding(
                "tokenizer/word-as-special", f"{file} declares {shown}{more} as special tokens", file, words=words[:50]
            )


def as_ordinary(documents: Mapping[str, Any]) -> dict[str, Any]:
    """The documents, with those words declared as ordinary added tokens, which are still cut out of a text whole.

    A word with a role, such as the padding token, stays special.
    """
    roles = {_text(d.get(role)) for d in map(documents.get, _FILES) if isinstance(d, dict) for role in _ROLES}
    words = {word for file in _FILES for word in _special(documents.get(file)) if is_word(word)} - roles
    return {name: _without(document, words) if name in _FILES else document for name, document in documents.items()}


def is_word(token: str) -> bool:
    """Whether a special token is spelled like a word that people write, and not like a control symbol."""
    return not _CONTROL.fullmatch(token)


def is_language_code(token: str) -> bool:
    """Whether the token is a language code, as mBART and NLLB put around every text."""
    return bool(_LANGUAGE.fullmatch(token))


def _special(document: Any) -> Iterator[str]:
    """The special tokens that a document declares, in any of the possible ways."""
    if not isinstance(document, dict):
        return
    for entry in _added(document):
        if entry.get("special") is True:
            yield _text(entry)
    for field in (*_ROLES, *_LISTS):
        value = document.get(field)
        several = value if isinstance(value, list) else [value]
        if isinstance(value, dict) and "content" not in value:  # names of tokens, not one token written as a mapping
            several = list(value.values())
        yield from (_text(item) for item in several if item is not None)


def _added(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for field in ("added_tokens", "added_tokens_decoder"):
        value = document.get(field)
        several = value if isinstance(value, list) else value.values() if isinstance(value, dict) else ()
        yield from (entry for entry in several if isinstance(entry, dict))


def _text(token: Any) -> str:
    return str(token.get("content", "")) if isinstance(token, dict) else token if isinstance(token, str) else ""


def _without(document: Any, words: set[str]) -> Any:
    if not isinstance(document, dict) or not words:
        return document
    changed = dict(document)
    for field in ("added_tokens", "added_tokens_decoder"):
        value = changed.get(field)
        if isinstance(value, list):
            changed[field] = [_ordinary(entry, words) for entry in value]
        elif isinstance(value, dict):
            changed[field] = {number: _ordinary(entry, words) for number, entry in value.items()}
    for field in _LISTS:
        value = changed.get(field)
        if isinstance(value, list):
            changed[field] = [token for token in value if _text(token) not in words]
        elif isinstance(value, dict):
            changed[field] = {name: token for name, token in value.items() if _text(token) not in words}
    return changed


def _ordinary(entry: Any, words: set[str]) -> Any:
    return {**entry, "special": False} if isinstance(entry, dict) and _text(entry) in words else entry
