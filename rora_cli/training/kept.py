"""Copies of weights that somebody goes back to, in memory where they fit, else on disk."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rora_cli.free_memory import free_memory
from rora_cli.tensor_files import Pending, write_tensors

#: Share of the free memory that copies may take. The work that goes on beside them needs the rest.
_SHARE = 0.5
#: What PEFT notes on a model or a layer while adapters are put on it or merged in.
_ADAPTERS = ("peft_config", "merged_adapters")


class Kept(Mapping[str, Tensor]):
    """The values that ``tensors`` have now, by name, whatever becomes of the originals.

    They are kept on the originals' device, else in the machine's memory, else in a safetensors file, whichever is the
    first with room. Reading one gives it on its original's device, and nobody may change what is read. The file has no
    name in its directory (which TMPDIR chooses), so that nothing is left of it when the process ends.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        first: dict[Any, str] = {}
        #: A tied weight has several names, and one copy.
        self._names = {n: first.setdefault((t.data_ptr(), t.shape, t.stride()), n) for n, t in tensors.items()}
        originals = {name: tensors[name].detach() for name in dict.fromkeys(self._names.values())}
        self._devices = {name: tensor.device for name, tensor in originals.items()}
        size = sum(tensor.nbytes for tensor in originals.values())
        self._read: Any = {}
        for device in (*dict.fromkeys(self._devices.values()), torch.device("cpu")):
            if size <= _SHARE * free_memory(device):
                self._read = {name: tensor.to(device, copy=True) for name, tensor in originals.items()}.__getitem__
                return
        self._read = _in_file(originals)

    def __getitem__(self, name: str) -> Tensor:
        stored = self._names[name]
        tensor: Tensor = self._read(stored)
        return tensor.to(self._devices[stored])

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    @torch.no_grad()
    def put_back(self, tensors: Mapping[str, Tensor]) -> None:
        """Give ``tensors`` [...] of the same names the values that they had."""
        for name, stored in self._names.items():
            if name == stored:
                tensors[name].copy_(self._read(name))


@contextmanager
def as_it_was(model: nn.Module) -> Iterator[None]:
    """Inside, ``model`` may be trained, and adapters put on it or merged in; after that it is as it was, to the bit.

    Its types and devices may not change. A second model stands in memory only where it fits (``Kept``).
    """
    kept = Kept(model.state_dict())
    trained = [(weight, weight.requires_grad) for weight in model.parameters()]
    modules = [
        (module, dict(module._modules), {name: copy(vars(module)[name]) for name in _ADAPTERS if name in vars(module)})
        for module in model.modules()
    ]
    try:
        yield
    finally:
        for module, children, noted in modules:
            module._modules.clear()
            module._modules.update(children)
            for name in _ADAPTERS:
                vars(module).pop(name, None)
            vars(module).update(noted)
        for weight, wanted in trained:
            weight.requires_grad_(wanted)
        kept.put_back(model.state_dict())


@torch.no_grad()
def keep_share(weights: Iterable[Tensor], starts: Iterable[Tensor], ends: Iterable[Tensor], share: float) -> None:
    """Give each of the ``weights`` [...] the value at ``share`` of the way from its start to its end, in place."""
    for weight, start, end in zip(weights, starts, ends, strict=True):
        weight.copy_(torch.lerp(start.to(end), end, share))


def _in_file(tensors: Mapping[str, Tensor]) -> Any:
    """Write ``tensors`` to a nameless file; returns what reads one of them."""
    from safetensors import safe_open

    with tempfile.TemporaryDirectory(prefix="rora-") as scratch:
        path = Path(scratch) / "kept.safetensors"
        write_tensors(path, [Pending(n, t.dtype, tuple(t.shape), t.detach) for n, t in tensors.items()])
        file: Any = safe_open(path, framework="pt")
    return file.get_tensor
