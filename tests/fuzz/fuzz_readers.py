"""Fuzz the readers of untrusted files: anything but a reader's own refusal is a crash.

    python tests/fuzz/fuzz_readers.py SEEDS -max_total_time=1800 -rss_limit_mb=2048

With atheris (coverage-guided, libFuzzer's options) where it is installed, else with a plain seeded mutator that knows
``-max_total_time`` (seconds) and ``-runs``. ``SEEDS`` is a directory, made and filled when it does not exist.
"""

from __future__ import annotations

import json
import random
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

try:
    import atheris
except ImportError:
    atheris = None


def _import() -> None:
    global adapter_rules, json_rules, strict_json, tokenizer_rules, header, preflight, verify, tables, errors
    from rora_cli import errors
    from rora_cli.checkpoints import adapter_rules, header, json_rules, preflight, strict_json, tokenizer_rules
    from rora_cli.commands import verify
    from rora_cli.data import tables


if atheris is not None:
    with atheris.instrument_imports(include=["rora_cli"]):
        _import()
else:
    _import()

SCRATCH = Path(tempfile.mkdtemp(prefix="rora-fuzz-"))


def _drain(findings: object) -> None:
    for found in findings:  # type: ignore[attr-defined]
        if not found.message.isprintable() or "::" in found.message:
            raise AssertionError(f"unescaped: {found.message!r}")


def _document(data: bytes, check: Callable[[object], object]) -> None:
    try:
        document = strict_json.loads(data, max_values=100_000)
    except strict_json.JsonError:
        return
    _drain(json_rules.remote_code("f.json", document))
    _drain(check(document))


def fuzz_header(data: bytes) -> None:
    try:
        parsed = header.parse_header(data, "f", 8 + len(data) + 64)
    except header.HeaderError:
        return
    if sum(t.end - t.start for t in parsed.tensors.values()) != 64:
        raise AssertionError("the tensors do not cover the data")


def fuzz_safetensors(data: bytes) -> None:
    _write("model.safetensors", data)
    with suppress(header.HeaderError):
        header.read_header(SCRATCH / "model.safetensors")


def fuzz_config(data: bytes) -> None:
    _document(data, json_rules.model_config)


def fuzz_tokenizer(data: bytes) -> None:
    _document(data, tokenizer_rules.tokenizer)


def fuzz_tokenizer_config(data: bytes) -> None:
    _document(data, tokenizer_rules.tokenizer_config)


def fuzz_adapter_config(data: bytes) -> None:
    def check(document: object) -> object:
        if not isinstance(document, dict):
            return []
        for name in ("base_model.model.a.lora_A.weight", "classifier.weight", "base_model.model.b.bias"):
            adapter_rules.tensor_role(name, document)
        return [*adapter_rules.check_config(document), *adapter_rules.check_tensors(["a.weight"], document, "f")]

    _document(data, check)


def fuzz_directory(data: bytes) -> None:
    """A whole directory: four files, cut out of the input."""
    pieces = data.split(b"\xff\xfe", 3)
    names = ("model.safetensors.index.json", "config.json", "model-00001-of-00001.safetensors", "adapter_config.json")
    for name, piece in zip(names, pieces, strict=False):
        _write(name, piece)
    for role in ("model", "adapter", "auto"):
        try:
            inspection = preflight.inspect(SCRATCH, role=role)
        except errors.CheckpointError:
            continue
        _drain(inspection.findings)
        with suppress(errors.CheckpointError):
            preflight.require_loadable(inspection)


def fuzz_manifest(data: bytes) -> None:
    _write("rora-manifest.json", data)
    with suppress(errors.CheckpointError):
        verify.run(verify.VerifyConfig(path=str(SCRATCH)))


def _table(ending: str) -> Callable[[bytes], None]:
    def fuzz(data: bytes) -> None:
        _write(f"rows.{ending}", data)
        with suppress(errors.DataError):
            tables.read_table(SCRATCH / f"rows.{ending}", frozenset({"text", "label", "sentence"}))

    return fuzz


TARGETS: tuple[Callable[[bytes], None], ...] = (
    fuzz_header, fuzz_safetensors, fuzz_config, fuzz_tokenizer, fuzz_tokenizer_config, fuzz_adapter_config,
    fuzz_directory, fuzz_manifest, _table("jsonl"), _table("json"), _table("csv"), _table("tsv"),
)  # fmt: skip


def one_input(data: bytes) -> None:
    """The first byte chooses the reader, the rest is the file."""
    if data:
        TARGETS[data[0] % len(TARGETS)](data[1:])


def _write(name: str, data: bytes) -> None:
    (SCRATCH / name).write_bytes(data)


def write_seeds(directory: Path) -> None:
    """Sound inputs for every reader, and the hostile corpus's own files."""
    from tests.hostile import corpus

    directory.mkdir(parents=True)
    entry = {"dtype": "F32", "shape": [4, 4], "data_offsets": [0, 64]}
    head = json.dumps({"__metadata__": {"format": "pt"}, "w": entry}).encode()
    whole = struct.pack("<Q", len(head)) + head + bytes(64)
    config, adapter = json.dumps(corpus.model_config()).encode(), json.dumps(corpus.adapter_config()).encode()
    index = json.dumps({"weight_map": {"w": "model-00001-of-00001.safetensors"}}).encode()
    tokenizer = json.dumps(corpus.tokenizer_document()).encode()
    settings = json.dumps({"tokenizer_class": "BertTokenizer", "chat_template": "x", "vocab_file": "a/b"}).encode()
    manifest = json.dumps({"schema_version": 1, "files": {"a": {"sha256": "0" * 64, "size": 3}}}).encode()
    rows = b'{"text": "good", "label": 1}\n{"text": "bad", "label": 0}\n'
    seeds = [
        head, whole, config, tokenizer, settings, adapter, b"\xff\xfe".join((index, config, whole, adapter)), manifest,
        rows, b"[" + rows.strip().replace(b"\n", b",") + b"]", b"text,label\ngood,1\n", b"text\tlabel\ngood\t1\n",
    ]  # fmt: skip
    for i, seed in enumerate(seeds):
        (directory / f"sound-{i}").write_bytes(bytes([i]) + seed)
    parent = Path(tempfile.mkdtemp(prefix="rora-seeds-"))
    kinds = {"config.json": 2, "tokenizer.json": 3, "tokenizer_config.json": 4, "adapter_config.json": 5}
    for name in corpus.ROWS:
        if name in ("many-files", "hub-cache", "hub-cache-escape"):
            continue
        made = corpus.make(name, parent / name)
        for file, kind in {**kinds, "model.safetensors": 1}.items():
            path = made / file
            if path.is_file() and not path.is_symlink() and path.stat().st_size < 4096:
                (directory / f"{name}-{kind}").write_bytes(bytes([kind]) + path.read_bytes())


def _plain_loop(seeds: Path, seconds: float, runs: float) -> None:
    rng, pool = random.Random(0), [p.read_bytes() for p in sorted(seeds.iterdir())]
    for data in pool:
        one_input(data)
    start, count = time.monotonic(), 0
    while time.monotonic() - start < seconds and count < runs:
        data = bytearray(rng.choice(pool))
        for _ in range(rng.randint(1, 8)):
            at = rng.randrange(len(data) + 1)
            other = rng.choice(pool)
            cut = rng.randrange(len(other))
            kind = rng.randrange(4)
            if kind == 0 and at < len(data):
                data[at] = rng.randrange(256)
            elif kind == 1:
                del data[at : at + rng.randint(1, 16)]
            elif kind == 2:
                data[at:at] = other[cut : cut + rng.randint(1, 64)]
            else:
                data[at:at] = rng.choice((b"[", b'"', b"{", b"-1", b"1e999", b"NaN", b"null", b"\\ud800", b"\x00"))
        try:
            one_input(bytes(data))
        except BaseException:
            Path("crash-plain").write_bytes(bytes(data))
            raise
        count += 1
    print(f"{len(pool)} seeds and {count} mutations in {time.monotonic() - start:.0f} s, no crash")


def main() -> None:
    seeds = Path(sys.argv[1]) if len(sys.argv) > 1 and not sys.argv[1].startswith("-") else SCRATCH / "seeds"
    if not seeds.exists():
        write_seeds(seeds)
    if atheris is None:
        given = dict(a.lstrip("-").split("=", 1) for a in sys.argv if a.startswith("-") and "=" in a)
        runs = float(given.get("runs", "inf"))
        _plain_loop(seeds, float(given.get("max_total_time", "inf" if runs < float("inf") else "60")), runs)
        return
    atheris.Setup([sys.argv[0], str(seeds), *(a for a in sys.argv[1:] if a.startswith("-"))], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
