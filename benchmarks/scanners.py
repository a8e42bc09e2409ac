"""What rora, modelaudit and picklescan say of the same directories: python benchmarks/scanners.py OUT.json

Each directory is made here, and holds one thing that a gate should stop at, or nothing. A scanner is a command, and its
exit code is what a pipeline sees. Needs modelaudit and picklescan on the path, or in $SCANNERS, a folder of programs.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from safetensors.numpy import save_file


class Trap:
    """Runs a command when it is unpickled: `true`, which does nothing."""

    def __reduce__(self) -> Any:
        return os.system, ("true",)


class Unknown:
    """Imports what no list knows."""

    def __reduce__(self) -> Any:
        return pickle.whichmodule, ("x", "y")  # type: ignore[attr-defined]


def model(directory: Path) -> Path:
    """A small, honest checkpoint."""
    directory.mkdir(parents=True)
    tensors = {f"layer.{i}.weight": np.ones((8, 8), "f4") * i for i in range(4)}
    save_file(tensors, str(directory / "model.safetensors"), {"format": "pt"})
    (directory / "config.json").write_text(json.dumps({"model_type": "bert", "architectures": ["BertModel"]}))
    (directory / "tokenizer_config.json").write_text("{}")
    return directory


def adapter(directory: Path, **settings: Any) -> Path:
    """A LoRA on two modules; ``settings`` go into its config."""
    directory.mkdir(parents=True)
    names = [f"base_model.model.layer.{i}.q.lora_{f}.weight" for i in range(2) for f in "AB"]
    shapes = {"A": (2, 8), "B": (8, 2)}
    save_file({n: np.full(shapes[n[-8]], 0.01, "f4") for n in names}, str(directory / "adapter_model.safetensors"))
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q"], **settings}
    (directory / "adapter_config.json").write_text(json.dumps(config))
    return directory


def edited(name: str, change: dict[str, Any]) -> Callable[[Path], Path]:
    def make(directory: Path) -> Path:
        path = model(directory) / name
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
        return directory

    return make


def beside(name: str, content: bytes) -> Callable[[Path], Path]:
    def make(directory: Path) -> Path:
        (model(directory) / name).write_bytes(content)
        return directory

    return make


def archive(payload: Any) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as members:
        members.writestr("archive/data.pkl", pickle.dumps(payload, protocol=2))
    return out.getvalue()


def packed(payload: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as members:
        info = tarfile.TarInfo("weights.pkl")
        info.size = len(payload)
        members.addfile(info, io.BytesIO(payload))
    return out.getvalue()


def half_pair(directory: Path) -> Path:
    adapter(directory)
    names = {"base_model.model.layer.0.q.lora_A.weight": np.full((2, 8), 0.01, "f4")}
    save_file(names, str(directory / "adapter_model.safetensors"))
    return directory


def hidden_base(directory: Path) -> Path:
    adapter(directory)
    tensors = {
        "base_model.model.layer.0.q.lora_A.weight": np.full((2, 8), 0.01, "f4"),
        "base_model.model.layer.0.q.lora_B.weight": np.full((8, 2), 0.01, "f4"),
        "base_model.model.layer.0.mlp.weight": np.ones((8, 8), "f4"),
    }
    save_file(tensors, str(directory / "adapter_model.safetensors"))
    return directory


def cut_off(directory: Path) -> Path:
    path = model(directory) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-64])
    return directory


def link_out(directory: Path) -> Path:
    (model(directory) / "vocab.txt").symlink_to("/etc/hostname")
    return directory


TEMPLATE = "{{ ''.__class__.__mro__[1].__subclasses__() }}{% for m in messages %}{{ m.content }}{% endfor %}"
BENIGN = {"state": {"step": 3, "values": [0.1, 0.2]}}
#: Name -> (what makes the directory, whether a gate should let it through).
CASES: dict[str, tuple[Callable[[Path], Path], bool]] = {
    "honest model": (model, True),
    "honest adapter": (adapter, True),
    "honest model with trainer state": (beside("optimizer.pt", archive(BENIGN)), True),
    "os.system in pytorch_model.bin beside safetensors": (beside("pytorch_model.bin", archive(Trap())), False),
    "os.system in optimizer.pt": (beside("optimizer.pt", archive(Trap())), False),
    "os.system in a plain pickle": (beside("training_args.bin", pickle.dumps(Trap())), False),
    "an unknown import in a pickle": (beside("scheduler.pt", pickle.dumps(Unknown())), False),
    "a pickle named vocab.txt": (beside("vocab.txt", pickle.dumps(Trap(), protocol=4)), False),
    "a pickle in a .tar.gz": (beside("weights.tar.gz", packed(pickle.dumps(Trap()))), False),
    "auto_map in config.json": (edited("config.json", {"auto_map": {"AutoModel": "evil.Model"}}), False),
    "code beside the weights": (beside("modeling_x.py", b"import os\nos.system('true')\n"), False),
    "a chat template that leaves its sandbox": (edited("tokenizer_config.json", {"chat_template": TEMPLATE}), False),
    "cut-off safetensors": (cut_off, False),
    "a link to /etc": (link_out, False),
    "JSON that is cut off": (beside("tokenizer.json", b'{"model": {"vocab": {'), False),
    "an adapter with a weight of the base": (hidden_base, False),
    "an adapter with half a pair": (half_pair, False),
    "an adapter that imports code": (
        lambda d: adapter(d, auto_mapping={"base_model_class": "X", "parent_library": "evil"}), False
    ),
    "an adapter scaled by 10,000": (lambda d: adapter(d, lora_alpha=20000), False),
    "a Git LFS pointer": (
        beside("model.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"), False
    ),
}  # fmt: skip


def commands() -> dict[str, list[str]]:
    """The scanners as a pipeline would call them, at their own defaults."""
    place = os.environ.get("SCANNERS")
    found = {name: shutil.which(name, path=place) or shutil.which(name) for name in ("modelaudit", "picklescan")}
    return {
        "rora check": [sys.executable, "-m", "rora_cli", "check", "-q"],
        **({"modelaudit": [found["modelaudit"], "scan", "--quiet"]} if found["modelaudit"] else {}),
        **({"picklescan": [found["picklescan"], "--path"]} if found["picklescan"] else {}),
    }


def main(out: Path) -> None:
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for number, (name, (make, passes)) in enumerate(CASES.items()):
            directory = make(Path(scratch) / f"case-{number}")
            said = {}
            for scanner, command in commands().items():
                start = perf_counter()
                done = subprocess.run([*command, str(directory)], capture_output=True, text=True, timeout=300)
                said[scanner] = {
                    "code": done.returncode, "seconds": round(perf_counter() - start, 2),
                    "output": (done.stdout + done.stderr).replace(scratch, "")[-4000:],
                }  # fmt: skip
            results[name] = {"should pass": passes, "said": said}
            print(f"{name}: { ({s: v['code'] for s, v in said.items()}) }", flush=True)
    out.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
