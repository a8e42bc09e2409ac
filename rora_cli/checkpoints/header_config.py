"""The settings of an adapter in its weights file: the ``__metadata__`` of a safetensors header.

kohya's trainers write ``ss_network_alpha``, diffusers its whole config as JSON, others ``lora_alpha``. Like
adapter_config.json, these are the author's claims, and go through the same checks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from rora_cli.checkpoints import strict_json

_ALPHA_KEYS = ("lora_alpha", "ss_network_alpha", "network_alpha", "alpha")
_FLAGS = ("use_rslora", "use_dora")
_MAX_JSON = 1 << 20
_MAX_VALUES = 20_000


def read(metadata: Mapping[str, str]) -> dict[str, Any]:
    """``lora_alpha`` and other fields of PEFT's that the header states; empty if it states no alpha.

    Fields inside of a JSON value count too, with or without a component's name in front (``unet.lora_alpha``). A field
    that is stated several times counts only if all values agree.
    """
    stated: dict[str, list[Any]] = {}
    for key, value in metadata.items():
        fields = _document(value)
        for name, field in ({key: value} if fields is None else fields).items():
            _note(stated, name.rpartition(".")[2], field)
    found = {name: values[0] for name, values in stated.items() if all(value == values[0] for value in values)}
    alpha = next((found[key] for key in _ALPHA_KEYS if key in found), None)
    if alpha is None or ("alpha_pattern" in stated and "alpha_pattern" not in found):
        return {}
    return {"lora_alpha": alpha} | {key: found[key] for key in (*_FLAGS, "alpha_pattern") if key in found}


def states_scale(tensors: Iterable[str], metadata: Mapping[str, Mapping[str, str]]) -> bool:
    """Whether a file without adapter_config.json tells its scale.

    Alpha tensors tell it, or the header, or the convention of kohya, by which a missing alpha equals the rank.
    """
    names = [f".{name}" for name in tensors]
    ends = (".alpha", ".lora_down.weight", ".lora.down.weight")
    if any(name.endswith(ends) or ".hada_w1" in name or ".lokr_w" in name for name in names):
        return True
    return any(read(words) for words in metadata.values())


def _document(value: str) -> dict[str, Any] | None:
    """The object in a metadata value that is JSON."""
    if not value.lstrip().startswith("{") or len(value) > _MAX_JSON:
        return None
    try:
        document = strict_json.loads(value.encode(), max_values=_MAX_VALUES)
    except (strict_json.JsonError, UnicodeEncodeError):
        return None
    return document if isinstance(document, dict) else None


def _note(stated: dict[str, list[Any]], name: str, value: Any) -> None:
    if name in _ALPHA_KEYS and (number := _number(value)) is not None:
        stated.setdefault(name, []).append(number)
    elif name in _FLAGS and str(value).lower() in ("true", "false"):
        stated.setdefault(name, []).append(str(value).lower() == "true")
    elif name == "alpha_pattern" and isinstance(value, dict) and value:
        stated.setdefault(name, []).append(value)


def _number(value: Any) -> float | None:
    """``value`` as a positive, finite number, written as a number or as text; else None (kohya writes "None")."""
    try:
        number = float(value) if type(value) in (int, float, str) and len(str(value)) < 40 else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) and 0 < number <= 1e6 else None
