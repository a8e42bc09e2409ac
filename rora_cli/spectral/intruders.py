"""Intruder dimensions (arXiv:2410.21228): top singular vectors of W + DeltaW that resemble none of W's."""

from __future__ import annotations

import torch
from torch import Tensor

from rora_cli.spectral.decomposition import require_finite_matrix


def intruder_dimensions(W: Tensor, delta: Tensor, *, top: int = 10, threshold: float = 0.5) -> int:
    """How many of the ``top`` left singular vectors of W + DeltaW [d_out, d_in] resemble no left singular vector of W.

    A vector resembles another if the absolute value of their cosine is at least ``threshold``. All of W's vectors
    count, so both SVDs are full: O(d^3), in float64 for exact cosines.
    """
    require_finite_matrix(W, "W")
    require_finite_matrix(delta, "DeltaW")
    before = torch.linalg.svd(W.double(), full_matrices=False).U
    after = torch.linalg.svd(W.double() + delta.double(), full_matrices=False).U[:, :top]
    return int(((before.T @ after).abs().amax(dim=0) < threshold).sum())
