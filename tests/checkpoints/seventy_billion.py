"""A directory in the shape of Llama-3-70B: 30 sparse shards of 141 GB in all, and a tokenizer of its size.

    python tests/checkpoints/seventy_billion.py DIRECTORY [REPEATS]

makes it, runs ``rora check`` on it, and prints wall and processor seconds.
"""

from __future__ import annotations

import json
import resource
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

HIDDEN, INNER, KEYS, BLOCKS, VOCABULARY, MERGES, SHARDS = 8192, 28672, 1024, 80, 128_256, 280_147, 30


def shapes() -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of the tensors in the order of the model."""
    yield "model.embed_tokens.weight", (VOCABULARY, HIDDEN)
    for block in range(BLOCKS):
        inner = {
            "self_attn.q_proj": (HIDDEN, HIDDEN), "self_attn.k_proj": (KEYS, HIDDEN),
            "self_attn.v_proj": (KEYS, HIDDEN), "self_attn.o_proj": (HIDDEN, HIDDEN), "mlp.gate_proj": (INNER, HIDDEN),
            "mlp.up_proj": (INNER, HIDDEN), "mlp.down_proj": (HIDDEN, INNER), "input_layernorm": (HIDDEN,),
            "post_attention_layernorm": (HIDDEN,),
        }  # fmt: skip
        yield from ((f"model.layers.{block}.{name}.weight", shape) for name, shape in inner.items())
    yield "model.norm.weight", (HIDDEN,)
    yield "lm_head.weight", (VOCABULARY, HIDDEN)


def build(directory: Path) -> Path:
    directory.mkdir(parents=True)
    config = {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": HIDDEN,
        "intermediate_size": INNER, "num_hidden_layers": BLOCKS, "num_attention_heads": 64, "num_key_value_heads": 8,
        "vocab_size": VOCABULARY, "max_position_embeddings": 8192, "torch_dtype": "bfloat16",
    }  # fmt: skip
    (directory / "config.json").write_text(json.dumps(config))
    tensors = list(shapes())
    weight_map: dict[str, str] = {}
    for number in range(SHARDS):
        file = f"model-{number + 1:05d}-of-{SHARDS:05d}.safetensors"
        part = tensors[number * len(tensors) // SHARDS : (number + 1) * len(tensors) // SHARDS]
        _write_sparse(directory / file, part)
        weight_map |= {name: file for name, _ in part}
    (directory / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    _write_tokenizer(directory)
    return directory


def _write_sparse(path: Path, tensors: list[tuple[str, tuple[int, ...]]]) -> None:
    header, end = {}, 0
    for name, shape in tensors:
        start, end = end, end + 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [start, end]}
    raw = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(raw)) + raw)
        file.truncate(8 + len(raw) + end)


def _write_tokenizer(directory: Path) -> None:
    words = [f"w{i:x}" for i in range(VOCABULARY)]
    merges = [[words[i % 50_000], words[i // 3]] for i in range(MERGES)]
    document = {
        "version": "1.0", "added_tokens": [], "normalizer": None, "pre_tokenizer": {"type": "ByteLevel"},
        "post_processor": None, "decoder": {"type": "ByteLevel"},
        "model": {"type": "BPE", "vocab": {word: i for i, word in enumerate(words)}, "merges": merges},
    }  # fmt: skip
    (directory / "tokenizer.json").write_text(json.dumps(document))
    (directory / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')


def check(directory: Path, *python_options: str) -> tuple[subprocess.CompletedProcess[str], float, float]:
    """``rora check`` in a process of its own, its wall seconds and its processor seconds."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, *python_options, "-m", "rora_cli", "check", "--quiet", str(directory)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return run, wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    place, repeats = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 10
    if not place.exists():
        build(place)
    runs = [check(place) for _ in range(repeats)]
    print(runs[0][0].stdout, runs[0][0].stderr)
    for what, values in (("wall", [r[1] for r in runs]), ("processor", [r[2] for r in runs])):
        print(f"{what}: median {statistics.median(values):.2f} s, {min(values):.2f} to {max(values):.2f}, of {repeats}")


if __name__ == "__main__":
    main()
