"""Every file of a checkpoint has a kind, by its name: read, harmless, program code, a pickle, or something else."""

from __future__ import annotations

import os
import re
from pathlib import PurePosixPath
from typing import Literal

from rora_cli.checkpoints.header import quoted
from rora_cli.checkpoints.pickles import PickleReader
from rora_cli.checkpoints.rules import finding
from rora_cli.checkpoints.walk import FileEntry
from rora_cli.results.findings import Finding

Kind = Literal["read", "harmless", "code", "pickle", "other"]

#: Read by the inspection itself, and checked there: tensors, JSON, templates, and the tokenizers' own data.
_READ_ENDINGS = (".safetensors", ".json", ".jinja")
_TOKENIZER_DATA = frozenset({
    "vocab.txt", "merges.txt", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "spm.model", "bpe.codes",
    "tokenizer.model.v3", "dict.txt", "emoji.txt", "source.spm", "target.spm",
})  # fmt: skip
#: What people put beside weights to be read by people: never loaded.
_HARMLESS = re.compile(
    r"(?:readme|licen[cs]e|notice|copying|citation|changelog|authors|model[_-]?card|use_policy|usage_policy|third_party)"
    r"(?:[-_. ].*)?|\.git(?:attributes|ignore|keep|modules)|cachedir\.tag|\.ds_store|events\.out\.tfevents\..*"
    r"|.*\.(?:md|rst|txt|png|jpe?g|gif|svg|webp|bmp|ico|pdf|log|ya?ml|toml|cfg|ini|csv|tsv|jsonl|lock|metadata|bib|tex"
    r"|html?|css|wav|mp3|flac|ogg|mp4|webm|mov)",
    re.IGNORECASE,
)
#: Formats of weights that rora does not read.
_WEIGHT_ENDINGS = (
    ".gguf", ".ggml", ".onnx", ".onnx_data", ".pb", ".tflite", ".mlmodel", ".mlpackage", ".nemo", ".keras", ".h5",
    ".hdf5", ".msgpack", ".pt2", ".ptl", ".mar", ".ot", ".engine", ".plan", ".xml", ".zip", ".7z", ".tar", ".gz",
)  # fmt: skip
#: Files that may hold a pickle in a form in which it is not looked for: what the reader finds is not all there is.
_ONLY_IN_PART = (".pt2", ".ptl", ".mar", ".keras", ".h5", ".msgpack", ".zip")


def kind(name: str) -> Kind:
    """The kind of the file of this relative name."""
    entry, base = FileEntry(name, None, 0, (0, 0, 0, 0)), PurePosixPath(name).name  # type: ignore[arg-type]
    if base.lower() in _TOKENIZER_DATA or name.lower().endswith(_READ_ENDINGS):
        return "read"
    if entry.is_code:
        return "code"
    if entry.is_pickle or name.lower().endswith(".zip"):
        return "pickle"
    return "harmless" if _HARMLESS.fullmatch(base) else "other"


def is_weights(name: str) -> bool:
    return name.lower().endswith(_WEIGHT_ENDINGS)


def is_text(entry: FileEntry) -> bool:
    """Whether a file of an unknown ending begins like text, which no loader of models reads."""
    if is_weights(entry.name):
        return False
    with os.fdopen(os.open(entry.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb", buffering=0) as file:
        start = file.read(1024) or b""
    if b"\0" in start:
        return False
    try:
        start.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start > len(start) - 4 and len(start) == 1024
    return True


def pickle_findings(entry: FileEntry, reader: PickleReader) -> list[Finding]:
    """What a file that is or may hold a pickle would do when it is loaded, and whether all of it could be read."""
    shown, name = quoted(entry.name), entry.name
    contents = reader.read(entry)
    findings = [finding("file/pickle", f"{shown} is a pickle or may hold one", name)]
    for rule, members, verb in (
        ("file/pickle-dangerous", contents.dangerous, "would run"),
        ("file/pickle-unknown", contents.unknown, "would import"),
    ):
        if members:
            listed = ", ".join(quoted(m, 60) for m in members[:5])
            more = f" and {len(members) - 5} more" if len(members) > 5 else ""
            message = f"{shown} {verb} {listed}{more} when it is loaded"
            findings.append(finding(rule, message, name, globals=list(members[:50])))
    problem = contents.problem
    if problem is None and name.lower().endswith(_ONLY_IN_PART):
        problem = "is read for pickles only, not for what else such files may hold"
    if problem is not None:
        findings.append(finding("file/not-analysed", f"{shown} {problem}", name))
    return findings
