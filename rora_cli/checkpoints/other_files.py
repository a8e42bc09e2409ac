"""The kind of each file of a checkpoint, by its name: read by rora, harmless, program code, a pickle, or other."""

from __future__ import annotations

import os
import re
from pathlib import PurePosixPath
from typing import Literal

from rora_cli import system
from rora_cli.checkpoints.header import quoted
from rora_cli.checkpoints.pickles import PickleReader
from rora_cli.checkpoints.rules import finding
from rora_cli.checkpoints.walk import FileEntry
from rora_cli.results.findings import Finding

Kind = Literal["read", "harmless", "code", "pickle", "other"]

#: Endings of files that the inspection reads and checks: tensors, JSON and templates.
_READ_ENDINGS = (".safetensors", ".json", ".jinja")
_TOKENIZER_DATA = frozenset({
    "vocab.txt", "merges.txt", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "spm.model", "bpe.codes",
    "tokenizer.model.v3", "dict.txt", "emoji.txt", "source.spm", "target.spm",
})  # fmt: skip
#: Names of files for people, which no loader reads.
_HARMLESS = re.compile(
    r"(?:readme|licen[cs]e|notice|copying|citation|changelog|authors|model[_-]?card|use_policy|usage_policy|third_party)"
    r"(?:[-_. ].*)?|\.git(?:attributes|ignore|keep|modules)|cachedir\.tag|\.ds_store|events\.out\.tfevents\..*"
    r"|.*\.(?:md|rst|txt|png|jpe?g|gif|svg|webp|bmp|ico|pdf|log|ya?ml|toml|cfg|ini|csv|tsv|jsonl|lock|metadata|bib|tex"
    r"|html?|css|wav|mp3|flac|ogg|mp4|webm|mov)",
    re.IGNORECASE,
)
#: Endings of weights in formats that rora does not read.
_WEIGHT_ENDINGS = (
    ".gguf", ".ggml", ".onnx", ".onnx_data", ".pb", ".tflite", ".mlmodel", ".mlpackage", ".nemo", ".keras", ".h5",
    ".hdf5", ".msgpack", ".pt2", ".ptl", ".mar", ".ot", ".engine", ".plan", ".xml", ".zip", ".7z", ".tar", ".gz",
)  # fmt: skip
#: Endings of files that may hold pickles in forms that the reader does not look for: it finds only a part of them.
_ONLY_IN_PART = (".pt2", ".ptl", ".mar", ".keras", ".h5", ".msgpack", ".zip")


def kind(name: str) -> Kind:
    """The kind of the file with the relative name ``name``."""
    entry, base = FileEntry(name, None, 0, (0, 0, 0, 0)), PurePosixPath(name).name  # type: ignore[arg-type]
    if base.lower() in _TOKENIZER_DATA or name.lower().endswith(_READ_ENDINGS):
        return "read"
    if entry.is_code:
        return "code"
    if entry.is_pickle or name.lower().endswith(".zip"):
        return "pickle"
    return "harmless" if _HARMLESS.fullmatch(base) else "other"


def is_weights(name: str) -> bool:
    """Whether the name's ending is that of weights in a format that rora does not read."""
    return name.lower().endswith(_WEIGHT_ENDINGS)


def is_text(entry: FileEntry) -> bool:
    """Whether a file with an unknown ending begins like text; no loader of models reads such a file."""
    if is_weights(entry.name):
        return False
    with os.fdopen(os.open(entry.path, system.READ), "rb", buffering=0) as file:
        start = file.read(1024) or b""
    if b"\0" in start:
        return False
    try:
        start.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start > len(start) - 4 and len(start) == 1024
    return True


def pickle_findings(entry: FileEntry, reader: PickleReader) -> list[Finding]:
    """Findings for a file that may hold a pickle: what loading it would run, and whether all of it was read."""
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
