"""How fast ``rora diagnose`` is, against ``adaptersentry scan`` and against the naive way, on adapters of real shapes.

    python benchmarks/diagnose_speed.py --directory /tmp/rora-bench [--peer-python ENV/bin/python] [--parts ...]

Synthetic adapters are made once and kept. Both programs run by turns, one thread each, on one core, on files that lie
in the page cache. Seconds are of the processor (user and system), which other programs disturb least; wall time stands
beside them. A ratio is taken in every round: the median and the range over rounds are reported. "analysis" is from the
path to the findings in a process that has its imports done, the sha256 of the file included on both sides; "command" is
all of the program. The floor is reading the bytes once and multiplying the Gram matrices in float32, and no more.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

#: name: (blocks, rank, {module: (d_out, d_in)}); llama-2's 7B, llama-3's 70B, a mixture of experts a module each.
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
#: The same mixture as transformers 5 has it: fused [experts, ...] weights, adapted through target_parameters.
FUSED = (8, 8, 64, {"mlp.experts.base_layer": (2048, 2048), "mlp.experts": (2048, 1024)})
CONFIG = {"peft_type": "LORA", "lora_alpha": 32, "task_type": "CAUSAL_LM", "target_modules": "all-linear"}
TARGETS = {"target_modules": [], "target_parameters": ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]}

RORA_ANALYSIS = """
import json, sys, time
from rora_cli.commands.diagnose import DiagnoseConfig, run
import rora_cli.commands.diagnose.subject
wall, cpu = time.perf_counter(), time.process_time()
run(DiagnoseConfig(paths=(sys.argv[1],)))
print(json.dumps([time.process_time() - cpu, time.perf_counter() - wall]))
"""
PEER_ANALYSIS = """
import json, sys, time
from pathlib import Path
from adaptersentry.scanner import scan
wall, cpu = time.perf_counter(), time.process_time()
scan(Path(sys.argv[1]))
print(json.dumps([time.process_time() - cpu, time.perf_counter() - wall]))
"""


@dataclass(frozen=True)
class Cost:
    """Seconds of the processor and on the wall, and the peak of memory in MB (0 where it is not known)."""

    cpu: float
    wall: float
    megabytes: float = 0.0


def make_adapter(directory: Path, name: str, layout: tuple[int, int, dict[str, tuple[int, int]]] | None = None) -> Path:
    """Write the adapter ``name`` in bf16, unless it is there."""
    blocks, r, modules = layout or SHAPES[name]
    return _written(directory / name, {**CONFIG, "r": r}, [
        (f"base_model.model.model.layers.{block}.{module}", (r, d_in), (d_out, r))
        for block in range(blocks) for module, (d_out, d_in) in modules.items()
    ])  # fmt: skip


def make_fused(directory: Path) -> Path:
    blocks, r, experts, modules = FUSED
    return _written(directory / "moe-fused", {**CONFIG, **TARGETS, "r": r}, [
        (f"base_model.model.model.layers.{block}.{module}", (experts * r, d_in), (d_out, r * experts))
        for block in range(blocks) for module, (d_out, d_in) in modules.items()
    ])  # fmt: skip


def _written(path: Path, config: dict[str, Any], pairs: list[tuple[str, tuple[int, int], tuple[int, int]]]) -> Path:
    import torch
    from safetensors.torch import save_file

    if (path / "adapter_config.json").is_file():
        return path
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for name, shape_A, shape_B in pairs:
        tensors[f"{name}.lora_A.weight"] = torch.randn(shape_A, generator=generator).bfloat16()
        tensors[f"{name}.lora_B.weight"] = torch.randn(shape_B, generator=generator).mul(0.01).bfloat16()
    path.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path / "adapter_model.safetensors")
    (path / "adapter_config.json").write_text(json.dumps(config))
    return path


def make_small_ones(directory: Path, count: int) -> Path:
    """``count`` adapters of two blocks and rank 4: what a batch over a hub mirror looks like."""
    layout = (2, 4, {f"self_attn.{p}_proj": (256, 256) for p in "qv"})
    for i in range(count):
        make_adapter(directory / "small", f"{i:04d}", layout)
    return directory / "small"


def child(arguments: list[str]) -> tuple[Cost, str]:
    """One run of a program, and what it printed. Raises CalledProcessError for exit codes other than 0 and 1."""
    with tempfile.TemporaryFile() as out:
        start = time.perf_counter()
        process = subprocess.Popen(arguments, stdout=out, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        if os.waitstatus_to_exitcode(status) not in (0, 1):
            raise subprocess.CalledProcessError(os.waitstatus_to_exitcode(status), arguments)
        out.seek(0)
        return Cost(usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss / 1024), out.read().decode()


def analysis(python: str, code: str, path: Path) -> Cost:
    _, printed = child([python, "-c", code, str(path)])
    return Cost(*json.loads(printed))


def rounds(peer: str | None, path: Path, repeats: int) -> dict[str, Any]:
    """Both programs by turns on one adapter: medians, and the ratios of every round."""
    weights = path / "adapter_model.safetensors"
    with weights.open("rb") as file:  # into the page cache, and not into this process's memory
        while file.read(1 << 20):
            pass
    steps: dict[str, Callable[[], Cost]] = {
        "analysis": lambda: analysis(sys.executable, RORA_ANALYSIS, path),
        "command": lambda: child([sys.executable, "-m", "rora_cli", "diagnose", str(path), "-q"])[0],
    }
    if peer is not None:
        steps["peer analysis"] = lambda: analysis(peer, PEER_ANALYSIS, weights)
        steps["peer command"] = lambda: child([peer, "-m", "adaptersentry", "scan", str(weights)])[0]
    costs: dict[str, list[Cost]] = {name: [] for name in steps}
    for _ in range(repeats):
        for name, step in steps.items():
            costs[name].append(step())
    row: dict[str, Any] = {"megabytes": weights.stat().st_size / 2**20}
    for name, seen in costs.items():
        row[name] = {"cpu": median(c.cpu for c in seen), "wall": median(c.wall for c in seen),
                     "peak_megabytes": max(c.megabytes for c in seen)}  # fmt: skip
    for name in ("analysis", "command") if peer is not None else ():
        row[f"{name} ratio"] = {
            what: _spread([getattr(b, what) / getattr(a, what)
                           for a, b in zip(costs[name], costs[f"peer {name}"], strict=True)])
            for what in ("cpu", "wall")
        }  # fmt: skip
    return row


def _spread(values: list[float]) -> list[float]:
    return [median(values), min(values), max(values)]


def best_cpu(action: Callable[[], object], repeats: int = 3) -> float:
    """The least seconds of the processor over ``repeats`` runs."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        action()
        times.append(time.process_time() - start)
    return min(times)


def inside(path: Path) -> dict[str, float]:
    """Where the time goes: preflight, measuring, hashing; and the floor of reading and of Gram matrices."""
    import numpy as np

    from rora_cli.checkpoints.preflight import inspect
    from rora_cli.checkpoints.reader import TensorReader
    from rora_cli.commands.diagnose import DiagnoseConfig
    from rora_cli.commands.diagnose.subject import diagnose_subject

    inspection, config = inspect(path, role="adapter"), DiagnoseConfig(paths=(str(path),))
    buffer = bytearray(max(t.end - t.start for t in inspection.tensors.values()))
    with TensorReader(inspection) as reader:
        read = best_cpu(lambda: [reader.read_array(name, buffer) for name in reader.names()])
    tall = [t.shape if t.shape[0] > t.shape[1] else t.shape[::-1] for t in inspection.tensors.values()]
    ready = {shape: np.random.default_rng(0).random(shape, np.float32) for shape in set(tall)}
    return {
        "inspect": best_cpu(lambda: inspect(path, role="adapter")),
        "measure": best_cpu(lambda: diagnose_subject("", inspection, None, config)),
        "hash": best_cpu(inspection.hashes),
        "floor_read": read,
        "floor_gram": best_cpu(lambda: [ready[shape].T @ ready[shape] for shape in tall]),
        "modules": len(inspection.tensors) / 2,
    }


def growth(directory: Path) -> list[dict[str, Any]]:
    """How the cost grows with blocks, rank and width, one at a time from 8 blocks of rank 16 at 4096."""
    rows = []
    for what, values in (("blocks", (8, 16, 32)), ("rank", (8, 32, 64)), ("width", (2048, 8192))):
        for value in values:
            blocks, r, d = ({"blocks": 8, "rank": 16, "width": 4096} | {what: value}).values()
            modules = {f"self_attn.{p}_proj": (d, d) for p in "qkvo"}
            path = make_adapter(directory, f"growth-{blocks}-{r}-{d}", (blocks, r, modules))
            rows.append({"blocks": blocks, "rank": r, "width": d, **inside(path)})
    return rows


def naive(shape: str) -> float:
    """Seconds that dense B A and its full SVD would take, from a smaller side of every distinct module shape."""
    import torch

    blocks, r, modules = SHAPES[shape]
    total = 0.0
    for d_out, d_in in set(modules.values()):
        side = min(d_out, d_in, 1024)  # beyond, the cubic cost is scaled up instead of paid
        dense = torch.randn(side, r) @ torch.randn(r, side)
        seconds = best_cpu(partial(torch.linalg.svdvals, dense), 1)
        scale = min(d_out, d_in) ** 2 * max(d_out, d_in) / side**3
        total += seconds * scale * blocks * sum(s == (d_out, d_in) for s in modules.values())
    return total


def against_svd(sizes: list[int]) -> list[dict[str, Any]]:
    """top_singular (k = 32) against torch.linalg.svd on matrices with the decaying spectrum of trained weights."""
    import torch

    from rora_cli.spectral.decomposition import top_singular

    rows = []
    for n in sizes:
        generator = torch.Generator().manual_seed(0)
        W = torch.randn(n, n, generator=generator) / n**0.5
        U, V = torch.randn(n, 64, generator=generator) / n**0.5, torch.randn(n, 64, generator=generator) / n**0.5
        W += U * torch.linspace(8, 2, 64) @ V.T  # outliers above a random bulk
        times = [best_cpu(partial(top_singular, W, 32), 1) for _ in range(5)]
        top = top_singular(W, 32)
        start = time.process_time()
        S = torch.linalg.svd(W, full_matrices=False).S
        dense = time.process_time() - start
        rows.append({
            "n": n, "svd": dense, "top": median(times), "ratio": _spread([dense / t for t in times]),
            "difference": abs(top.sigma_max / float(S[0]) - 1), "reported_bound": top.sigma_max_relative_error,
        })  # fmt: skip
    return rows


def batch(directory: Path, count: int) -> dict[str, Any]:
    """Many small adapters in one run, against one run for each of them and against reading their files."""
    root = make_small_ones(directory, count)
    files = [file for file in root.rglob("*") if file.is_file()]
    rora = [sys.executable, "-m", "rora_cli", "diagnose"]
    cost, _ = child([*rora, str(root / "*"), "-q"])
    single, _ = child([*rora, str(root / "0000"), "-q"])
    reading = best_cpu(lambda: [file.read_bytes() for file in files])
    return {"adapters": count, "megabytes": sum(f.stat().st_size for f in files) / 2**20, "cpu": cost.cpu,
            "wall": cost.wall, "peak_megabytes": cost.megabytes, "cpu_of_one_alone": single.cpu,
            "cpu_each": (cost.cpu - single.cpu) / (count - 1), "cpu_reading": reading}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--parts", nargs="*", default=["adapters", "growth", "batch", "base"])
    parser.add_argument("--shapes", nargs="*", default=[*SHAPES, "moe-fused"], choices=[*SHAPES, "moe-fused"])
    parser.add_argument("--sizes", nargs="*", type=int, default=[4096], help="sides of W for the base's part")
    parser.add_argument("--small", type=int, default=1000, help="how many small adapters in the batch")
    parser.add_argument("--peer-python", help="a Python that has adaptersentry")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        if os.environ.get(name) != "1":
            parser.error(f"set {name}=1: the comparison is of one thread with one thread")
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    paths = {shape: options.directory / shape for shape in options.shapes}
    if "make" in options.parts:  # by a process of its own: a child's peak memory is at least what its parent had
        for shape in options.shapes:
            make_fused(options.directory) if shape == "moe-fused" else make_adapter(options.directory, shape)
        make_small_ones(options.directory, options.small)
        return
    child([sys.executable, __file__, *sys.argv[1:], "--parts", "make"])
    report: dict[str, Any] = {}
    if "adapters" in options.parts:
        rows = {shape: rounds(options.peer_python, path, options.repeats) for shape, path in paths.items()}
        report["adapters"] = rows
    if "batch" in options.parts:
        report["batch"] = batch(options.directory, options.small)
    for shape, row in report.get("adapters", {}).items():
        row.update(inside(paths[shape]))
        row.update({} if shape == "moe-fused" else {"naive": naive(shape)})
    if "growth" in options.parts:
        report["growth"] = growth(options.directory)
    if "base" in options.parts:
        report["base"] = against_svd(options.sizes)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
