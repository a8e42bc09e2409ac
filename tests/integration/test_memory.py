"""Peak resident memory beside what the libraries take, in a process of its own, as a multiple of the weights."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

#: A process imports everything, does the work, and prints how far its peak rose [bytes]. ``ru_maxrss`` would not do: a
#: process that another starts begins with the other's.
MEASURED = """
import accelerate, peft, torch, transformers
import rora_cli
from rora_cli.checkpoints.loading import load_classifier
from rora_cli.defences import inputs, output
from transformers.models.llama import modeling_llama

def peak():
    return 1024 * int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])

before = peak()
{work}
print(peak() - before)
"""
LOAD = "load_classifier({model!r})"
PURIFY = """
rora_cli.purify({model!r}, clean={rows!r}, output={out!r}, recipe="lora", epochs=1, batch_size=8, device="cpu",
                max_train_rows=24, max_held_out_rows=16)
"""


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of two wide blocks: 209 MB of float32."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForSequenceClassification, PreTrainedTokenizerFast

    words = ["<pad>", "<unk>", *(f"w{i}" for i in range(98))]
    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", unk_token="<unk>")
    config = LlamaConfig(
        hidden_size=1536, intermediate_size=3584, num_hidden_layers=2, num_attention_heads=12, num_key_value_heads=12,
        vocab_size=100, num_labels=2, pad_token_id=0, max_position_embeddings=64,
    )  # fmt: skip
    torch.manual_seed(0)
    with torch.device("meta"):
        model = LlamaForSequenceClassification(config)
    model.to_empty(device="cpu")
    for weight in model.state_dict().values():
        weight.normal_(0, 0.02) if weight.ndim > 1 else weight.fill_(1.0)
    directory = tmp_path_factory.mktemp("wide")
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    lines = [f'{{"text": "w{2 + i % 40} w{50 * (i % 2) + 3} w{i % 7 + 5}", "label": {i % 2}}}' for i in range(60)]
    (directory.parent / f"{directory.name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return directory


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the kernel tells a peak on Linux only")
@pytest.mark.parametrize(("work", "limit"), [(LOAD, 1.3), (PURIFY, 2.0)], ids=["load", "purify"])
def test_the_peak_is_a_small_multiple_of_the_weights(wide: Path, tmp_path: Path, work: str, limit: float) -> None:
    weights = (wide / "model.safetensors").stat().st_size
    filled = work.format(model=str(wide), rows=str(wide) + ".jsonl", out=str(tmp_path / "out"))
    done = subprocess.run(
        [sys.executable, "-c", MEASURED.format(work=filled)],
        capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    rise = int(done.stdout.split()[-1]) / weights
    print(f"{rise:.2f}")
    assert 0.9 < rise < limit, f"the peak rose by {rise:.2f} times the weights"
