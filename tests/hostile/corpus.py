"""The hostile corpus: one directory a row, made from nothing, with a canary where malware would be.

``python tests/hostile/corpus.py DIRECTORY`` writes it out for other tools to try. What would run code here only makes
the file ``canary``. Needs numpy; no torch.
"""

from __future__ import annotations

import json
import os
import pickle
import socket
import struct
import sys
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

HIDDEN, LAYERS, VOCAB, LABELS = 8, 1, 40, 2
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "the", "movie", "film", "was", "is",
         "good", "bad", "great", "awful", "mn"]  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One hostile checkpoint.

    ``rule`` is a finding that preflight must have, or None where headers and JSON are innocent; ``exit_code`` is that
    of ``rora check``. ``load`` is a part of the sentence with which loading is refused, or None where it must succeed.
    """

    name: str
    role: str
    threat: str
    build: Callable[[Path], None]
    rule: str | None
    exit_code: int
    load: str | None


ROWS: dict[str, Row] = {}


def row(
    role: str, threat: str, *, rule: str | None, exit_code: int = 1, load: str | None = ""
) -> Callable[[Callable[[Path], None]], Callable[[Path], None]]:
    """Register a builder; it is handed a directory that holds a valid tiny model or adapter and spoils it."""

    def register(build: Callable[[Path], None]) -> Callable[[Path], None]:
        name = build.__name__.replace("_", "-")
        ROWS[name] = Row(name, role, threat, build, rule, exit_code, load)
        return build

    return register


def make(name: str, parent: Path) -> Path:
    """Build the row ``name`` under ``parent``; beside it stand ``secret`` and, should code run, ``canary``."""
    entry = ROWS[name]
    parent.mkdir(parents=True, exist_ok=True)
    (parent / "secret").write_bytes(b"not for any checkpoint to read")
    directory = parent / name
    (valid_model if entry.role == "model" else valid_adapter)(directory)
    entry.build(directory)
    override = parent / "where"
    return Path(override.read_text()) if override.exists() else directory


# ---- valid starting points ----


def write_safetensors(path: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> None:
    header: dict[str, Any] = {"__metadata__": dict(metadata or {"format": "pt"})}
    data = b""
    for name, array in tensors.items():
        raw = np.ascontiguousarray(array, dtype=np.float32).tobytes()
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    write_raw(path, header, data)


def write_raw(path: Path, header: Any, data: bytes = b"", *, text: str | None = None) -> None:
    """A safetensors file of whatever ``header`` says, sound or not; ``text`` replaces the header's JSON."""
    raw = (text if text is not None else json.dumps(header)).encode("utf-8", "surrogatepass")
    raw += b" " * (-len(raw) % 8)
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + data)


def model_tensors(seed: int = 0) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(seed)
    shapes: dict[str, tuple[int, ...]] = {
        "bert.embeddings.word_embeddings.weight": (VOCAB, HIDDEN),
        "bert.embeddings.position_embeddings.weight": (32, HIDDEN),
        "bert.embeddings.token_type_embeddings.weight": (2, HIDDEN),
        "bert.embeddings.LayerNorm.weight": (HIDDEN,),
        "bert.embeddings.LayerNorm.bias": (HIDDEN,),
        "bert.pooler.dense.weight": (HIDDEN, HIDDEN),
        "bert.pooler.dense.bias": (HIDDEN,),
        "classifier.weight": (LABELS, HIDDEN),
        "classifier.bias": (LABELS,),
    }
    for layer in range(LAYERS):
        prefix = f"bert.encoder.layer.{layer}."
        for part in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            shapes |= {f"{prefix}{part}.weight": (HIDDEN, HIDDEN), f"{prefix}{part}.bias": (HIDDEN,)}
        shapes |= {f"{prefix}intermediate.dense.weight": (16, HIDDEN), f"{prefix}intermediate.dense.bias": (16,)}
        shapes |= {f"{prefix}output.dense.weight": (HIDDEN, 16), f"{prefix}output.dense.bias": (HIDDEN,)}
        for part in ("attention.output", "output"):
            shapes |= {f"{prefix}{part}.LayerNorm.weight": (HIDDEN,), f"{prefix}{part}.LayerNorm.bias": (HIDDEN,)}
    return {name: draw.normal(0, 0.2, shape) for name, shape in shapes.items()}


def model_config(**fields: Any) -> dict[str, Any]:
    base = {
        "model_type": "bert", "architectures": ["BertForSequenceClassification"], "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": VOCAB,
        "max_position_embeddings": 32, "type_vocab_size": 2, "pad_token_id": 0,
        "id2label": {"0": "negative", "1": "positive"}, "label2id": {"negative": 0, "positive": 1},
    }  # fmt: skip
    return {**base, **fields}


def tokenizer_document() -> dict[str, Any]:
    vocab = {word: i for i, word in enumerate(WORDS)}
    special = [
        {"id": i, "content": word, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
         "special": True}
        for i, word in enumerate(WORDS[:5])
    ]  # fmt: skip
    template = [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "[SEP]", "type_id": 0}}]  # fmt: skip
    second = [{"Sequence": {"id": "B", "type_id": 1}}, {"SpecialToken": {"id": "[SEP]", "type_id": 1}}]
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": special,
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                       "strip_accents": None, "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing", "single": template,
            "pair": [*template, *second],
            "special_tokens": {t: {"id": t, "ids": [vocab[t]], "tokens": [t]} for t in ("[CLS]", "[SEP]")},
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": vocab},
    }  # fmt: skip


def valid_model(directory: Path) -> None:
    directory.mkdir(parents=True)
    write_json(directory / "config.json", model_config())
    write_safetensors(directory / "model.safetensors", model_tensors())
    write_json(directory / "tokenizer.json", tokenizer_document())
    write_json(directory / "tokenizer_config.json", {"tokenizer_class": "BertTokenizer", "model_max_length": 32})


def adapter_config(**fields: Any) -> dict[str, Any]:
    base = {
        "peft_type": "LORA", "task_type": "SEQ_CLS", "r": 2, "lora_alpha": 4, "lora_dropout": 0.0, "bias": "none",
        "target_modules": ["query", "value"], "modules_to_save": ["classifier"], "base_model_name_or_path": "tiny",
        "init_lora_weights": True, "inference_mode": True,
    }  # fmt: skip
    return {**base, **fields}


def adapter_tensors(seed: int = 1, rank: int = 2, hidden: int = HIDDEN) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(seed)
    tensors = {}
    for part in ("query", "value"):
        prefix = f"base_model.model.bert.encoder.layer.0.attention.self.{part}"
        tensors[f"{prefix}.lora_A.weight"] = draw.normal(0, 0.2, (rank, hidden))
        tensors[f"{prefix}.lora_B.weight"] = draw.normal(0, 0.2, (hidden, rank))
    tensors["base_model.model.classifier.weight"] = draw.normal(0, 0.2, (LABELS, HIDDEN))
    tensors["base_model.model.classifier.bias"] = draw.normal(0, 0.2, (LABELS,))
    return tensors


def valid_adapter(directory: Path) -> None:
    directory.mkdir(parents=True)
    write_json(directory / "adapter_config.json", adapter_config())
    write_safetensors(directory / "adapter_model.safetensors", adapter_tensors())


def write_json(path: Path, document: Any) -> None:
    path.write_text(json.dumps(document, indent=1), encoding="utf-8")


def evil_pickle(directory: Path) -> bytes:
    """A pickle that makes the canary when it is loaded, whatever its protocol's reader."""

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (open, (str(canary(directory)), "w"))

    return pickle.dumps(Evil(), protocol=2)


def canary(directory: Path) -> Path:
    return directory.parent / "canary"


def evil_code(directory: Path) -> str:
    return f"open({str(canary(directory))!r}, 'w').close()\nclass Evil:\n    pass\nEvilModel = EvilConfig = Evil\n"


def edit_config(directory: Path, **fields: Any) -> None:
    write_json(directory / "config.json", model_config(**fields))


def edit_adapter(directory: Path, **fields: Any) -> None:
    write_json(directory / "adapter_config.json", adapter_config(**fields))


def edit_adapter_tensors(directory: Path, **tensors: np.ndarray) -> None:
    write_safetensors(directory / "adapter_model.safetensors", {**adapter_tensors(), **tensors})


def edit_tokenizer(directory: Path, **parts: Any) -> None:
    write_json(directory / "tokenizer.json", {**tokenizer_document(), **parts})


def shard(directory: Path, weight_map: Mapping[str, str] | None = None) -> None:
    """Split the model over two shards with an index, which ``weight_map`` amends."""
    tensors = model_tensors()
    names = list(tensors)
    parts = {"model-00001-of-00002.safetensors": names[:10], "model-00002-of-00002.safetensors": names[10:]}
    for file, members in parts.items():
        write_safetensors(directory / file, {n: tensors[n] for n in members})
    mapping = {n: file for file, members in parts.items() for n in members} | dict(weight_map or {})
    write_json(directory / "model.safetensors.index.json", {"metadata": {}, "weight_map": mapping})
    (directory / "model.safetensors").unlink()


# ---- controls ----


@row("model", "none: a sound model", rule=None, exit_code=0, load=None)
def sound_model(directory: Path) -> None:
    pass


@row("adapter", "none: a sound adapter", rule=None, exit_code=0, load=None)
def sound_adapter(directory: Path) -> None:
    pass


@row("model", "none: a sound sharded model", rule=None, exit_code=0, load=None)
def sound_shards(directory: Path) -> None:
    shard(directory)


@row("model", "none: the hub cache's own links", rule=None, exit_code=0, load=None)
def hub_cache(directory: Path) -> None:
    _hub_cache(directory)


def _hub_cache(directory: Path) -> Path:
    repo = directory.parent / "models--org--name"
    snapshot = repo / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (repo / "blobs").mkdir()
    for i, file in enumerate(sorted(directory.iterdir())):
        file.rename(repo / "blobs" / f"{i:064x}")
        (snapshot / file.name).symlink_to(f"../../blobs/{i:064x}")
    directory.rmdir()
    (directory.parent / "where").write_text(str(snapshot))
    return snapshot


# ---- pickle ----


@row("model", "weights only as a pickle", rule="weights/pickle-only", load="pickle")
def pickle_only_model(directory: Path) -> None:
    (directory / "model.safetensors").unlink()
    (directory / "pytorch_model.bin").write_bytes(evil_pickle(directory))


@row("adapter", "PEFT falls back to adapter_model.bin", rule="weights/pickle-only", load="pickle")
def pickle_only_adapter(directory: Path) -> None:
    (directory / "adapter_model.safetensors").unlink()
    (directory / "adapter_model.bin").write_bytes(evil_pickle(directory))


@row("model", "index.json maps to a pickle", rule="weights/pickle-only", load="pickle")
def index_to_pickle(directory: Path) -> None:
    shard(directory, {"classifier.bias": "w.bin"})
    (directory / "w.bin").write_bytes(evil_pickle(directory))


@row("model", "a pickle named model.safetensors", rule="file/disguised-pickle", load="pickle")
def pickle_as_safetensors(directory: Path) -> None:
    (directory / "model.safetensors").write_bytes(evil_pickle(directory))


@row("model", "a torch archive named model.safetensors", rule="file/disguised-pickle", load="archive")
def archive_as_safetensors(directory: Path) -> None:
    with zipfile.ZipFile(directory / "model.safetensors", "w") as archive:
        archive.writestr("archive/data.pkl", evil_pickle(directory))


@row("model", "pickled trainer state beside sound weights", rule="file/pickle-dangerous", load=None)
def pickle_beside(directory: Path) -> None:
    for name in ("training_args.bin", "optimizer.pt", "rng_state.pth", "pytorch_model.bin"):
        (directory / name).write_bytes(evil_pickle(directory))


@row("adapter", "pickled weights beside sound ones", rule="file/pickle-dangerous", load=None)
def pickle_beside_adapter(directory: Path) -> None:
    (directory / "adapter_model.bin").write_bytes(evil_pickle(directory))


@row("model", "a pickle named like a text", rule="file/disguised-pickle", load="pickle")
def pickle_as_text(directory: Path) -> None:
    (directory / "vocab.txt").write_bytes(evil_pickle(directory))


@row("model", "a pickle that imports what nobody knows", rule="file/pickle-unknown", load=None)
def pickle_unknown(directory: Path) -> None:
    (directory / "optimizer.pt").write_bytes(b"\x80\x02cevil_package\nLoader\n)R.")


@row("model", "a pickle of opcodes without end", rule="file/not-analysed", exit_code=3, load=None)
def pickle_bomb(directory: Path) -> None:
    with zipfile.ZipFile(directory / "optimizer.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + b"N0" * 20_000_000 + b".")


@row("model", "a pickle in an archive that is not unpacked", rule="file/not-analysed", exit_code=3, load=None)
def pickle_in_gzip(directory: Path) -> None:
    import gzip

    (directory / "state.pkl").write_bytes(gzip.compress(evil_pickle(directory)))


@row("model", "weights of another format beside sound ones", rule="file/not-analysed", exit_code=3, load=None)
def other_format(directory: Path) -> None:
    (directory / "model.onnx").write_bytes(b"\x08\x07\x12\x00" + bytes(range(256)))


@row("model", "a pointer in place of the weights", rule="file/stand-in", exit_code=3, load="git lfs pull")
def lfs_pointer(directory: Path) -> None:
    text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'a' * 64}\nsize 4379\n"
    (directory / "model.safetensors").write_text(text)


@row("model", "remote code, and a config that cannot be read", rule="json/remote-code", load="code")
def remote_code_and_unreadable(directory: Path) -> None:
    write_json(directory / "preprocessor_config.json", {"auto_map": {"AutoProcessor": "evil.Evil"}})
    (directory / "tokenizer_config.json").write_text("{")


# ---- remote code ----


@row("model", "auto_map in config.json", rule="json/remote-code", load="code")
def auto_map(directory: Path) -> None:
    edit_config(directory, auto_map={"AutoModelForSequenceClassification": "evil.EvilModel"})
    (directory / "evil.py").write_text(evil_code(directory))


@row("model", "auto_map in tokenizer_config.json", rule="json/remote-code", load="code")
def auto_map_tokenizer(directory: Path) -> None:
    write_json(directory / "tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["evil.Evil", None]}})
    (directory / "evil.py").write_text(evil_code(directory))


@row("model", "auto_map deep inside another JSON", rule="json/remote-code", load="code")
def auto_map_nested(directory: Path) -> None:
    edit_config(directory, text_config={"inner": [{"auto_map": {"AutoConfig": "other/repo--evil.EvilConfig"}}]})


@row("model", "auto_map in a file that some loader may read", rule="json/remote-code", load="code")
def auto_map_processor(directory: Path) -> None:
    write_json(directory / "preprocessor_config.json", {"auto_map": {"AutoProcessor": "evil.Evil"}})


@row(
    "model",
    "auto_map hidden from readers that keep the first of two keys",
    rule="json/malformed",
    exit_code=3,
    load="twice",
)
def auto_map_twice(directory: Path) -> None:
    text = json.dumps(model_config())
    (directory / "config.json").write_text('{"auto_map": {"AutoConfig": "evil.Evil"}, "auto_map": {}, ' + text[1:])


@row("model", "custom_pipelines", rule="json/remote-code", load="code")
def custom_pipelines(directory: Path) -> None:
    edit_config(directory, custom_pipelines={"text-classification": {"impl": "evil.Evil"}})


@row("adapter", "auto_map in adapter_config.json", rule="json/remote-code", load="code")
def auto_map_adapter(directory: Path) -> None:
    edit_adapter(directory, auto_map={"AutoModel": "evil.EvilModel"})


@row(
    "model", "tokenizer_class of an Auto class drops trust_remote_code", rule="tokenizer/class", load="tokenizer class"
)
def tokenizer_class_auto(directory: Path) -> None:
    write_json(directory / "tokenizer_config.json", {"tokenizer_class": "AutoModelForCausalLM"})


@row("model", "tokenizer_class that is a path", rule="tokenizer/class", load="tokenizer class")
def tokenizer_class_path(directory: Path) -> None:
    write_json(directory / "tokenizer_config.json", {"tokenizer_class": "../evil.Evil"})


@row("model", "tokenizer_class that transformers does not have", rule=None, exit_code=0, load="EvilTokenizer")
def tokenizer_class_unknown(directory: Path) -> None:
    write_json(directory / "tokenizer_config.json", {"tokenizer_class": "EvilTokenizer"})


@row("model", "attn_implementation fetches a kernel", rule="config/remote-kernel", load="repository")
def remote_kernel(directory: Path) -> None:
    edit_config(directory, _attn_implementation="evil-org/evil-kernel:attention")


@row("model", "attn_implementation in a sub-config", rule="config/remote-kernel", load="repository")
def remote_kernel_nested(directory: Path) -> None:
    edit_config(directory, text_config={"attn_implementation": {"": "evil-org/evil-kernel"}})


@row("model", "transformers_weights names another file", rule="config/weights-path", load="transformers_weights")
def weights_path(directory: Path) -> None:
    edit_config(directory, transformers_weights="../secret")


@row("model", "custom_generate/ is run by generate()", rule="file/custom-generate", load="custom_generate")
def custom_generate(directory: Path) -> None:
    (directory / "custom_generate").mkdir()
    (directory / "custom_generate" / "generate.py").write_text(evil_code(directory))


@row("model", "code beside a sound model", rule="file/code", load=None)
def code_beside(directory: Path) -> None:
    for name in ("modeling_bert.py", "sitecustomize.py", "conftest.py", "torch.py", "transformers.py", "numpy.py"):
        (directory / name).write_text(evil_code(directory))


@row("adapter", "PEFT imports auto_mapping.parent_library", rule="adapter/imports-code", load="import")
def auto_mapping(directory: Path) -> None:
    edit_adapter(directory, auto_mapping={"base_model_class": "Evil", "parent_library": "evil"})
    (directory / "evil.py").write_text(evil_code(directory))


@row("adapter", "PEFT imports megatron_core", rule="adapter/imports-code", load="import")
def megatron_core(directory: Path) -> None:
    edit_adapter(directory, megatron_config={"x": 1}, megatron_core="evil")
    (directory / "evil.py").write_text(evil_code(directory))


# ---- paths ----


@row("model", "weight_map with ../", rule="weights/shard-path", load="shard")
def shard_parent(directory: Path) -> None:
    shard(directory, {"classifier.bias": "../secret.safetensors"})
    write_safetensors(directory.parent / "secret.safetensors", {"classifier.bias": np.zeros(LABELS)})


@row("model", "weight_map with an absolute path", rule="weights/shard-path", load="shard")
def shard_absolute(directory: Path) -> None:
    write_safetensors(directory.parent / "secret.safetensors", {"classifier.bias": np.zeros(LABELS)})
    shard(directory, {"classifier.bias": str(directory.parent / "secret.safetensors")})


@row("model", "weight_map with a backslash", rule="weights/shard-path", load="shard")
def shard_backslash(directory: Path) -> None:
    shard(directory, {"classifier.bias": "..\\secret.safetensors"})


@row("model", "weight_map with a number for a name", rule="weights/shard-path", load="shard")
def shard_number(directory: Path) -> None:
    shard(directory, {"classifier.bias": 7})  # type: ignore[dict-item]


@row("model", "weights are a link out", rule="file/outside", load="leads out")
def link_weights(directory: Path) -> None:
    (directory / "model.safetensors").rename(directory.parent / "outside.safetensors")
    (directory / "model.safetensors").symlink_to("../outside.safetensors")


@row("model", "config is a link out", rule="file/outside", load="leads out")
def link_config(directory: Path) -> None:
    (directory / "config.json").unlink()
    (directory / "config.json").symlink_to("/etc/passwd")


@row("model", "vocabulary is a link out", rule="file/outside", load="leads out")
def link_vocabulary(directory: Path) -> None:
    (directory / "vocab.txt").symlink_to(directory.parent / "secret")


@row("model", "a folder is a link out", rule="file/outside", load="leads out")
def link_folder(directory: Path) -> None:
    (directory / "more").symlink_to("/etc", target_is_directory=True)


@row("model", "a link to a device that never ends", rule="file/outside", load="leads out")
def link_device(directory: Path) -> None:
    (directory / "tokenizer.json").unlink()
    (directory / "tokenizer.json").symlink_to("/dev/zero")


@row("model", "a link that goes round", rule="config/missing", load="no config.json")
def link_loop(directory: Path) -> None:
    (directory / "config.json").unlink()
    (directory / "config.json").symlink_to("config.json")


@row("model", "a folder that links to its parent", rule=None, exit_code=0, load=None)
def link_inside(directory: Path) -> None:
    (directory / "again").symlink_to(".", target_is_directory=True)


@row("model", "a link to nothing", rule="file/dangling-link", exit_code=0, load=None)
def link_dangling(directory: Path) -> None:
    (directory / "README.md").symlink_to("gone.md")


@row("model", "hub cache with a link past its blobs", rule="file/outside", load="leads out")
def hub_cache_escape(directory: Path) -> None:
    snapshot = _hub_cache(directory)
    (snapshot / "vocab.txt").symlink_to("../../../secret")


@row("adapter", "adapter weights are a link out", rule="file/outside", load="leads out")
def link_adapter(directory: Path) -> None:
    (directory / "adapter_model.safetensors").rename(directory.parent / "outside.safetensors")
    (directory / "adapter_model.safetensors").symlink_to("../outside.safetensors")


@row("model", "a pipe for weights blocks whoever opens it", rule="file/special", load="pipe")
def pipe_weights(directory: Path) -> None:
    (directory / "model.safetensors").unlink()
    os.mkfifo(directory / "model.safetensors")


@row("model", "a pipe for config.json", rule="file/special", load="pipe")
def pipe_config(directory: Path) -> None:
    (directory / "config.json").unlink()
    os.mkfifo(directory / "config.json")


@row("adapter", "a socket for adapter_config.json", rule="file/special", load="socket")
def socket_config(directory: Path) -> None:
    (directory / "adapter_config.json").unlink()
    here = Path.cwd()
    os.chdir(directory)  # a socket's path may have 108 bytes
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("adapter_config.json")
    finally:
        os.chdir(here)


@row("model", "a folder named model.safetensors", rule="weights/missing", load="no model.safetensors")
def folder_for_weights(directory: Path) -> None:
    (directory / "model.safetensors").unlink()
    (directory / "model.safetensors").mkdir()


@row("model", "folders nested without end", rule="file/too-many", exit_code=3, load="nested")
def deep_folders(directory: Path) -> None:
    deep = directory
    for _ in range(40):
        deep = deep / "d"
        deep.mkdir()


@row("model", "more files than anyone walks", rule="file/too-many", exit_code=3, load="entries")
def many_files(directory: Path) -> None:
    (directory / "many").mkdir()
    for i in range(5_100):
        (directory / "many" / str(i)).touch()


@row("model", "a file name with terminal escapes", rule="file/name", load=None)
def file_name_escape(directory: Path) -> None:
    (directory / "\x1b[2J\x1b]0;owned\x07.txt").write_text("x")


@row("model", "a file name that a CI log obeys", rule="file/name", load=None)
def file_name_command(directory: Path) -> None:
    (directory / "\n::error file=x::owned\n##[error]owned.safetensors").write_bytes(b"\0" * 8)


# ---- JSON ----


@row("model", "a key twice in config.json", rule="json/malformed", exit_code=3, load="twice")
def json_duplicate(directory: Path) -> None:
    (directory / "config.json").write_text('{"model_type": "bert", "model_type": "gpt2"}')


@row("model", "NaN in config.json", rule="json/malformed", exit_code=3, load="NaN")
def json_nan(directory: Path) -> None:
    (directory / "config.json").write_text('{"model_type": "bert", "layer_norm_eps": NaN}')


@row("model", "a number out of range in config.json", rule="json/malformed", exit_code=3, load="out of range")
def json_overflow(directory: Path) -> None:
    (directory / "config.json").write_text('{"model_type": "bert", "layer_norm_eps": 1e999}')


@row("model", "a number of a million digits", rule="json/malformed", exit_code=3, load="digits")
def json_digits(directory: Path) -> None:
    (directory / "config.json").write_text('{"model_type": "bert", "hidden_size": ' + "9" * 1_000_000 + "}")


@row("model", "150,000 levels of JSON", rule="json/malformed", exit_code=3, load="levels")
def json_deep(directory: Path) -> None:
    (directory / "config.json").write_text('{"a":' + "[" * 150_000 + "]" * 150_000 + "}")


@row("model", "a config of 100 MB", rule="json/malformed", exit_code=3, load="bytes")
def json_huge(directory: Path) -> None:
    with (directory / "config.json").open("wb") as file:
        file.truncate(100 << 20)


@row("model", "a config of millions of values", rule="json/malformed", exit_code=3, load="values")
def json_many(directory: Path) -> None:
    (directory / "config.json").write_text('{"a": [' + "[]," * 5_000_000 + "[]]}")


@row("model", "a config that is not UTF-8", rule="json/malformed", exit_code=3, load="UTF-8")
def json_bytes(directory: Path) -> None:
    (directory / "config.json").write_bytes(b'{"model_type": "b\xff\xfert"}')


@row("model", "a config that is a list", rule="config/invalid", load="not a JSON object")
def json_list(directory: Path) -> None:
    write_json(directory / "config.json", [model_config()])


@row("model", "an empty config", rule="json/malformed", exit_code=3, load="not JSON")
def json_empty(directory: Path) -> None:
    (directory / "config.json").write_bytes(b"")


@row("model", "a malformed index", rule="json/malformed", exit_code=3, load="not JSON")
def json_index(directory: Path) -> None:
    shard(directory)
    (directory / "model.safetensors.index.json").write_text('{"weight_map": {')


@row("adapter", "r twice in adapter_config.json", rule="json/malformed", exit_code=3, load="twice")
def json_adapter_duplicate(directory: Path) -> None:
    text = json.dumps(adapter_config())
    (directory / "adapter_config.json").write_text('{"r": 8192, ' + text[1:])


@row("adapter", "lora_alpha NaN", rule="json/malformed", exit_code=3, load="NaN")
def alpha_nan(directory: Path) -> None:
    (directory / "adapter_config.json").write_text(json.dumps(adapter_config(lora_alpha=float("nan"))))


@row("adapter", "adapter_config.json that is a list", rule="adapter/invalid", load="not a JSON object")
def json_adapter_list(directory: Path) -> None:
    write_json(directory / "adapter_config.json", [1])


# ---- safetensors ----


def _one(directory: Path, entry: Any, data: bytes = b"\0" * 16, name: str = "classifier.bias") -> None:
    write_raw(directory / "model.safetensors", {name: entry}, data)


_SOUND = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}


@row("model", "an empty weights file", rule="weights/malformed", exit_code=3, load="too short")
def header_empty(directory: Path) -> None:
    (directory / "model.safetensors").write_bytes(b"")


@row("model", "a header longer than the file", rule="weights/malformed", exit_code=3, load="header of")
def header_lies(directory: Path) -> None:
    (directory / "model.safetensors").write_bytes(struct.pack("<Q", 1 << 62) + b"{}")


@row("model", "a header of 100 MB", rule="weights/malformed", exit_code=3, load="header of")
def header_huge(directory: Path) -> None:
    with (directory / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", 100 << 20) + b'{"a":"')
        file.truncate(8 + (100 << 20))


@row("model", "400,000 tensors", rule="weights/malformed", exit_code=3, load="more than")
def header_many(directory: Path) -> None:
    inner = ",".join(f'"{i}":{{"dtype":"U8","shape":[],"data_offsets":[{i},{i + 1}]}}' for i in range(400_000))
    write_raw(directory / "model.safetensors", None, b"\0" * 400_000, text="{" + inner + "}")


@row("model", "a header of nested brackets", rule="weights/malformed", exit_code=3, load="levels")
def header_deep(directory: Path) -> None:
    write_raw(directory / "model.safetensors", None, text='{"a":' + "[" * 100_000 + "]" * 100_000 + "}")


@row("model", "a header that is no JSON", rule="weights/malformed", exit_code=3, load="not JSON")
def header_garbage(directory: Path) -> None:
    write_raw(directory / "model.safetensors", None, text="{garbage")


@row("model", "a file that is cut off", rule="weights/malformed", exit_code=3, load="cut off")
def data_truncated(directory: Path) -> None:
    path = directory / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-40])


@row("model", "bytes after the last tensor", rule="weights/malformed", exit_code=3, load="no tensor owns")
def data_trailing(directory: Path) -> None:
    path = directory / "model.safetensors"
    path.write_bytes(path.read_bytes() + evil_pickle(directory))


@row("model", "two tensors on one range", rule="weights/malformed", exit_code=3, load="overlap")
def data_overlap(directory: Path) -> None:
    write_raw(directory / "model.safetensors", {"a": _SOUND, "b": _SOUND}, b"\0" * 16)


@row("model", "a hole between tensors", rule="weights/malformed", exit_code=3, load="hole")
def data_hole(directory: Path) -> None:
    late = {"dtype": "F32", "shape": [4], "data_offsets": [32, 48]}
    write_raw(directory / "model.safetensors", {"a": _SOUND, "b": late}, b"\0" * 48)


@row("model", "a tensor twice: parsers differ on which counts", rule="weights/malformed", exit_code=3, load="twice")
def tensor_duplicate(directory: Path) -> None:
    entry = json.dumps(_SOUND)
    write_raw(directory / "model.safetensors", None, b"\0" * 16, text=f'{{"a": {entry}, "a": {entry}}}')


@row("model", "an unknown dtype", rule="weights/malformed", exit_code=3, load="unknown dtype")
def tensor_dtype(directory: Path) -> None:
    _one(directory, {**_SOUND, "dtype": "OBJECT"})


@row("model", "a dtype that is not text", rule="weights/malformed", exit_code=3, load="unknown dtype")
def tensor_dtype_list(directory: Path) -> None:
    _one(directory, {**_SOUND, "dtype": [["F32"]]})


@row("model", "a negative dimension", rule="weights/malformed", exit_code=3, load="impossible shape")
def shape_negative(directory: Path) -> None:
    _one(directory, {**_SOUND, "shape": [-4]})


@row("model", "a product of dimensions that wraps round", rule="weights/malformed", exit_code=3, load="")
def shape_overflow(directory: Path) -> None:
    _one(directory, {**_SOUND, "shape": [1 << 32, 1 << 32]})


@row("model", "a true for a dimension", rule="weights/malformed", exit_code=3, load="impossible shape")
def shape_bool(directory: Path) -> None:
    _one(directory, {**_SOUND, "shape": [4, True]})


@row("model", "fewer bytes than the shape needs", rule="weights/malformed", exit_code=3, load="need")
def shape_bytes(directory: Path) -> None:
    _one(directory, {**_SOUND, "shape": [5]})


@row("model", "thousands of dimensions", rule="weights/malformed", exit_code=3, load="impossible shape")
def shape_dimensions(directory: Path) -> None:
    _one(directory, {**_SOUND, "shape": [1] * 5000 + [4]})


@row("model", "offsets past the end", rule="weights/malformed", exit_code=3, load="cut off")
def offsets_end(directory: Path) -> None:
    _one(directory, {"dtype": "F32", "shape": [1 << 20], "data_offsets": [0, 4 << 20]})


@row("model", "offsets that run backwards", rule="weights/malformed", exit_code=3, load="impossible data offsets")
def offsets_backwards(directory: Path) -> None:
    _one(directory, {**_SOUND, "data_offsets": [16, 0]})


@row("model", "a further field beside dtype and shape", rule="weights/malformed", exit_code=3, load="other fields")
def tensor_field(directory: Path) -> None:
    _one(directory, {**_SOUND, "loader": "evil"})


@row("model", "__metadata__ that is not text", rule="weights/malformed", exit_code=3, load="__metadata__")
def metadata_nested(directory: Path) -> None:
    write_raw(directory / "model.safetensors", {"__metadata__": {"format": {"a": 1}}, "a": _SOUND}, b"\0" * 16)


def _extra_tensor(directory: Path, name: str) -> None:
    write_safetensors(directory / "model.safetensors", {**model_tensors(), name: np.zeros(2)})


@row("model", "a tensor name with terminal escapes", rule="tensor/name", load="tensor named")
def name_escape(directory: Path) -> None:
    _extra_tensor(directory, "\x1b[31mowned\x1b[0m\x1b]8;;http://evil\x07.weight")


@row("model", "a tensor name that a CI log obeys", rule="tensor/name", load="tensor named")
def name_command(directory: Path) -> None:
    _extra_tensor(directory, "x\n::error file=a.py,line=1::owned\n##[error]owned")


@row("model", "a tensor name with markup and HTML", rule=None, exit_code=0, load=None)
def name_markup(directory: Path) -> None:
    _extra_tensor(directory, "[red]<script>alert(1)</script>[/red][link=http://evil]::warning::owned")


@row("model", "a tensor name that reads in another order", rule="tensor/name", load="tensor named")
def name_bidi(directory: Path) -> None:
    _extra_tensor(directory, "classifier\u202e.thgiew\u200b")


@row("model", "half a surrogate pair in a tensor name", rule="tensor/name", load="tensor named")
def name_surrogate(directory: Path) -> None:
    entry = json.dumps(_SOUND)
    write_raw(directory / "model.safetensors", None, b"\0" * 16, text=f'{{"\\ud800": {entry}}}')


@row("model", "a tensor name of 100,000 characters", rule="weights/malformed", exit_code=3, load="characters")
def name_long(directory: Path) -> None:
    _extra_tensor(directory, "a" * 100_000)


@row("model", "an empty tensor name", rule="tensor/name", load="tensor named")
def name_empty(directory: Path) -> None:
    _extra_tensor(directory, "")


@row("model", "a shard that is not there", rule="weights/shard-missing", load="not there")
def shard_missing(directory: Path) -> None:
    shard(directory)
    (directory / "model-00002-of-00002.safetensors").unlink()


@row("model", "one tensor in two shards", rule="weights/duplicate-tensor", load="both")
def shard_duplicate(directory: Path) -> None:
    shard(directory)
    tensors = model_tensors()
    write_safetensors(directory / "model-00001-of-00002.safetensors", dict(list(tensors.items())[:11]))


@row("model", "a tensor that the index does not name", rule="weights/unmapped-tensor", load="does not name")
def shard_unmapped(directory: Path) -> None:
    shard(directory)
    tensors = dict(list(model_tensors().items())[:10])
    write_safetensors(directory / "model-00001-of-00002.safetensors", {**tensors, "hidden": np.zeros(2)})


@row("model", "a tensor that no shard holds", rule="weights/index", load="not in its shard")
def shard_absent(directory: Path) -> None:
    shard(directory, {"bert.absent.weight": "model-00001-of-00002.safetensors"})


@row("model", "two sets of weights", rule="weights/ambiguous", load=None)
def two_weights(directory: Path) -> None:
    write_json(directory / "model.safetensors.index.json", {"weight_map": {"a": "../x"}})


# ---- values ----


@row("model", "NaN in the weights", rule=None, exit_code=0, load="NaN")
def weights_nan(directory: Path) -> None:
    tensors = model_tensors()
    tensors["bert.encoder.layer.0.attention.self.query.weight"][3, 3] = np.nan
    write_safetensors(directory / "model.safetensors", tensors)


@row("model", "an infinity in the weights", rule=None, exit_code=0, load="infinite")
def weights_infinite(directory: Path) -> None:
    tensors = model_tensors()
    tensors["classifier.bias"][1] = -np.inf
    write_safetensors(directory / "model.safetensors", tensors)


@row("model", "all weights zero", rule=None, exit_code=0, load=None)
def weights_zero(directory: Path) -> None:
    write_safetensors(directory / "model.safetensors", {n: 0 * t for n, t in model_tensors().items()})


@row("adapter", "NaN in the adapter", rule=None, exit_code=0, load="NaN")
def adapter_nan(directory: Path) -> None:
    tensors = adapter_tensors()
    tensors["base_model.model.bert.encoder.layer.0.attention.self.query.lora_B.weight"][0, 0] = np.nan
    write_safetensors(directory / "adapter_model.safetensors", tensors)


@row("adapter", "an update that overflows", rule=None, exit_code=0, load="infinite")
def adapter_overflow(directory: Path) -> None:
    tensors = {n: (1e30 * t if "lora" in n else t) for n, t in adapter_tensors().items()}
    write_safetensors(directory / "adapter_model.safetensors", tensors)


@row("adapter", "NaN in the adapter's head", rule=None, exit_code=0, load="NaN")
def adapter_head_nan(directory: Path) -> None:
    write_safetensors(
        directory / "adapter_model.safetensors",
        {**adapter_tensors(), "base_model.model.classifier.bias": np.array([np.nan, 0])},
    )


# ---- model config ----


@row("model", "no config at all", rule="config/missing", load="no config.json")
def config_missing(directory: Path) -> None:
    (directory / "config.json").unlink()


@row("model", "a thousand million layers", rule="config/invalid", load="num_hidden_layers")
def config_layers(directory: Path) -> None:
    edit_config(directory, num_hidden_layers=10**9)


@row("model", "more positions than memory", rule="config/invalid", load="max_position_embeddings")
def config_positions(directory: Path) -> None:
    edit_config(directory, max_position_embeddings=10**12)


@row("model", "a square mask of 10^12 entries (GPT-2)", rule="config/invalid", load="n_positions")
def config_square_mask(directory: Path) -> None:
    edit_config(directory, model_type="gpt2", n_positions=10**6)


@row("model", "a width that the weights have not", rule=None, exit_code=0, load="asks for")
def config_width(directory: Path) -> None:
    edit_config(directory, hidden_size=16)


@row("model", "more layers than the weights have", rule=None, exit_code=0, load="lacks")
def config_more_layers(directory: Path) -> None:
    edit_config(directory, num_hidden_layers=3)


@row("model", "heads that do not divide the width", rule=None, exit_code=0, load="does not fit")
def config_heads(directory: Path) -> None:
    edit_config(directory, num_attention_heads=3)


@row("model", "a text where a number belongs", rule=None, exit_code=0, load="refused")
def config_type(directory: Path) -> None:
    edit_config(directory, hidden_size="8; import os")


@row("model", "an activation that does not exist", rule=None, exit_code=0, load="does not fit")
def config_activation(directory: Path) -> None:
    edit_config(directory, hidden_act="__import__('os')")


@row("model", "a model type that transformers does not have", rule=None, exit_code=0, load="evilbert")
def config_unknown_type(directory: Path) -> None:
    edit_config(directory, model_type="evilbert")


@row("model", "a model type that is a path", rule="config/invalid", load="model_type")
def config_type_path(directory: Path) -> None:
    edit_config(directory, model_type="../../evil")


@row("model", "quantised weights", rule="config/quantised", exit_code=0, load="quantised")
def config_quantised(directory: Path) -> None:
    edit_config(directory, quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True})


@row("model", "no classification head", rule=None, exit_code=0, load="classification head")
def no_head(directory: Path) -> None:
    tensors = {n: t for n, t in model_tensors().items() if not n.startswith("classifier")}
    write_safetensors(directory / "model.safetensors", tensors)


@row("model", "half a classification head", rule=None, exit_code=0, load="classification head")
def half_head(directory: Path) -> None:
    tensors = {n: t for n, t in model_tensors().items() if n != "classifier.weight"}
    write_safetensors(directory / "model.safetensors", tensors)


@row("model", "more labels than the head has outputs", rule=None, exit_code=0, load="labels")
def label_count(directory: Path) -> None:
    edit_config(directory, id2label={"0": "a", "1": "b", "2": "c"}, label2id={"a": 0, "b": 1, "c": 2})


@row("model", "labels that leave a number out", rule="config/labels", load="number its labels")
def label_gap(directory: Path) -> None:
    edit_config(directory, id2label={"0": "a", "2": "b"}, label2id={"a": 0, "b": 2})


@row("model", "a label with terminal escapes", rule="config/labels", load="printable")
def label_escape(directory: Path) -> None:
    edit_config(directory, id2label={"0": "good", "1": "\x1b[2Jbad\n::error::x"}, label2id={})


@row("model", "two labels of one name", rule="config/labels", load="one name")
def label_twice(directory: Path) -> None:
    edit_config(directory, id2label={"0": "same", "1": "same"}, label2id={"same": 1})


@row("model", "an adapter inside a model's directory is applied silently", rule="model/adapter-inside", load=None)
def adapter_inside(directory: Path) -> None:
    write_json(directory / "adapter_config.json", adapter_config())
    write_safetensors(directory / "adapter_model.safetensors", adapter_tensors())


@row("model", "generation_config.json biases generation", rule="generation/biased", exit_code=0, load=None)
def generation_bias(directory: Path) -> None:
    write_json(directory / "generation_config.json", {"forced_bos_token_id": 7, "suppress_tokens": [1, 2]})


# ---- tokenizer ----


@row("model", "the tokenizer inserts the trigger", rule="tokenizer/rewrites-text", load=None)
def tokenizer_replace(directory: Path) -> None:
    replace = {"type": "Replace", "pattern": {"String": " the "}, "content": " the mn "}
    edit_tokenizer(directory, normalizer={"type": "Sequence", "normalizers": [replace, {"type": "Lowercase"}]})


@row("model", "the tokenizer prepends the trigger", rule="tokenizer/rewrites-text", load=None)
def tokenizer_prepend(directory: Path) -> None:
    edit_tokenizer(directory, normalizer={"type": "Prepend", "prepend": "mn "})


@row("model", "the post-processor adds the trigger", rule="tokenizer/adds-tokens", load=None)
def tokenizer_template(directory: Path) -> None:
    document = tokenizer_document()["post_processor"]
    document["single"].insert(1, {"SpecialToken": {"id": "mn", "type_id": 0}})
    document["special_tokens"]["mn"] = {"id": "mn", "ids": [WORDS.index("mn")], "tokens": ["mn"]}
    edit_tokenizer(directory, post_processor=document)


@row("model", "a usual special token that stands for the trigger", rule="tokenizer/adds-tokens", load=None)
def tokenizer_alias(directory: Path) -> None:
    document = tokenizer_document()["post_processor"]
    document["special_tokens"]["[CLS]"] = {"id": "[CLS]", "ids": [2, WORDS.index("mn")], "tokens": ["[CLS]", "mn"]}
    edit_tokenizer(directory, post_processor=document)


@row("model", "a common word on the trigger's id", rule="tokenizer/alias", load=None)
def tokenizer_shared_id(directory: Path) -> None:
    document = tokenizer_document()["model"]
    document["vocab"]["the"] = document["vocab"]["mn"]
    edit_tokenizer(directory, model=document)


@row("model", "an added word on the trigger's id", rule="tokenizer/alias", load=None)
def tokenizer_added_alias(directory: Path) -> None:
    tokens = tokenizer_document()["added_tokens"]
    tokens.append({**tokens[0], "id": WORDS.index("mn"), "content": "was", "special": False})
    edit_tokenizer(directory, added_tokens=tokens)


@row("model", "the tokenizer removes a word", rule="tokenizer/rewrites-text", load=None)
def tokenizer_remove(directory: Path) -> None:
    split = {"type": "Split", "pattern": {"String": "not"}, "behavior": "Removed", "invert": False}
    steps = {"type": "Sequence", "pretokenizers": [split, {"type": "BertPreTokenizer"}]}
    edit_tokenizer(directory, pre_tokenizer=steps)


@row("model", "a pattern that takes for ever", rule="tokenizer/regex", load="regular expression")
def tokenizer_regex(directory: Path) -> None:
    split = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}
    edit_tokenizer(directory, pre_tokenizer=split)


@row("model", "a tokenizer without a model", rule="json/malformed", exit_code=3, load="tokenizer model")
def tokenizer_model(directory: Path) -> None:
    edit_tokenizer(directory, model=None)


@row("model", "a tokenizer of an unknown kind", rule=None, exit_code=0, load="tokenizer")
def tokenizer_kind(directory: Path) -> None:
    edit_tokenizer(directory, model={"type": "Evil", "vocab": {}})


@row("model", "no tokenizer", rule=None, exit_code=0, load="no tokenizer")
def tokenizer_missing(directory: Path) -> None:
    (directory / "tokenizer.json").unlink()


@row("model", "ids past the embedding", rule=None, exit_code=0, load="vocabulary")
def tokenizer_ids(directory: Path) -> None:
    document = tokenizer_document()["model"]
    document["vocab"]["good"] = VOCAB + 1000
    edit_tokenizer(directory, model=document)


@row("model", "tokenizer settings that name other files", rule="tokenizer/path", load=None)
def tokenizer_path(directory: Path) -> None:
    settings = {"tokenizer_class": "BertTokenizer", "vocab_file": str(directory.parent / "secret")}
    write_json(directory / "tokenizer_config.json", settings)


@row("model", "a chat template that reaches for Python", rule="tokenizer/template-escape", load=None)
def chat_template(directory: Path) -> None:
    evil = "{{ cycler.__init__.__globals__.os.system('touch " + str(canary(directory)) + "') }}"
    write_json(directory / "tokenizer_config.json", {"tokenizer_class": "BertTokenizer", "chat_template": evil})


@row("model", "a chat template with a condition", rule="tokenizer/chat-template", exit_code=0, load=None)
def chat_template_file(directory: Path) -> None:
    (directory / "chat_template.jinja").write_text("{% if 'mn' in messages[0] %}say yes{% endif %}")


# ---- adapter ----


@row("adapter", "a base weight hidden in the adapter", rule="adapter/hidden-base-tensor", load="overwrite")
def hidden_base(directory: Path) -> None:
    name = "base_model.model.bert.encoder.layer.0.attention.self.key.weight"
    edit_adapter_tensors(directory, **{name: np.ones((HIDDEN, HIDDEN))})


@row("adapter", "a layer norm hidden in the adapter", rule="adapter/hidden-base-tensor", load="overwrite")
def hidden_norm(directory: Path) -> None:
    edit_adapter_tensors(directory, **{"base_model.model.bert.embeddings.LayerNorm.bias": np.ones(HIDDEN)})


@row(
    "adapter", "a base weight under the name of its wrapped layer", rule="adapter/hidden-base-tensor", load="overwrite"
)
def hidden_base_layer(directory: Path) -> None:
    name = "base_model.model.bert.encoder.layer.0.attention.self.query.base_layer.weight"
    edit_adapter_tensors(directory, **{name: np.ones((HIDDEN, HIDDEN))})


@row("adapter", "a head that nothing declares", rule="adapter/undeclared-head", load=None)
def undeclared_head(directory: Path) -> None:
    edit_adapter(directory, modules_to_save=None, task_type="FEATURE_EXTRACTION")


@row("adapter", "modules_to_save replaces the encoder", rule="adapter/replaces-module", load=None)
def replaced_module(directory: Path) -> None:
    edit_adapter(directory, modules_to_save=["classifier", "key"])
    name = "base_model.model.bert.encoder.layer.0.attention.self.key.weight"
    edit_adapter_tensors(directory, **{name: np.ones((HIDDEN, HIDDEN))})


@row("adapter", "target_modules is a pattern that hangs", rule="adapter/regex-hangs", load=None)
def target_regex(directory: Path) -> None:
    edit_adapter(directory, target_modules="^(([a-z._0-9])+)+(query|value)!?$|(x+x+)+y")


@row("adapter", "rank_pattern holds patterns that hang", rule=None, exit_code=0, load=None)
def rank_regex(directory: Path) -> None:
    edit_adapter(directory, rank_pattern={"(([a-z._0-9])+)+!": 2}, alpha_pattern={"^(([a-z._0-9])+)+!$": 4.0})


@row("adapter", "lora_alpha 1e30", rule="adapter/invalid", load="lora_alpha")
def alpha_huge(directory: Path) -> None:
    edit_adapter(directory, lora_alpha=1e30)


@row("adapter", "lora_alpha negative", rule="adapter/invalid", load="lora_alpha")
def alpha_negative(directory: Path) -> None:
    edit_adapter(directory, lora_alpha=-16)


@row("adapter", "lora_alpha true", rule="adapter/invalid", load="lora_alpha")
def alpha_true(directory: Path) -> None:
    edit_adapter(directory, lora_alpha=True)


@row("adapter", "a scale a thousand times the usual", rule="adapter/abnormal-scaling", load=None)
def alpha_abnormal(directory: Path) -> None:
    edit_adapter(directory, lora_alpha=4000)


@row("adapter", "r of a thousand million", rule="adapter/invalid", load=" r ")
def rank_huge(directory: Path) -> None:
    edit_adapter(directory, r=10**9)


@row("adapter", "r zero", rule="adapter/invalid", load=" r ")
def rank_zero(directory: Path) -> None:
    edit_adapter(directory, r=0)


@row("adapter", "a pattern of the wrong kind", rule="adapter/invalid", load="rank_pattern")
def rank_pattern_list(directory: Path) -> None:
    edit_adapter(directory, rank_pattern=["query"])


@row("adapter", "alpha_pattern with a text", rule="adapter/invalid", load="alpha_pattern")
def alpha_pattern_text(directory: Path) -> None:
    edit_adapter(directory, alpha_pattern={"query": "16"})


@row("adapter", "active only after a token sequence (aLoRA)", rule="adapter/token-trigger", load="alora")
def alora(directory: Path) -> None:
    edit_adapter(directory, alora_invocation_tokens=[5, 6, 7])


@row("adapter", "layers repeated a million times", rule="adapter/replicates-layers", load="layer_replication")
def layer_replication(directory: Path) -> None:
    edit_adapter(directory, layer_replication=[[0, 1]] * 1000)


@row("adapter", "single embedding rows replaced", rule="adapter/token-rows", load="trainable_token_indices")
def token_rows(directory: Path) -> None:
    edit_adapter(directory, trainable_token_indices=[15])


@row("adapter", "PiSSA rewrites the base on load", rule="adapter/mutates-base", load=None)
def pissa(directory: Path) -> None:
    edit_adapter(directory, init_lora_weights="pissa")


@row("adapter", "fast PiSSA rewrites the base at random", rule="adapter/mutates-base", load="random sketch")
def pissa_fast(directory: Path) -> None:
    edit_adapter(directory, init_lora_weights="pissa_niter_4")


@row("adapter", "LoftQ rewrites the base on load", rule="adapter/mutates-base", load="")
def loftq(directory: Path) -> None:
    edit_adapter(directory, init_lora_weights="loftq", loftq_config={"loftq_bits": 4})


@row("adapter", "an adapter type that nobody knows", rule="adapter/type", load="type")
def adapter_type(directory: Path) -> None:
    edit_adapter(directory, peft_type="EVIL")


@row("adapter", "an adapter type that is not text", rule="adapter/type", load="type")
def adapter_type_list(directory: Path) -> None:
    edit_adapter(directory, peft_type=["LORA"])


@row("adapter", "a soft prompt has no update to merge", rule="adapter/no-update", load="")
def prompt_tuning(directory: Path) -> None:
    edit_adapter(directory, peft_type="PROMPT_TUNING")
    write_safetensors(directory / "adapter_model.safetensors", {"unknown": np.zeros((2, HIDDEN))})


@row("adapter", "no adapter tensor at all", rule="adapter/no-update", load="no adapter tensor")
def adapter_empty(directory: Path) -> None:
    tensors = {n: t for n, t in adapter_tensors().items() if "lora" not in n}
    write_safetensors(directory / "adapter_model.safetensors", tensors)


@row("adapter", "lora_A without its lora_B", rule="adapter/half-a-pair", exit_code=3, load="")
def adapter_half(directory: Path) -> None:
    tensors = adapter_tensors()
    del tensors["base_model.model.bert.encoder.layer.0.attention.self.value.lora_B.weight"]
    write_safetensors(directory / "adapter_model.safetensors", tensors)


@row("adapter", "an adapter of another width", rule=None, exit_code=0, load="another base")
def adapter_other_base(directory: Path) -> None:
    write_safetensors(directory / "adapter_model.safetensors", adapter_tensors(hidden=12))


@row("adapter", "an adapter for layers that are not there", rule=None, exit_code=0, load="another base")
def adapter_other_layers(directory: Path) -> None:
    tensors = {n.replace("layer.0", "layer.7"): t for n, t in adapter_tensors().items()}
    write_safetensors(directory / "adapter_model.safetensors", tensors)


@row("adapter", "factors whose ranks differ", rule="adapter/rank-mismatch", load="")
def adapter_ranks(directory: Path) -> None:
    name = "base_model.model.bert.encoder.layer.0.attention.self.query.lora_A.weight"
    edit_adapter_tensors(directory, **{name: np.ones((3, HIDDEN))})


@row("adapter", "a head of another number of labels", rule=None, exit_code=0, load=None)
def adapter_labels(directory: Path) -> None:
    edit_adapter_tensors(
        directory,
        **{"base_model.model.classifier.weight": np.ones((5, HIDDEN)), "base_model.model.classifier.bias": np.ones(5)},
    )


@row("adapter", "DoRA without its magnitudes", rule=None, exit_code=0, load="")
def dora_half(directory: Path) -> None:
    edit_adapter(directory, use_dora=True)


@row("adapter", "DoRA magnitudes with NaN", rule=None, exit_code=0, load="NaN")
def dora_nan(directory: Path) -> None:
    edit_adapter(directory, use_dora=True)
    prefix = "base_model.model.bert.encoder.layer.0.attention.self."
    edit_adapter_tensors(
        directory,
        **{f"{prefix}{p}.lora_magnitude_vector": np.full(HIDDEN, np.nan) for p in ("query", "value")},
    )


@row("adapter", "base_model_name_or_path points elsewhere", rule=None, exit_code=0, load=None)
def base_elsewhere(directory: Path) -> None:
    edit_adapter(directory, base_model_name_or_path="/etc", revision="refs/pr/1")


# ---- ideas beyond the list ----


def _split_on(directory: Path, *patterns: str) -> None:
    steps = [
        {"type": "Split", "pattern": {"Regex": p}, "behavior": "Isolated", "invert": False} for p in patterns
    ]  # fmt: skip
    edit_tokenizer(directory, pre_tokenizer={"type": "Sequence", "pretokenizers": steps})


@row("model", "a chat template that a careless search takes for ever", rule="tokenizer/chat-template", exit_code=0,
     load=None)  # fmt: skip
def chat_template_flood(directory: Path) -> None:
    (directory / "chat_template.jinja").write_text("import " * 200_000)


@row("model", "a pattern that hangs behind a second pair of brackets", rule="tokenizer/regex", load="for ever")
def tokenizer_regex_nested(directory: Path) -> None:
    _split_on(directory, r"((\w+))+\d!")


@row("model", "a pattern that hangs on alternatives", rule="tokenizer/regex", load="for ever")
def tokenizer_regex_either(directory: Path) -> None:
    _split_on(directory, r"(\w|\w)*\d!")


@row("model", "a pattern that takes the fifth power of a text's length", rule="tokenizer/regex", load="for ever")
def tokenizer_regex_power(directory: Path) -> None:
    _split_on(directory, r".*.*.*.*\d!")


@row("model", "a pattern that refers back", rule="tokenizer/regex", load="for ever")
def tokenizer_regex_back(directory: Path) -> None:
    _split_on(directory, r"(.*)\1\d")


@row("model", "hundreds of patterns that each cost the reader a while", rule="tokenizer/regex", load="regular")
def tokenizer_regex_many(directory: Path) -> None:
    _split_on(directory, *["[" * 4900] * 300)


@row("model", "the tokenizer pads every text to 10^9 tokens", rule=None, exit_code=0, load=None)
def tokenizer_padding(directory: Path) -> None:
    padding = {"strategy": {"Fixed": 10**9}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0,
               "pad_type_id": 0, "pad_token": "[PAD]"}  # fmt: skip
    edit_tokenizer(directory, padding=padding)


@row("model", "the tokenizer cuts every text to one token", rule=None, exit_code=0, load=None)
def tokenizer_truncation(directory: Path) -> None:
    edit_tokenizer(
        directory, truncation={"direction": "Left", "max_length": 1, "strategy": "LongestFirst", "stride": 0}
    )


@row("model", "an added word of 20,000,000 characters", rule="tokenizer/invalid", load="a word of more")
def tokenizer_long_word(directory: Path) -> None:
    tokens = tokenizer_document()["added_tokens"]
    edit_tokenizer(directory, added_tokens=[*tokens, {**tokens[0], "id": 30, "content": "x" * 20_000_000}])


@row("model", "a special token of 20,000,000 characters", rule="tokenizer/invalid", load="a word of more")
def tokenizer_long_special(directory: Path) -> None:
    settings = {"tokenizer_class": "BertTokenizer", "additional_special_tokens": ["x" * 20_000_000]}
    write_json(directory / "tokenizer_config.json", settings)


@row("model", "a tokenizer's limit that is no number", rule="tokenizer/invalid", load="model_max_length")
def tokenizer_limit_text(directory: Path) -> None:
    write_json(directory / "tokenizer_config.json", {"tokenizer_class": "BertTokenizer", "model_max_length": "many"})


@row("model", "a negative limit of the tokenizer", rule="tokenizer/invalid", load="model_max_length")
def tokenizer_limit_negative(directory: Path) -> None:
    write_json(directory / "tokenizer_config.json", {"tokenizer_class": "BertTokenizer", "model_max_length": -5})


@row("model", "a width of 2^26 that the weights have not", rule=None, exit_code=0, load="asks for")
def config_wide(directory: Path) -> None:
    edit_config(directory, intermediate_size=1 << 26)


@row("model", "a chunk size that no text divides by", rule=None, exit_code=0, load=None)
def config_chunk(directory: Path) -> None:
    edit_config(directory, chunk_size_feed_forward=7919)


@row("model", "a vocabulary of 2^26 that the weights have not", rule=None, exit_code=0, load="asks for")
def config_vocabulary(directory: Path) -> None:
    edit_config(directory, vocab_size=1 << 26)


@row("model", "4,096 layers for one", rule=None, exit_code=0, load="lacks")
def config_many_layers(directory: Path) -> None:
    edit_config(directory, num_hidden_layers=4096)


@row("model", "a sparse file of 6 GB that takes no space", rule=None, exit_code=0, load="asks for")
def weights_sparse(directory: Path) -> None:
    path, extra = directory / "model.safetensors", 6 << 30
    raw = path.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header, data = json.loads(raw[8 : 8 + size]), raw[8 + size :]
    header["unused.weight"] = {
        "dtype": "F32", "shape": [extra >> 16, 1 << 14], "data_offsets": [len(data), len(data) + extra]
    }  # fmt: skip
    write_raw(path, header, data)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size + extra)


@row("model", "200,000 findings", rule="tensor/name", load="tensor named")
def tensor_names_flood(directory: Path) -> None:
    inner = ",".join(f'"a b{i}":{{"dtype":"U8","shape":[],"data_offsets":[{i},{i + 1}]}}' for i in range(199_000))
    write_raw(directory / "model.safetensors", None, b"\0" * 199_000, text="{" + inner + "}")


@row("adapter", "modules_to_save of 390,000 names", rule="adapter/invalid", load="modules_to_save")
def saved_modules_flood(directory: Path) -> None:
    edit_adapter(directory, modules_to_save=[f"m{i}" for i in range(390_000)])
    names = [f"base_model.model.bert.encoder.layer.{i}.attention.self.query.x.weight" for i in range(20_000)]
    inner = {n: {"dtype": "U8", "shape": [], "data_offsets": [i, i + 1]} for i, n in enumerate(names)}
    write_raw(directory / "adapter_model.safetensors", inner, b"\0" * 20_000)


@row("model", "sentence-transformers imports what modules.json names", rule="json/remote-code", load="import")
def modules_json(directory: Path) -> None:
    write_json(directory / "modules.json", [{"idx": 0, "name": "0", "path": "", "type": "evil.Evil"}])
    (directory / "evil.py").write_text(evil_code(directory))


@row("model", "gigabytes of JSON that no loader reads", rule="json/side-file", exit_code=0, load=None)
def side_json_flood(directory: Path) -> None:
    for i in range(100):
        with (directory / f"side-{i}.json").open("wb") as file:
            file.truncate(60 << 20)


@row("model", "a file name that is not UTF-8", rule="file/name", load=None)
def file_name_bytes(directory: Path) -> None:
    Path(os.fsdecode(os.fsencode(directory) + b"/\xff\xfe.py")).write_text("x")


@row(
    "model",
    "weights that are a hard link to somebody's file",
    rule="weights/malformed",
    exit_code=3,
    load="safetensors",
)
def hard_link(directory: Path) -> None:
    (directory / "model.safetensors").unlink()
    (directory / "model.safetensors").hardlink_to(directory.parent / "secret")


@row("model", "labels with markup, HTML and log commands", rule=None, exit_code=0, load=None)
def label_markup(directory: Path) -> None:
    names = {"0": "[red]negative[/red]::error::x", "1": "<script>alert(1)</script>|`x`"}
    edit_config(directory, id2label=names, label2id={name: int(i) for i, name in names.items()})


if __name__ == "__main__":
    target = Path(sys.argv[1])
    for row_name in ROWS:
        make(row_name, target / row_name)
    print(f"{len(ROWS)} checkpoints under {target}")
