"""How fast ``rora diagnose`` is, against ``adaptersentry scan`` and against the naive way, on adapters of real shapes.

    python benchmarks/diagnose_speed.py --directory /tmp/rora-bench [--shapes 7b 70b moe small] [--peer adaptersentry]

Synthetic adapters are made once and kept. Every number is wall time; the file is read once before, so that all tools
find it in the page cache. The floor is what reading the bytes and multiplying the Gram matrices alone would take.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from rora_cli.checkpoints.preflight import inspect
from rora_cli.checkpoints.reader import TensorReader
from rora_cli.commands.diagnose import DiagnoseConfig
from rora_cli.commands.diagnose.subject import diagnose_subject

#: name: (blocks, rank, {module: (d_out, d_in)}); llama-2's 7B, llama-3's 70B, a mixture of experts as 2-D stacks.
SHAPES: dict[str, tuple[int, int, dict[str, tuple[int, int]]]] = {
    "7b": (32, 16, {
        **{f"self_attn.{p}_proj": (4096, 4096) for p in "qkvo"},
        "mlp.gate_proj": (11008, 4096), "mlp.up_proj": (11008, 4096), "mlp.down_proj": (4096, 11008),
    }),
    "70b": (80, 16, {
        "self_attn.q_proj": (8192, 8192), "self_attn.k_proj": (1024, 8192), "self_attn.v_proj": (1024, 8192),
        "self_attn.o_proj": (8192, 8192), "mlp.gate_proj": (28672, 8192), "mlp.up_proj": (28672, 8192),
        "mlp.down_proj": (8192, 28672),
    }),
    "moe": (8, 8, {
        "self_attn.q_proj": (2048, 2048),
        **{f"mlp.experts.{e}.{p}_proj": (1024, 2048) for e in range(64) for p in ("gate", "up")},
    }),
}  # fmt: skip
CONFIG = {"peft_type": "LORA", "lora_alpha": 32, "task_type": "CAUSAL_LM", "target_modules": "all-linear"}


def make_adapter(directory: Path, shape: str) -> Path:
    """Write the adapter of ``shape`` in bf16, unless it is there."""
    path = directory / shape
    if (path / "adapter_config.json").is_file():
        return path
    blocks, r, modules = SHAPES[shape]
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for block in range(blocks):
        for module, (d_out, d_in) in modules.items():
            name = f"base_model.model.model.layers.{block}.{module}"
            tensors[f"{name}.lora_A.weight"] = torch.randn(r, d_in, generator=generator).bfloat16()
            tensors[f"{name}.lora_B.weight"] = torch.randn(d_out, r, generator=generator).mul(0.01).bfloat16()
    path.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path / "adapter_model.safetensors")
    (path / "adapter_config.json").write_text(json.dumps({**CONFIG, "r": r}))
    return path


def make_small_ones(directory: Path, count: int = 1000) -> Path:
    """``count`` adapters of two blocks and rank 4: what a batch over a hub mirror looks like."""
    root = directory / "small"
    for i in range(count):
        path = root / f"{i:04d}"
        if not (path / "adapter_config.json").is_file():
            path.mkdir(parents=True, exist_ok=True)
            names = [f"base_model.model.layers.{b}.self_attn.{p}_proj" for b in range(2) for p in "qv"]
            A, B = torch.randn(4, 256), torch.randn(256, 4)
            tensors = {f"{n}.lora_{x}.weight": t.clone() for n in names for x, t in (("A", A), ("B", B))}
            save_file(tensors, path / "adapter_model.safetensors")
            (path / "adapter_config.json").write_text(json.dumps({**CONFIG, "r": 4}))
    return root


def timed(action: Callable[[], object], repeats: int) -> float:
    """The best of ``repeats`` runs, in seconds."""
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        best = min(best, time.perf_counter() - start)
    return best


def command(arguments: list[str]) -> tuple[float, float]:
    """Seconds and peak memory (MB) of one run of a command line."""
    start = time.perf_counter()
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, _, usage = os.wait4(process.pid, 0)
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def floor(path: Path) -> dict[str, float]:
    """Seconds to read every byte once, and to multiply the Gram matrix of every factor in float64."""
    inspection = inspect(path, role="adapter")
    start = time.perf_counter()
    with TensorReader(inspection) as reader:
        tensors = [reader.read(name) for name in reader.names()]
    read = time.perf_counter() - start
    start = time.perf_counter()
    for tensor in tensors:
        wide = tensor if tensor.shape[0] < tensor.shape[1] else tensor.T
        wide = wide.double()
        wide @ wide.T
    return {"read": read, "gram": time.perf_counter() - start}


def naive(shape: str, sample: int = 1) -> float:
    """Seconds that dense B A and its full SVD would take, from ``sample`` of every distinct module shape."""
    blocks, r, modules = SHAPES[shape]
    total = 0.0
    for d_out, d_in in set(modules.values()):
        side = min(d_out, d_in, 2048)  # beyond, the cubic cost is scaled up instead of paid
        start = time.perf_counter()
        for _ in range(sample):
            torch.linalg.svdvals(torch.randn(side, r) @ torch.randn(r, side))
        cost = (time.perf_counter() - start) / sample * (min(d_out, d_in) ** 2 * max(d_out, d_in)) / side**3
        total += cost * blocks * sum(s == (d_out, d_in) for s in modules.values())
    return total


def measure(path: Path, shape: str, peer: str | None, repeats: int) -> dict[str, Any]:
    config = DiagnoseConfig(paths=(str(path),))
    inspection = inspect(path, role="adapter")
    weights = path / "adapter_model.safetensors"
    weights.read_bytes()
    row: dict[str, Any] = {"shape": shape, "megabytes": weights.stat().st_size / 2**20, "floor": floor(path)}
    row["analysis_seconds"] = timed(lambda: diagnose_subject(str(path), inspection, None, config), repeats)
    rora = [sys.executable, "-m", "rora_cli", "diagnose", str(path), "-q"]
    row["command_seconds"], row["command_megabytes"] = min(command(rora) for _ in range(repeats))
    if peer is not None:
        row["peer_seconds"], row["peer_megabytes"] = min(command([peer, "scan", str(weights)]) for _ in range(repeats))
    row["naive_seconds_extrapolated"] = naive(shape)
    return row


def against_svd(sizes: list[int], repeats: int) -> list[dict[str, Any]]:
    """top_singular (k = 32) against torch.linalg.svd on matrices with the decaying spectrum of trained weights."""
    from rora_cli.spectral.decomposition import top_singular

    rows = []
    for n in sizes:
        generator = torch.Generator().manual_seed(0)
        W = torch.randn(n, n, generator=generator) / n**0.5
        U, V = torch.randn(n, 64, generator=generator) / n**0.5, torch.randn(n, 64, generator=generator) / n**0.5
        W += U * torch.linspace(8, 2, 64) @ V.T  # outliers above a random bulk
        start = time.perf_counter()
        S = torch.linalg.svd(W, full_matrices=False).S
        dense = time.perf_counter() - start
        fast = timed(lambda W=W: top_singular(W, 32), repeats)
        top = top_singular(W, 32)
        error = abs(top.sigma_max / float(S[0]) - 1)
        bound = top.sigma_max_relative_error
        rows.append({"n": n, "svd_seconds": dense, "seconds": fast, "relative_error": error, "reported_bound": bound})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--shapes", nargs="*", default=["7b", "70b", "moe"], choices=[*SHAPES])
    parser.add_argument("--sizes", nargs="*", type=int, default=[2048, 4096], help="sides of W for the base's part")
    parser.add_argument("--small", type=int, default=1000, help="how many small adapters in the batch; 0 for none")
    parser.add_argument("--peer", default=shutil.which("adaptersentry"), help="the adaptersentry program")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    report: dict[str, Any] = {"threads": torch.get_num_threads(), "torch": torch.__version__}
    report["adapters"] = [
        measure(make_adapter(options.directory, shape), shape, options.peer, options.repeats)
        for shape in options.shapes
    ]
    if options.small:
        root = make_small_ones(options.directory, options.small)
        pattern = str(root / "*")
        seconds, megabytes = command([sys.executable, "-m", "rora_cli", "diagnose", pattern, "-q", "--workers", "2"])
        report["batch"] = {"adapters": options.small, "seconds": seconds, "megabytes": megabytes}
    report["base"] = against_svd(options.sizes, options.repeats)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
