"""Peak resident memory beside what the libraries take, in a process of its own, as a multiple of the weights."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.causal import build_tiny_causal

ROOT = Path(__file__).parents[2]
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


#: The same after a run on a tiny model, which loads what libraries load late, and with what is planned.
PLANNED = """
import gc, json, sys
from pathlib import Path
import rora_cli
from rora_cli.commands import plan
from rora_cli.defences.config import PurifyConfig
from tests.causal import build_tiny_causal, tiny_exchanges

def stated(name):
    return 1024 * int(open("/proc/self/status").read().split(name + ":")[1].split()[0])

given = dict(recipe="lora", epochs=2, batch_size=8, device="cpu", max_train_rows=48, max_held_out_rows=16)
root, model = Path(sys.argv[1]), sys.argv[2]
rows = root / "rows.jsonl"
rows.write_text("".join(json.dumps({"prompt": p, "completion": r}) + chr(10) for p, r in zip(*tiny_exchanges(400))))
rora_cli.purify(str(build_tiny_causal(root / "tiny")), clean=str(rows), output=str(root / "first"), **given)
gc.collect()
before = stated("VmRSS")
Path("/proc/self/clear_refs").write_text("5")
rora_cli.purify(model, clean=str(rows), output=str(root / "out"), **given)
measured = stated("VmHWM") - before
planned = plan.run(PurifyConfig(model=model, clean=str(rows), output=str(root / "none"), **given))
print(measured, max(stage.memory for stage in planned.stages))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the kernel forgets a peak on Linux only")
@pytest.mark.parametrize(
    ("family", "sizes"), [("llama", {"width": 1536}), ("gpt2", {"width": 512, "layers": 6})], ids=["llama", "gpt2"]
)
def test_a_causal_model_takes_what_is_planned(tmp_path: Path, family: str, sizes: dict[str, int]) -> None:
    model = build_tiny_causal(tmp_path / "model", family, **sizes)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PLANNED, str(tmp_path), str(model)],
        capture_output=True, text=True, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    measured, planned = map(float, done.stdout.split()[-2:])
    print(f"{planned / measured:.2f}")
    assert planned == pytest.approx(measured, rel=0.2)


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
