"""The top singular triplets of a base's weights: computed once for each weight, and cached by its content's hash."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import Tensor

from rora_cli.spectral.decomposition import TopSingular, top_singular

#: Version of the arithmetic; a new one makes the cache entries of older releases invalid.
_CACHE_VERSION = 2
_GPU_ENTRIES = 1 << 20


class BaseSpectra:
    """The top ``k`` triplets of weights; ``cache`` is a directory for them, or None.

    Entries are safetensors files, checked when they are read.
    """

    def __init__(self, k: int, *, seed: int = 0, cache: Path | None = None) -> None:
        self.k, self.seed, self.cache = k, seed, cache

    def top(self, W: Tensor) -> TopSingular:
        """The top triplets of W [d_out, d_in], of any float type; on the CPU, whichever device computed them."""
        if self.cache is None:
            return self._computed(W)
        path = self.cache / f"{self._key(W)}.safetensors"
        return self._cached(path, W) or self._kept(path, self._computed(W))

    def _computed(self, W: Tensor) -> TopSingular:
        device = "cuda" if torch.cuda.is_available() and W.numel() >= _GPU_ENTRIES else "cpu"
        top = top_singular(W.to(device, torch.float32), self.k, seed=self.seed)
        return TopSingular(top.U.cpu(), top.S.cpu(), top.V.cpu(), top.error_bound.cpu())

    def _key(self, W: Tensor) -> str:
        digest = hashlib.sha256(f"{_CACHE_VERSION} {tuple(W.shape)} {W.dtype} {self.k} {self.seed}".encode())
        digest.update(memoryview(W.contiguous().view(torch.uint8).flatten().numpy()))
        return digest.hexdigest()

    def _cached(self, path: Path, W: Tensor) -> TopSingular | None:
        from safetensors import SafetensorError
        from safetensors.torch import load

        k = min(self.k, *W.shape)
        shapes = {"U": (W.shape[0], k), "S": (k,), "V": (W.shape[1], k), "error_bound": (k,)}
        try:
            entry = load(path.read_bytes())
        except (OSError, SafetensorError):
            return None
        if {name: tuple(t.shape) for name, t in entry.items()} != shapes:
            return None
        if not all(torch.isfinite(tensor).all() for tensor in entry.values()):
            return None
        return TopSingular(**entry)

    def _kept(self, path: Path, top: TopSingular) -> TopSingular:
        from safetensors.torch import save

        from rora_cli.errors import OutputError
        from rora_cli.files import publish_file

        entry = {name: getattr(top, name).contiguous() for name in ("U", "S", "V", "error_bound")}
        try:
            publish_file(path, save(entry))
        except OutputError:
            return top  # without the cache, the next run just takes longer
        return top
