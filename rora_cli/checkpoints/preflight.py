"""Preflight: everything that rora can learn about a checkpoint without loading it, before a model library sees a file.

Without torch and transformers, it lists the files, parses the JSON strictly and reads the safetensors headers. The
result is a list of findings; commands that load the checkpoint stop at the first blocking one.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from rora_cli import stand_ins, system
from rora_cli.checkpoints import (
    adapter_rules,
    conversion,
    factor_rules,
    header_config,
    json_rules,
    kinds,
    layouts,
    other_files,
    special_words,
    strict_json,
    tokenizer_rules,
)
from rora_cli.checkpoints.chat_template import stored_template
from rora_cli.checkpoints.header import (
    DTYPE_BITS,
    MAX_HEADER_BYTES,
    MAX_TENSORS,
    Header,
    HeaderError,
    TensorInfo,
    quoted,
    read_header,
)
from rora_cli.checkpoints.layouts import ADAPTER_CONFIG, ADAPTER_FILE, MODEL_FILE, MODEL_INDEX
from rora_cli.checkpoints.pickles import PickleReader
from rora_cli.checkpoints.rules import REMOVE, RULES, finding
from rora_cli.checkpoints.walk import (
    FileEntry,
    disguised,
    is_allowed_target,
    look_at_file,
    open_unchanged,
    read_unchanged,
    walk,
)
from rora_cli.errors import CheckpointError
from rora_cli.files import sha256_file
from rora_cli.layout import is_head
from rora_cli.results.findings import Finding

Role = Literal["model", "adapter", "file"]

TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.txt",
    "vocab.json", "merges.txt", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "spm.model",
)  # fmt: skip
#: Where a chat template may stand, beside tokenizer_config.json.
TEMPLATE_FILES = ("chat_template.jinja", "chat_template.json")

#: JSON file that a loader reads -> largest number of values in it. Other JSON is only searched for remote code.
_LOADED_JSON = {
    "config.json": 200_000, MODEL_INDEX: 4 * MAX_TENSORS, ADAPTER_CONFIG: 400_000, "generation_config.json": 100_000,
    "tokenizer.json": 6_000_000, "tokenizer_config.json": 1_000_000, "special_tokens_map.json": 100_000,
    "added_tokens.json": 1_000_000, "vocab.json": 2_000_000, "preprocessor_config.json": 100_000,
    "processor_config.json": 100_000, "chat_template.json": 10_000,
}  # fmt: skip
_OTHER_JSON_VALUES = 500_000
_MAX_JSON_BYTES = 64 << 20
_MAX_SIDE_JSON_BYTES = 128 << 20  # in all JSON files together that no loader reads
_MAX_FINDINGS_OF_A_RULE = 100
_MAX_TOTAL_HEADER_BYTES = 8 * MAX_HEADER_BYTES
_COMPUTED = frozenset(DTYPE_BITS) - {"C64", "F4", "F6_E2M3", "F6_E3M2", "F8_E8M0"}


@dataclass(frozen=True)
class Inspection:
    """What preflight knows about a checkpoint.

    ``files`` maps the names of all files, relative to the directory ``path``, to their entries. ``documents`` holds the
    JSON that could be parsed, ``tensors`` the tensors of the ``weight_files`` that loaders read, and ``metadata`` the
    ``__metadata__`` of these files. ``roles`` maps the tensors of an adapter to their roles
    (``adapter_rules.tensor_role``). The ``role`` is ``file`` if the user named a single file that holds no weights.
    """

    path: Path
    role: Role
    files: Mapping[str, FileEntry]
    documents: Mapping[str, Any]
    tensors: Mapping[str, TensorInfo]
    weight_files: tuple[str, ...]
    metadata: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    roles: Mapping[str, str] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()

    @property
    def config(self) -> Mapping[str, Any] | None:
        """The model's config.json; None if it is missing or no object."""
        value = self.documents.get("config.json")
        return value if isinstance(value, dict) else None

    @property
    def adapter_config(self) -> Mapping[str, Any] | None:
        """The adapter's adapter_config.json; None if it is missing or no object."""
        value = self.documents.get(ADAPTER_CONFIG)
        return value if isinstance(value, dict) else None

    @property
    def unreadable(self) -> tuple[Finding, ...]:
        """The findings about what could not be analysed, but those that the user accepted."""
        return tuple(f for f in self.findings if RULES[f.rule_id].unreadable and not f.accepted)

    @property
    def bytes_of_tensors(self) -> int:
        """The size of all tensors."""
        return sum(t.end - t.start for t in self.tensors.values())

    def hashes(self, *, of_all: bool = False) -> dict[str, str]:
        """sha256 of every file that loading reads: weights, configs and tokenizer; or ``of_all``. Reads them whole."""
        wanted = set(self.weight_files) | set(TOKENIZER_FILES) | set(_LOADED_JSON)
        return {name: _sha256(entry) for name, entry in sorted(self.files.items()) if of_all or name in wanted}


def _limited(findings: Iterable[Finding]) -> Iterator[Finding]:
    """The first findings of each rule, and how many more there are: a report with 200,000 findings helps nobody."""
    counts: Counter[str] = Counter()
    for found in findings:
        counts[found.rule_id] += 1
        if counts[found.rule_id] <= _MAX_FINDINGS_OF_A_RULE:
            yield found
    for rule_id, count in counts.items():
        if count > _MAX_FINDINGS_OF_A_RULE:
            yield finding(rule_id, f"{count - _MAX_FINDINGS_OF_A_RULE:,} more like these")


def _sha256(entry: FileEntry) -> str:
    """The sha256 of the very file that was inspected, not of another one in its place."""
    digest = sha256_file(entry.path)
    os.close(open_unchanged(entry))
    return digest


def inspect(
    path: str | Path, *, role: Literal["model", "adapter", "auto"] = "auto", any_file: bool = False
) -> Inspection:
    """Inspect a model directory, an adapter directory, or one file of either.

    A model's folder in the hub's cache stands for its snapshot. A single ``.safetensors`` file counts as an adapter's
    or a model's by its tensors, and is read with the config beside it. An index is read with its shards, and any other
    file of a checkpoint alone. ``any_file`` accepts files of every kind.

    Raises:
        CheckpointError: ``path`` does not exist, is empty, or is no checkpoint; or it only holds folders of
            checkpoints.
    """
    given = Path(path)
    try:
        real = given.resolve(strict=True)
    except (OSError, RuntimeError, ValueError):
        raise CheckpointError(
            f"there is nothing at {quoted(str(path), 300)}; name a model or adapter directory"
        ) from None
    if real.is_dir():
        real = layouts.snapshot(real)
        files, findings = walk(real)
        if not files and not findings:
            raise CheckpointError(f"{given} is an empty directory; name one with a config.json and safetensors weights")
        _require_own_checkpoint(given, files)
        return _Inspector(real, files, findings).run(_decide_role(files) if role == "auto" else role)
    if not real.is_file() or not (given.suffix == ".safetensors" or (role == "auto" and _is_readable(given, any_file))):
        raise CheckpointError(f"{given} is neither a directory nor a .safetensors file; name one of these")
    if role == "model":
        raise CheckpointError(f"{given} is a single file; name the model's directory, with its config.json")
    return _inspect_file(given, role)


def inspect_files(
    root: Path,
    files: dict[str, FileEntry],
    findings: list[Finding],
    *,
    named: str,
    role: Role | None,
    headers: Mapping[str, Header | HeaderError],
    pickles: PickleReader,
) -> Inspection:
    """Inspect files that lie elsewhere, of which ``root`` holds what is read of them but for weights and pickles.

    ``headers`` are those of all safetensors files, ``pickles`` opens the pickles. Raises CheckpointError as ``inspect``
    does, with ``named`` in the sentence.
    """
    _require_own_checkpoint(Path(named), files)
    return _Inspector(root, files, findings, headers=headers, pickles=pickles).run(role or _decide_role(files))


def _is_readable(path: Path, any_file: bool) -> bool:
    return any_file or path.name in _LOADED_JSON or path.name.endswith(".safetensors.index.json")


def _require_own_checkpoint(given: Path, files: Mapping[str, FileEntry]) -> None:
    """Refuse a folder that only holds folders of checkpoints: the user has to say which of them he means."""
    root = [name for name in files if "/" not in name]
    below = layouts.nested_folders(files)
    if below and not layouts.is_checkpoint(root) and not any(".safetensors" in n for n in root):
        raise CheckpointError(
            f"{given} is no checkpoint itself, but holds {len(below)} below it; name one of them, for example "
            f"{given / below[0]}"
        )


def _inspect_file(given: Path, role: str) -> Inspection:
    """Inspect one file, with the config or the shards beside it that tell how to read it."""
    beside = [ADAPTER_CONFIG, "config.json"] if given.suffix == ".safetensors" else []
    findings: list[Finding] = []
    files = {given.name: look_at_file(given)}
    headers: dict[str, Header] = {}
    if role == "auto" and given.suffix == ".safetensors":
        with suppress(HeaderError, OSError):  # the inspector meets the same error, and makes a finding of it
            headers[given.name] = read_header(files[given.name].path, given.name)
        tensors = headers[given.name].tensors if headers else {}
        role = _role_of_file(given.name, tensors, given.with_name(ADAPTER_CONFIG).is_file())
        beside = ["config.json"] if role == "model" else [ADAPTER_CONFIG]
    elif role == "auto":
        role = "model" if given.name.endswith(".safetensors.index.json") else "file"
    if given.name.endswith(".safetensors.index.json"):
        stem = given.name.removesuffix(".safetensors.index.json")
        found = (layouts.shard_of(p.name) for p in given.parent.iterdir())
        beside = [f"{stem}-{n:05}-of-{of:05}.safetensors" for s, n, of in filter(None, found) if s == stem]
    for name in sorted(beside):
        other = given.with_name(name)
        if other.is_file() and is_allowed_target(given.parent.resolve(), other.resolve()):
            files[name] = look_at_file(other)
        elif other.is_file():
            findings.append(finding("file/outside", f"{quoted(name)} is a link that leads out", name))
    inspector = _Inspector(given.parent.resolve(), files, findings, single=given.name, headers=headers)
    return inspector.run(role)  # type: ignore[arg-type]


def _role_of_file(file: str, tensors: Iterable[str], config_beside: bool) -> Role:
    """Whether one safetensors file is an adapter's or a model's: its tensors decide, else its name."""
    if file.startswith("adapter_model"):
        return "adapter"
    if any(adapter_rules.tensor_role(name, None) == "adapter" for name in tensors):
        return "adapter"
    return "adapter" if config_beside and not file.startswith("model") else "model"


def require_loadable(inspection: Inspection) -> None:
    """Stop at the first blocking finding.

    Raises:
        CheckpointError: with that finding's sentence and advice.
    """
    for found in inspection.findings:
        if found.blocking:
            advice = f"; {found.advice}" if found.advice else ""
            raise CheckpointError(f"{inspection.path}: {found.message}{advice} [{found.rule_id}]")


def _decide_role(files: Mapping[str, FileEntry]) -> Role:
    """An adapter, unless there are a model's weights: trainers leave the base's config.json beside an adapter."""
    adapter = ADAPTER_CONFIG in files or ADAPTER_FILE in files
    model = any(
        name in files for name in (MODEL_FILE, MODEL_INDEX, "pytorch_model.bin", "pytorch_model.bin.index.json")
    )
    return "adapter" if adapter and not model else "model"


class _Inspector:
    """Collects the findings about one checkpoint, in the order in which a loader would read its files."""

    def __init__(
        self,
        root: Path,
        files: dict[str, FileEntry],
        findings: list[Finding],
        single: str | None = None,
        headers: Mapping[str, Header | HeaderError] | None = None,
        pickles: PickleReader | None = None,
    ) -> None:
        self.root, self.files, self.findings, self.single = root, files, findings, single
        self.documents: dict[str, Any] = {}
        self.metadata: dict[str, Mapping[str, str]] = {}
        self.header_bytes = 0
        self.headers = headers or {}  # those read already, by the name of the file, or why they cannot be read
        self.pickles = pickles or PickleReader()
        self.stand_ins: set[str] = set()
        self.nested = layouts.nested_folders(files) if single is None else []

    def run(self, role: Role) -> Inspection:
        self._check_file_kinds()
        self._read_documents()
        readers = {"model": self._model_weights, "adapter": self._adapter_weights, "file": lambda: ({}, ())}
        tensors, weight_files = readers[role]()
        self._check_unreferenced(weight_files)
        self._check_tensors(tensors)
        if role != "adapter":
            self._check_model()
        if role == "file" and isinstance(self.documents.get(ADAPTER_CONFIG), dict):
            self.findings += adapter_rules.check_config(self.documents[ADAPTER_CONFIG])
        if role == "model" and self.single is None:
            self._check_kind(tensors)
        roles = self._check_adapter(tensors) if role == "adapter" else {}
        self._check_tokenizer()
        return Inspection(
            self.root, role, self.files, self.documents, tensors, weight_files, self.metadata, roles,
            tuple(_limited(self.findings)),
        )  # fmt: skip

    def _add(
        self, rule_id: str, message: str, location: str | None = None, advice: str | None = None, **evidence: Any
    ) -> None:
        self.findings.append(finding(rule_id, message, location, advice=advice, **evidence))

    def _check_file_kinds(self) -> None:
        for name, entry in self.files.items():
            shown = quoted(name)
            try:
                self._check_file_kind(name, entry)
            except OSError as error:
                self._add("file/unreadable", f"{shown} cannot be read ({error.strerror})", name)
        if any(name.startswith("custom_generate/") for name in self.files):
            self._add("file/custom-generate", "the folder custom_generate holds a generation loop of its own")

    def _check_file_kind(self, name: str, entry: FileEntry) -> None:
        shown = quoted(name)
        kind = other_files.kind(name)
        stand_in = None if kind == "harmless" else stand_ins.look(entry.path)
        if stand_in is not None and not stand_in.is_blank:
            self.stand_ins.add(name)
            self._add("file/stand-in", f"{shown} {stand_in.what}", name, advice=stand_in.advice)
            return
        if kind == "pickle":
            self.findings += other_files.pickle_findings(entry, self.pickles)
        elif kind == "code":
            self._add("file/code", f"{shown} is program code", name)
        elif kind == "other" and entry.size and not other_files.is_text(entry):
            self._add("file/not-analysed", f"{shown} is in a format that rora does not read", name)
        if disguised(entry):
            self._add("file/disguised-pickle", f"{shown} is a pickle, an archive or a program", name)

    def _read_documents(self) -> None:
        left = _MAX_SIDE_JSON_BYTES
        for name, entry in self.files.items():
            if not name.endswith(".json") or name in self.stand_ins:
                continue
            limit = _LOADED_JSON.get(name)
            left -= 0 if limit else entry.size
            try:
                if not limit and left < 0:
                    raise strict_json.JsonError("is not read: such files are larger here than rora reads")
                document = self._read_json(entry, limit or _OTHER_JSON_VALUES)
            except strict_json.JsonError as error:
                self._add("json/malformed" if limit else "json/side-file", f"{quoted(name)} {error}", name)
                continue
            except OSError as error:
                self._add("file/unreadable", f"{quoted(name)} cannot be read ({error.strerror})", name)
                continue
            if limit:
                self.documents[name] = document
            if name == "modules.json":
                self.findings += json_rules.modules(document)
            if name not in (MODEL_INDEX, "vocab.json", "tokenizer.json"):
                self.findings += json_rules.remote_code(quoted(name), document)

    def _read_json(self, entry: FileEntry, max_values: int) -> Any:
        if entry.size > _MAX_JSON_BYTES:
            raise strict_json.JsonError(f"has {entry.size:,} bytes, more than the {_MAX_JSON_BYTES:,} that rora reads")
        # Non-blocking: a pipe may have taken the file's place since the walk.
        with os.fdopen(os.open(entry.path, system.READ), "rb") as file:
            return strict_json.loads(file.read(_MAX_JSON_BYTES + 1), max_values=max_values)

    def _header(self, name: str) -> Mapping[str, TensorInfo]:
        if name in self.stand_ins:
            return {}
        try:
            if self.header_bytes > _MAX_TOTAL_HEADER_BYTES:
                raise HeaderError("is one shard too many: the headers together are larger than rora reads")
            header = self.headers[name] if name in self.headers else read_header(self.files[name].path, name)
            if isinstance(header, HeaderError):
                raise header
        except HeaderError as error:
            self._add("weights/malformed", f"{quoted(name)} {error}", name)
            return {}
        except OSError as error:
            self._add("file/unreadable", f"{quoted(name)} cannot be read ({error.strerror})", name)
            return {}
        self.header_bytes += header.header_bytes
        self.metadata[name] = header.metadata
        return header.tensors

    def _model_weights(self) -> tuple[Mapping[str, TensorInfo], tuple[str, ...]]:
        if self.single is not None and self.single.endswith(".safetensors"):
            self._say_shard(self.single)
            return self._header(self.single), (self.single,)
        if self.single is not None:
            return self._sharded(self.single)
        if MODEL_FILE in self.files:
            if MODEL_INDEX in self.files:
                self._add("weights/ambiguous", f"there are both {MODEL_FILE} and {MODEL_INDEX}", MODEL_INDEX)
            return self._header(MODEL_FILE), (MODEL_FILE,)
        if MODEL_INDEX in self.files:
            return self._sharded(MODEL_INDEX)
        if ADAPTER_FILE in self.files or ADAPTER_CONFIG in self.files:
            self._add("adapter/is-adapter", "this is an adapter, not a model")
        else:
            self._missing_weights(MODEL_FILE)
        return {}, ()

    def _adapter_weights(self) -> tuple[Mapping[str, TensorInfo], tuple[str, ...]]:
        name = self.single or ADAPTER_FILE
        if name not in self.files:
            self._missing_weights(ADAPTER_FILE)
            return {}, ()
        return self._header(name), (name,)

    def _missing_weights(self, wanted: str) -> None:
        role = "adapter" if wanted == ADAPTER_FILE else "model"
        pickles = [n for n in conversion.weight_pickles(list(self.files), role) if other_files.kind(n) == "pickle"]
        others = [n for n in self.files if "/" not in n and other_files.is_weights(n)]
        if pickles:
            advice = conversion.advice(pickles, role)
            self._add(
                "weights/pickle-only", f"the weights are only in {quoted(pickles[0])}, a pickle", pickles[0], advice
            )
        elif others:
            message = f"there is no {wanted}; the weights are in {quoted(others[0])}, which rora does not read"
            self._add("weights/missing", message, others[0], "get a copy with safetensors weights")
        else:
            self._add("weights/missing", f"there is no {wanted}")

    def _say_shard(self, name: str) -> None:
        shard = layouts.shard_of(name)
        if shard is not None and shard[2] > 1:
            message = f"{quoted(name)} is one of {shard[2]} shards; name the directory or the index to read them all"
            self._add("weights/one-shard", message, name)

    def _sharded(self, index: str) -> tuple[Mapping[str, TensorInfo], tuple[str, ...]]:
        document = self.documents.get(index)
        weight_map = document.get("weight_map") if isinstance(document, dict) else None
        if not isinstance(weight_map, dict) or not weight_map or len(weight_map) > MAX_TENSORS:
            if index in self.documents:
                self._add("weights/index", f"{quoted(index)} has no usable weight_map", index)
            return {}, ()
        shards = sorted({str(shard) for shard in weight_map.values()})
        if not all(self._shard_is_usable(shard, index) for shard in shards):
            return {}, tuple(shard for shard in shards if shard in self.files)
        tensors: dict[str, TensorInfo] = {}
        for shard in shards:
            for name, info in self._header(shard).items():
                if name in tensors:
                    message = f"{quoted(name)} is in both {tensors[name].file} and {quoted(shard)}"
                    self._add("weights/duplicate-tensor", message, name)
                elif name not in weight_map:
                    message = f"{quoted(shard)} holds {quoted(name)}, which the index does not name"
                    self._add("weights/unmapped-tensor", message, name)
                else:
                    tensors[name] = info
        wrong = [n for n, shard in weight_map.items() if n not in tensors or tensors[n].file != shard]
        if wrong and not any(RULES[f.rule_id].unreadable for f in self.findings):
            shown = quoted(wrong[0])
            self._add("weights/index", f"{quoted(index)} names {shown}, which is not in its shard", index)
        return tensors, tuple(shards)

    def _shard_is_usable(self, shard: str, index: str) -> bool:
        shown, named = quoted(shard), quoted(index)
        if shard.endswith(conversion.TORCH_ENDINGS):
            self._add("weights/pickle-only", f"{named} points to the pickle {shown}", index, REMOVE)
        elif PurePosixPath(shard).name != shard or "\\" in shard or not shard.endswith(".safetensors"):
            self._add("weights/shard-path", f"{named} names the shard {shown}", index)
        elif shard not in self.files:
            self._add("weights/shard-missing", f"the shard {shown} is not there", index)
        else:
            return True
        return False

    def _check_unreferenced(self, weight_files: tuple[str, ...]) -> None:
        """Findings for safetensors files that no loader reads; those in a nested checkpoint's folder belong to it."""
        for folder in self.nested:
            self._add("file/other-checkpoint", f"{quoted(folder)} is a checkpoint of its own", folder)
        advice = (
            "nothing needs it beside the weights; leave it, or take it out of the directory" if weight_files else None
        )
        for name in sorted(self.files):
            if not name.endswith(".safetensors") or name in weight_files or layouts.nested_in(name, self.nested):
                continue
            self._add("weights/unreferenced", f"{quoted(name)} is not read by the loaders", name, advice)

    def _check_tensors(self, tensors: Mapping[str, TensorInfo]) -> None:
        for name, info in tensors.items():
            if not name or not name.isascii() or not name.isprintable() or " " in name:
                self._add("tensor/name", f"{info.file} holds a tensor named {quoted(name)}", name, file=info.file)
            if info.dtype not in _COMPUTED:
                self._add("tensor/dtype", f"{quoted(name)} has the type {info.dtype}", name, file=info.file)
            if not info.elements:
                self._add("tensor/empty", f"{quoted(name)} has no elements", name, file=info.file)

    def _check_model(self) -> None:
        if "config.json" not in self.files and self.single is not None:
            pass  # the user named one file, so nothing else has to be there
        elif "config.json" not in self.files:
            self._add("config/missing", "there is no config.json")
        elif "config.json" in self.documents:
            self.findings += json_rules.model_config(self.documents["config.json"])
        if ADAPTER_CONFIG in self.files and "config.json" in self.files:
            self._add("model/adapter-inside", f"{ADAPTER_CONFIG} lies in a model's directory", ADAPTER_CONFIG)
        if "generation_config.json" in self.documents:
            self.findings += json_rules.generation_config(self.documents["generation_config.json"])

    def _check_kind(self, tensors: Mapping[str, TensorInfo]) -> None:
        """A finding for a model that is no classifier that rora can judge, or that has unusual names."""
        config = self.documents.get("config.json")
        if not isinstance(config, dict) or not tensors:
            return
        if wrapped := kinds.wrapper_in_names(tensors):
            part, wrapper = wrapped
            self._add("weights/wrapped-names", f"the names of the weights hold {part!r}, which {wrapper} leaves there")
        elif reason := kinds.why_not_judged(config, tensors):
            self._add("model/not-judged", f"this model {reason}", "config.json")
        elif any(map(is_head, tensors)):
            return
        elif kinds.says_classifier(config) and (other := kinds.head_elsewhere(config, tensors)):
            message = f"there is no classification head where transformers looks; {quoted(other)} may be it"
            self._add("weights/head-name", message, other)
        elif not kinds.is_causal(config) and (kind := kinds.kind_of(config, self.files)):
            self._add("model/not-judged", f"this is {kind}, without a classification head", "config.json")

    def _check_adapter(self, tensors: Mapping[str, TensorInfo]) -> dict[str, str]:
        config = self.documents.get(ADAPTER_CONFIG)
        if isinstance(config, dict):
            self.findings += adapter_rules.check_config(config)
        elif ADAPTER_CONFIG in self.documents:
            self._add("adapter/invalid", f"{ADAPTER_CONFIG} is not a JSON object", ADAPTER_CONFIG)
            config = None
        elif ADAPTER_CONFIG not in self.files and not header_config.states_scale(tensors, self.metadata):
            message = f"there is no {ADAPTER_CONFIG}, and no alpha in the file: the scale of the update is unknown"
            self._add("adapter/config-missing", message)
        if tensors:
            empty = [name for name, info in tensors.items() if not info.elements]
            file = next(iter(tensors.values())).file
            self.findings += adapter_rules.check_tensors(tensors, config, file, empty=empty)
            self.findings += factor_rules.check(tensors, config, file)
        return {name: adapter_rules.tensor_role(name, config) for name in tensors}

    def _check_tokenizer(self) -> None:
        if "tokenizer_config.json" in self.documents:
            self.findings += tokenizer_rules.tokenizer_config(self.documents["tokenizer_config.json"])
        if "tokenizer.json" in self.documents:
            self.findings += tokenizer_rules.tokenizer(self.documents["tokenizer.json"])
        for name in ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"):
            self.findings += tokenizer_rules.long_words(self.documents.get(name), name)
        self.findings += special_words.findings(self.documents)
        for name in TEMPLATE_FILES:
            if name in self.files and self.files[name].size <= _MAX_JSON_BYTES:
                text = read_unchanged(self.files[name]).decode("utf-8", "replace")
                self.findings += tokenizer_rules.chat_template(text, name)


def compare_tokenizers(inspection: Inspection, base: Inspection) -> tuple[Finding, ...]:
    """Findings for a tokenizer or chat template that differs from the base's; none if the checkpoint has neither."""
    mine, theirs = inspection.documents, base.documents
    findings = list(tokenizer_rules.differences(mine.get("tokenizer.json"), theirs.get("tokenizer.json")))
    template, expected = stored_template(inspection), stored_template(base)
    if template is not None and template != expected:
        findings.append(finding("tokenizer/template-differs", "the chat template is not the base's"))
    return tuple(findings)


def dumps(document: Any) -> str:
    """A parsed document as JSON again, so that a library reads exactly what was inspected."""
    return json.dumps(document, ensure_ascii=True, allow_nan=False, indent=2)
