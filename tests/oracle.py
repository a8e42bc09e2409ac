"""Adapters made of whole numbers, the same on every machine, and what adaptersentry says of them.

adaptersentry shares no code with rora. Run this file with a Python that has it, to write the golden file anew:

    python tests/oracle.py [DIRECTORY with the real adapters distilbert-imdb and gpt2-classifier]

Without the directory the golden file keeps what it has of these two.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

GOLDEN = Path(__file__).parent / "golden" / "adaptersentry.json"
REAL = ("distilbert-imdb", "gpt2-classifier")
MODULES = {"q_proj": (96, 64), "v_proj": (48, 64), "down_proj": (64, 3000)}
#: name: (rank, fields of the config, ratio of lora_B's last column to its first)
MADE: dict[str, tuple[int, dict[str, Any], float]] = {
    "lora": (4, {"lora_alpha": 12}, 1.0),
    "rslora": (9, {"lora_alpha": 6, "use_rslora": True}, 0.1),
    "ill-conditioned": (16, {"lora_alpha": 16}, 1e-2),
}


def write(name: str, directory: Path) -> Path:
    """The adapter ``name`` of ``MADE``: entries come from a linear congruence, scaled by column."""
    rank, config, ratio = MADE[name]
    tensors, seed = {}, 1
    for block in range(2):
        for module, (d_out, d_in) in MODULES.items():
            path = f"base_model.model.model.layers.{block}.layer.{module}"
            tensors[f"{path}.lora_A.weight"] = _numbers(seed, (rank, d_in))
            tensors[f"{path}.lora_B.weight"] = _numbers(seed + 1, (d_out, rank)) * ratio ** np.linspace(
                0, 1, rank, dtype=np.float32
            )
            seed += 2
    directory.mkdir(parents=True)
    save_file({k: np.ascontiguousarray(v, dtype=np.float32) for k, v in tensors.items()},
              directory / "adapter_model.safetensors")  # fmt: skip
    (directory / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": rank, **config}))
    return directory


def _numbers(seed: int, shape: tuple[int, int]) -> Any:
    """Numbers in [-1, 1) with 16 bits, by Knuth's multiplicative hash of their place."""
    place = np.arange(shape[0] * shape[1], dtype=np.uint64) + np.uint64(seed << 20)
    mixed = (place * np.uint64(2654435761)) % np.uint64(1 << 32) >> np.uint64(16)
    return ((mixed.astype(np.float32) - 32768) / 32768).reshape(shape)


def say(directory: Path) -> dict[str, Any]:
    """adaptersentry's numbers for every module of an adapter, by "block.module"."""
    from adaptersentry.scanner import scan

    result = scan(directory / "adapter_model.safetensors", include_modules=True)
    wanted = ("log_rms", "log_sigma1", "top1_e", "srank_r", "pr_r")
    return {
        f"{m.layer}.{m.module}": {"scale": m.scale, "rank": m.rank, **{k: getattr(m.features, k) for k in wanted}}
        for m in result.modules or ()
    }


def main(real: Path | None) -> None:
    """Write the golden file."""
    from adaptersentry.version import __version__

    known = json.loads(GOLDEN.read_text())["adapters"] if GOLDEN.is_file() else {}
    adapters = {name: known[name] for name in REAL if name in known}
    if real is not None:
        adapters |= {name: say(real / name) for name in REAL}
    with tempfile.TemporaryDirectory() as directory:
        adapters |= {name: say(write(name, Path(directory) / name)) for name in MADE}
    GOLDEN.write_text(json.dumps({"adaptersentry": __version__, "adapters": adapters}, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
