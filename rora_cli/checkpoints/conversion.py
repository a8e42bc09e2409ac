"""Advice for pickled weights: the command that converts these very files to safetensors, in a sandbox."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from rora_cli.checkpoints.layouts import ADAPTER_FILE, MODEL_FILE

#: Endings of files that torch.load reads; weights of Flax and TensorFlow are other formats.
TORCH_ENDINGS = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
_SHARD = re.compile(r"-\d{5}-of-\d{5}(?=\.\w+$)")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.\-]{1,120}")


def advice(pickles: Sequence[str], role: str) -> str:
    """What to do about weights that are only in ``pickles``, names of files in one directory.

    The command copies every tensor, because safetensors refuses tied tensors, which share memory. It fails for a file
    that holds anything but tensors; nobody should trust such a file.
    """
    name = next((n for n in pickles if n.endswith(TORCH_ENDINGS)), None)
    if name is None:
        return "use a copy that has safetensors, or ask its author for one: rora reads no Flax and TensorFlow weights"
    pattern = _SHARD.sub("-*", name)
    if not _PLAIN_NAME.fullmatch(pattern.replace("*", "")):
        return "rename it to pytorch_model.bin, and run again for the command that converts it in a sandbox"
    out = ADAPTER_FILE if role == "adapter" else MODEL_FILE
    code = (
        "import glob, torch, safetensors.torch as s; "
        f"t = {{k: v.clone().contiguous() for f in glob.glob('/m/{pattern}') "
        "for k, v in torch.load(f, map_location='cpu', weights_only=True).items()}; "
        f"s.save_file(t, '/m/{out}', {{'format': 'pt'}})"
    )
    return (
        f'convert it where it can do no harm: `docker run --rm --network=none -v DIR:/m IMAGE python -c "{code}"` '
        "(DIR: this directory's absolute path; IMAGE: one with torch and safetensors)"
    )


def weight_pickles(names: Sequence[str], role: str) -> list[str]:
    """The ``names`` of files in a checkpoint's root that look like pickled weights; those of ``role`` come first."""
    stems = (
        "pytorch_model",
        "adapter_model",
        "model",
        "consolidated",
        "tf_model",
        "flax_model",
        "diffusion_pytorch_model",
    )
    found = [n for n in names if "/" not in n and n.startswith(stems) and not n.endswith(".json")]
    wanted = "adapter" if role == "adapter" else "pytorch"
    return sorted(found, key=lambda n: (not n.startswith(wanted), PurePosixPath(n).suffix not in TORCH_ENDINGS, n))
