"""The base model's weights: found by the module names of an adapter, and read one at a time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from rora_cli.errors import CheckpointError
from rora_cli.layout import EMBEDDINGS, TRAINED_HEADS

if TYPE_CHECKING:
    from torch import Tensor

    from rora_cli.checkpoints.adapters.converted import ConvertedSource

#: Families whose c_attn, c_proj, c_fc and q_attn are Conv1D modules of transformers, stored as [d_in, d_out].
_CONV1D_FAMILIES = {"gpt2", "openai-gpt", "imagegpt", "decision_transformer", "clvp_decoder", "clvp"}
_FLOATS = {"F16", "BF16", "F32", "F64", "FLOAT16", "BFLOAT16", "FLOAT32", "FLOAT64"}
_CONV1D_LAYERS = {"c_attn", "q_attn", "c_proj", "c_fc"}


class TensorSource(Protocol):
    """Tensors by name, as ``checkpoints.reader.TensorReader`` has them."""

    def names(self) -> Iterable[str]:
        """The names of all tensors."""

    def info(self, name: str) -> Any:
        """An object with the ``dtype`` and ``shape`` of a tensor."""

    def read(self, name: str) -> Tensor:
        """The tensor, in the shape ``[...]`` that ``info`` tells."""


#: Parameter -> its name in files from transformers' first years, and back.
_OLD_NAMES = {"weight": "gamma", "bias": "beta", "gamma": "weight", "beta": "bias"}
#: Output embeddings. If a model ties them to the input embeddings, a file holds only one of the two weights.
_OUTPUTS = {"lm_head", "embed_out", "vocab_projector", "generator_lm_head"}
_INPUTS = (EMBEDDINGS - _OUTPUTS) | {"tok_embeddings"}
#: Heads that a base may lack; no renaming finds them.
_NEW_HEADS = TRAINED_HEADS - {"lm_head"}


class _Names:
    """Names of tensors, to be found by a module's path with more or fewer leading parts."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = set(names)
        self._by_tail: dict[str, list[str]] = {}
        for name in sorted(self.names):
            self._by_tail.setdefault(".".join(name.split(".")[-3:]), []).append(name)

    def find(self, module: str, parameter: str) -> str | None:
        parts = module.split(".")
        for skip in range(min(3, len(parts))):
            wanted = ".".join([*parts[skip:], parameter])
            if wanted in self.names:
                return wanted
        wanted = f"{module}.{parameter}"
        candidates = [n for n in self._by_tail.get(".".join(wanted.split(".")[-3:]), ()) if n.endswith("." + wanted)]
        return candidates[0] if len(candidates) == 1 else None


class BaseWeights:
    """Finds and reads the weight that a module of an adapter updates."""

    def __init__(self, reader: TensorSource, config: Mapping[str, Any] | None = None) -> None:
        self.reader = reader
        self.config = config or {}
        self._own = _Names(reader.names())
        self._mangled = {
            n.removesuffix(".weight").replace(".", "_"): n for n in self._own.names if n.endswith(".weight")
        }
        self._found: dict[tuple[str, str], str | None] = {}
        self._converted: tuple[ConvertedSource, _Names] | None = None

    def find(self, module: str, parameter: str = "weight") -> str | None:
        """The name of ``module``'s weight in the base, or None.

        A task model puts a prefix ("bert.") before the names of a bare encoder. So the base may lack up to two leading
        parts of the module's path, or have additional ones. This also finds names from transformers' first years
        (LayerNorm.gamma), tied embeddings, and weights that transformers renames or combines when it loads the base.
        """
        key = (module, parameter)
        if key not in self._found:
            self._found[key] = (
                self._own.find(module, parameter)
                or (self._mangled.get(module) if "." not in module else None)
                or self._of_old_name(module, parameter)
                or self._tied(module, parameter)
                or self._as_loaded(module, parameter)
            )
        return self._found[key]

    def _of_old_name(self, module: str, parameter: str) -> str | None:
        is_norm = module.rpartition(".")[2] == "LayerNorm" and parameter in _OLD_NAMES
        return self._own.find(module, _OLD_NAMES[parameter]) if is_norm else None

    def _tied(self, module: str, parameter: str) -> str | None:
        """The input embedding that an output embedding shares its weight with, or the reverse."""
        last = module.rpartition(".")[2]
        if module.endswith("predictions.decoder"):  # BERT's masked-language head
            last = "lm_head"
        others = _INPUTS if last in _OUTPUTS else _OUTPUTS if last in _INPUTS else set()
        if parameter != "weight" or not others or not _ties_embeddings(self.config):
            return None
        names = [n for n in self._own.names if n.endswith(".weight") and n.split(".")[-2] in others]
        return names[0] if len(names) == 1 else None

    def _as_loaded(self, module: str, parameter: str) -> str | None:
        family = self.config.get("model_type")
        if not isinstance(family, str) or _NEW_HEADS.intersection(module.split(".")):
            return None
        if self._converted is None:
            from rora_cli.checkpoints.adapters.converted import ConvertedSource

            source = ConvertedSource(self.reader, family)
            self._converted, self.reader = (source, _Names(source.names())), source
        source, made = self._converted
        wanted = f"{module}.{parameter}"
        loaded, _, last = source.as_loaded(wanted).rpartition(".")
        return (
            made.find(module, parameter)
            or (self._own.find(loaded, last) if f"{loaded}.{last}" != wanted and last == parameter else None)
            or source.slice_of(wanted, lambda name: self._own.find(*_split(name)))
        )

    def unreadable(self, name: str) -> str | None:
        """Why rora cannot compute with this weight, or None: a quantised type needs scales that lie elsewhere."""
        dtype = str(self.reader.info(name).dtype)
        if dtype.removeprefix("torch.").upper() in _FLOATS:
            return None
        return f"{name} of the base is stored as {dtype}, quantised with scales elsewhere: give an unquantised base"

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a weight as the base stores it."""
        return tuple(self.reader.info(name).shape)

    def is_conv1d(self, module: str) -> bool | None:
        """Whether the base stores this weight as [d_in, d_out]; None if the base does not tell its family."""
        family = self.config.get("model_type")
        if not isinstance(family, str):
            return None
        return family in _CONV1D_FAMILIES and module.rpartition(".")[2] in _CONV1D_LAYERS

    def weight(self, name: str, shape: tuple[int, int], *, fan_in_fan_out: bool, expert: int | None = None) -> Tensor:
        """W [d_out, d_in], oriented as in a linear layer; of one ``expert`` in a fused weight.

        Raises CheckpointError if W has another ``shape``, or is quantised.
        """
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


def _ties_embeddings(config: Mapping[str, Any]) -> bool:
    """Whether both embeddings share one weight: the config says so, or else it is the default of its family."""
    said, family = config.get("tie_word_embeddings"), config.get("model_type")
    if isinstance(said, bool) or not isinstance(family, str):
        return said is True
    from transformers import CONFIG_MAPPING

    return family in CONFIG_MAPPING and getattr(CONFIG_MAPPING[family], "tie_word_embeddings", True) is True


def _split(name: str) -> tuple[str, str]:
    module, _, parameter = name.rpartition(".")
    return module, parameter


def mismatch(name: str, base: tuple[int, ...], adapter: tuple[int, int]) -> CheckpointError:
    """The error for an update of another shape than the base's weight."""
    return CheckpointError(
        f"{name} of the base is {list(base)}, but the adapter's update for it is {list(adapter)}: "
        "the adapter belongs to another base model."
    )
