"""Write the table of docs/planning.md from the estimate itself: python scripts/build_memory_table.py [--check]

The models have the shapes of well-known families, and no numbers: a step of each is run on the meta device.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# What the processor that writes the table computes in does not count.
os.environ["ACCELERATE_MIXED_PRECISION"] = "no"
TARGET = Path(__file__).parent.parent / "docs" / "planning.md"
_TABLE = re.compile(r"(<!-- memory -->\n).*?(<!-- /memory -->)", re.DOTALL)
_GB = 1e9
#: Name -> hidden size, layers, heads, key-value heads, feed-forward size, vocabulary; the first is an encoder.
SHAPES = {
    "125M": (768, 12, 12, 12, 3072, 50265),
    "1B": (2048, 16, 32, 8, 8192, 128256),
    "8B": (4096, 32, 32, 8, 14336, 128256),
    "32B": (5120, 64, 40, 8, 27648, 152064),
    "70B": (8192, 80, 64, 8, 28672, 128256),
}
DEVICES = {"24 GB": (24e9, 1), "80 GB": (80e9, 1), "8 x 80 GB": (80e9, 8)}
#: Tokens of the longest row, and rows of an optimizer step on each device.
LONGEST, BATCH = 512, 8
#: Share of a GPU's memory that a run can have: the driver and the allocator's rounding take the rest.
USABLE = 0.92


def model(name: str, dtype: str) -> Any:
    """What builds a classifier of that shape on the meta device."""
    import torch
    from transformers import (
        LlamaConfig,
        LlamaForSequenceClassification,
        RobertaConfig,
        RobertaForSequenceClassification,
    )

    from rora_cli.planning.skeleton import skeleton

    width, layers, heads, keys, wide, vocabulary = SHAPES[name]
    shared = {
        "hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads, "intermediate_size": wide,
        "vocab_size": vocabulary,
    }  # fmt: skip
    if name == "125M":
        kind: Any = RobertaForSequenceClassification
        return skeleton(kind, RobertaConfig(**shared, max_position_embeddings=LONGEST + 2), getattr(torch, dtype))
    decoder = LlamaConfig(**shared, num_key_value_heads=keys)
    return skeleton(LlamaForSequenceClassification, decoder, getattr(torch, dtype))


def needs(name: str) -> list[dict[str, int]]:
    """Bytes for each work on a device, for each number of devices."""
    from rora_cli.kinds import SEQUENCE_CLASSIFIER
    from rora_cli.planning.needs import Needs
    from rora_cli.training.specs import AdapterSpec, TrainSpec

    half = Needs(model(name, "bfloat16"), SEQUENCE_CLASSIFIER, on_gpu=True)
    whole = Needs(model(name, "float32"), SEQUENCE_CLASSIFIER, on_gpu=True)
    adapter = AdapterSpec(rank=16, alpha=32.0, target_modules=("all-linear",))
    found = []
    for _, devices in DEVICES.values():
        train = TrainSpec(batch_size=BATCH * devices, gradient_checkpointing=True)
        lora = half.over(devices).adapter(adapter, train, LONGEST, cl=0.0, processes=devices)
        full = whole.over(devices).full(train, LONGEST, processes=devices)
        found.append(
            {
                "hunt, bf16": half.searching(48),
                "purify --recipe lora, bf16": lora.memory,
                "purify --recipe full, float32": full.memory,
            }
        )
    return found


def table() -> Iterator[str]:
    """The rows of the table."""
    yield f"| model | work | {' | '.join(DEVICES)} |"
    yield f"|---|---|{'---|' * len(DEVICES)}"
    for name in SHAPES:
        by_devices = needs(name)
        for work in by_devices[0]:
            sizes = (size for size, _ in DEVICES.values())
            cells = [_cell(needed[work], size) for needed, size in zip(by_devices, sizes, strict=True)]
            yield f"| {name} | {work} | {' | '.join(cells)} |"


def _cell(wanted: float, size: float) -> str:
    needed = f"{wanted / _GB:,.0f}" if wanted >= 100 * _GB else f"{wanted / _GB:.3g}"
    return f"{needed} GB{'' if wanted <= USABLE * size else ': no'}"


def render(text: str) -> str:
    """The page with the table as the code computes it."""
    rows = "\n".join(table())
    return _TABLE.sub(lambda match: f"{match[1]}\n{rows}\n\n{match[2]}", text)


if __name__ == "__main__":
    page = TARGET.read_text(encoding="utf-8")
    if "--check" in sys.argv:
        sys.exit(0 if page == render(page) else "docs/planning.md is out of date: run scripts/build_memory_table.py")
    TARGET.write_text(render(page), encoding="utf-8")
