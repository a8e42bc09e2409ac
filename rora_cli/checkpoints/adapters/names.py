"""Names of modules and tensors: PEFT's prefix, and its patterns, of which the first match counts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, TypeVar

from rora_cli.errors import CheckpointError

PEFT_PREFIX = "base_model.model."
T = TypeVar("T")


def module_name(tensor: str) -> str:
    """The path of a tensor or module in the base: ``tensor`` without the prefix that PEFT's wrappers add."""
    return tensor.removeprefix(PEFT_PREFIX)


def group_parts(names: Iterable[str], suffixes: Mapping[str, str]) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Group tensor names by module: {module: {part: tensor name}}, and the names that end in none of ``suffixes``.

    ``suffixes`` maps the end of a name (".lora_A.weight") to the part that it stands for ("A").
    """
    groups: dict[str, dict[str, str]] = {}
    rest = []
    for name in names:
        end = next((s for s in suffixes if name.endswith(s)), None)
        if end is None:
            rest.append(name)
        else:
            groups.setdefault(name[: -len(end)], {})[suffixes[end]] = name
    return groups, rest


def pattern_value(patterns: Mapping[str, T], module: str, default: T) -> T:
    """The value of the first pattern that matches, as in PEFT's ``get_pattern_key``, else ``default``.

    PEFT runs ``re.match(rf"(.*\\.)?({key})$", module)`` with keys from an untrusted file; RE2 takes linear time for it.
    """
    key = matching_pattern(patterns, module)
    return default if key is None else patterns[key]


def matching_pattern(patterns: Iterable[str], module: str) -> str | None:
    """The first of ``patterns`` that PEFT would apply to ``module``."""
    for key in patterns:
        if module == key or module.endswith("." + key) or _compiled(key).fullmatch(module):
            return key
    return None


@lru_cache(maxsize=4096)
def _compiled(key: str) -> Any:
    import re2

    options = re2.Options()
    options.max_mem = 8 << 20
    options.log_errors = False
    try:
        return re2.compile(rf"(?s:(?:.*\.)?(?:{key}))", options)
    except re2.error:
        shown = ascii(key[:80])
        raise CheckpointError(
            f"adapter_config.json: the pattern {shown} in rank_pattern or alpha_pattern is not a regular expression "
            "that can be matched safely (RE2); write the module names out."
        ) from None
