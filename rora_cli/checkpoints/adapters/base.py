"""The base model's weights, found by an adapter's module names and read one at a time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from rora_cli.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

#: Families whose c_attn, c_proj, c_fc and q_attn are transformers' Conv1D: stored [d_in, d_out].
_CONV1D_FAMILIES = {"gpt2", "openai-gpt", "imagegpt", "decision_transformer", "clvp_decoder", "clvp"}
_FLOATS = {"F16", "BF16", "F32", "F64", "FLOAT16", "BFLOAT16", "FLOAT32", "FLOAT64"}
_CONV1D_LAYERS = {"c_attn", "q_attn", "c_proj", "c_fc"}


class TensorSource(Protocol):
    """What is needed of checkpoints.reader.TensorReader."""

    def names(self) -> Iterable[str]: ...

    def info(self, name: str) -> Any: ...

    def read(self, name: str) -> Tensor: ...


class BaseWeights:
    """Finds and reads the weight that a module of an adapter updates."""

    def __init__(self, reader: TensorSource, config: Mapping[str, Any] | None = None) -> None:
        self.reader = reader
        self.config = config or {}
        self._names = set(reader.names())
        self._by_tail: dict[str, list[str]] = {}
        for name in sorted(self._names):
            self._by_tail.setdefault(".".join(name.split(".")[-3:]), []).append(name)
        self._mangled = {n.removesuffix(".weight").replace(".", "_"): n for n in self._names if n.endswith(".weight")}

    def find(self, module: str, parameter: str = "weight") -> str | None:
        """The name of ``module``'s weight in the base, or None.

        A task model adds a prefix to the names of a bare encoder ("bert.") or lacks it, so up to two leading parts of
        the module's path may be missing in the base, or some may be in front there.
        """
        parts = module.split(".")
        for skip in range(min(3, len(parts))):
            wanted = ".".join([*parts[skip:], parameter])
            if wanted in self._names:
                return wanted
        wanted = f"{module}.{parameter}"
        candidates = [n for n in self._by_tail.get(".".join(wanted.split(".")[-3:]), ()) if n.endswith("." + wanted)]
        if len(candidates) == 1:
            return candidates[0]
        return self._mangled.get(module) if "." not in module else None

    def unreadable(self, name: str) -> str | None:
        """Why this weight cannot be computed with, or None: quantised types need scales that lie elsewhere."""
        dtype = str(self.reader.info(name).dtype)
        if dtype.removeprefix("torch.").upper() in _FLOATS:
            return None
        return f"{name} of the base is stored as {dtype}, quantised with scales elsewhere: give an unquantised base"

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.reader.info(name).shape)

    def is_conv1d(self, module: str) -> bool | None:
        """Whether the base stores this weight as [d_in, d_out]; None when the base does not say which family it is."""
        family = self.config.get("model_type")
        if not isinstance(family, str):
            return None
        return family in _CONV1D_FAMILIES and module.rpartition(".")[2] in _CONV1D_LAYERS

    def weight(self, name: str, shape: tuple[int, int], *, fan_in_fan_out: bool, expert: int | None = None) -> Tensor:
        """W [d_out, d_in] as a linear layer has it. CheckpointError when it does not have that ``shape``."""
        if why := self.unreadable(name):
            raise CheckpointError(why)
        weight = self.reader.read(name)
        if expert is not None and weight.ndim == 3:
            weight = weight[expert]
        weight = weight.flatten(1) if weight.ndim > 2 else weight
        if fan_in_fan_out:
            weight = weight.T
        if tuple(weight.shape) != shape:
            raise mismatch(name, tuple(weight.shape), shape)
        return weight


def mismatch(name: str, base: tuple[int, ...], adapter: tuple[int, int]) -> CheckpointError:
    return CheckpointError(
        f"{name} of the base is {list(base)}, but the adapter's update for it is {list(adapter)}: "
        "the adapter belongs to another base model."
    )
