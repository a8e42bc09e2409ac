"""The rules of ``diagnose`` in addition to those of preflight, with their meanings; ids are stable across releases."""

from __future__ import annotations

from collections.abc import Mapping

RULES: Mapping[str, str] = {
    "spectral/not-analysed": "Tensors could not be analysed: what they do is unknown, and this is no clean bill.",
    "spectral/not-in-base": "Modules that the base does not have: they belong to another base, or change nothing.",
    "spectral/non-finite": "NaN or infinity in an update: the adapter is broken, or made to break what reads it.",
    "spectral/overflow": "An update that becomes infinite when it is merged in float32: made to break what loads it.",
    "spectral/zero-update": "The update is exactly zero: the module is as in the base.",
    "spectral/no-update": "Every update is exactly zero: the adapter adds nothing to the base.",
    "spectral/embedding-rows": "A few rows of an embedding moved far: words that the training was about, or a trigger.",
    "spectral/weak-update": "The update is far weaker than the base's weights: too weak to make it forget anything.",
    "spectral/aligned-update": "The update lies in W's top singular directions far more than chance would have it.",
    "spectral/outlier-module": "The update of this module is of another size than those of its kind.",
    "spectral/intruder-dimensions": "Top singular vectors of W + DeltaW that W does not have (arXiv:2410.21228).",
    "spectral/outside-calibration": "A statistic lies outside of what the known-good adapters of this base have.",
}
