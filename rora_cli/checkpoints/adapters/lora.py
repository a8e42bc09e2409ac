"""LoRA as PEFT saves it: rsLoRA, patterns, Conv1D, convolutions, embeddings, experts, DoRA, PiSSA, OLoRA."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from rora_cli.checkpoints.adapters import config as settings
from rora_cli.checkpoints.adapters import token_rows
from rora_cli.checkpoints.adapters.adapter import AdapterModule, FactorNames, Update
from rora_cli.checkpoints.adapters.names import group_parts, module_name
from rora_cli.checkpoints.adapters.source import Reading, Source, low_rank
from rora_cli.checkpoints.header import quoted

if TYPE_CHECKING:
    from torch import Tensor

_PARTS = {
    ".lora_A.weight": "A",
    ".lora_B.weight": "B",
    ".lora_B.bias": "bias",
    ".lora_embedding_A": "embedding_A",
    ".lora_embedding_B": "embedding_B",
    ".lora_magnitude_vector": "magnitude",
    ".lora_magnitude_vector.weight": "magnitude",
}

#: Initialisations -> how PEFT changes the base when it loads the adapter; the files do not tell enough to repeat it.
_IRREPRODUCIBLE = {
    "loftq": "LoftQ quantises the base",
    "corda": "CorDA splits the base by covariances of data",
    "lora_ga": "LoRA-GA splits the base by gradients of data",
    "pissa_niter": "fast PiSSA splits the base by a random sketch",
}
#: Start of the name of a parameter that only the base could tell.
_UNKNOWN_PARAMETER = "parameter_"
#: Initialisations that leave the base as it is.
_HARMLESS = ("gaussian", "eva", "orthogonal", "mica", "true", "false", "none", "")
#: Config fields that give an update another form than B A -> how.
_OTHER_FORMS = {
    "use_qalora": "QALoRA pools the inputs in groups",
    "use_bdlora": "BD-LoRA has block-diagonal factors",
    "kasa_config": "KaSA truncates the base's spectrum",
    "monteclora_config": "MonteCLoRA samples its update",
    "velora_config": "VeLoRA compresses activations",
    "arrow_config": "Arrow chooses among adapters by what the input is",
}
#: ``use_*`` and ``*_config`` fields that leave the form as it is. Any other such field may be an unknown variant.
_SAME_FORM = frozenset({
    "use_rslora", "use_dora", "use_cayley_neumann", "use_effective_conv2d", "loftq_config", "eva_config",
    "corda_config", "lora_ga_config", "runtime_config", "megatron_config",
})  # fmt: skip

_UNKNOWN_SCALE = (
    "the scale is unknown: there is no adapter_config.json, and the file's header states no alpha; put the "
    "adapter_config.json that belongs to it beside the file"
)


def read(source: Source) -> Reading:
    """Every module with a complete pair of factors."""
    reading = Reading()
    groups, rest = group_parts(source.names(), _PARTS)
    token_rows.read_rows(source, reading, rest, source.config.get("trainable_token_indices"))
    form = _other_form(source)
    init = str(source.config.get("init_lora_weights", "")).lower()
    lost = next((why for name, why in _IRREPRODUCIBLE.items() if init.startswith(name)), None)
    if lost is None and init not in (*_HARMLESS, "pissa", "olora"):
        lost = f"init_lora_weights is {quoted(init, 40)}, which may split the base"
    for path, parts in groups.items():
        if form:
            reading.skip(parts.values(), f"{form}: not a plain product of its factors")
        elif lost:
            reading.skip(parts.values(), f"{lost}: DeltaW against the original base cannot be told from the files")
        else:
            _module(source, reading, path, parts, init)
    return reading


def _other_form(source: Source) -> str | None:
    """Why the config's updates have another form than B A added to the module's weight, or None."""
    known = next((why for field, why in _OTHER_FORMS.items() if source.config.get(field)), None)
    if known is None and source.config.get("layer_replication") and source.base is not None:
        return "layer_replication renumbers the base's layers"
    if known is not None:
        return known
    for field, value in source.config.items():
        variant = field.startswith("use_") or (field.endswith("_config") and isinstance(value, dict))
        if variant and value and field not in _SAME_FORM:
            return f"the config sets {quoted(field, 40)}, which rora does not know"
    return None


def _module(source: Source, reading: Reading, path: str, parts: Mapping[str, str], init: str) -> None:
    if not path.startswith("base_model.model."):
        return reading.skip(parts.values(), "its name lacks PEFT's prefix base_model.model., so PEFT does not load it")
    embedding = "embedding_A" in parts
    A, B = (parts.get("embedding_A"), parts.get("embedding_B")) if embedding else (parts.get("A"), parts.get("B"))
    if A is None or B is None:
        return reading.skip(parts.values(), "lora_A or lora_B is missing")
    shape_A, shape_B = source.shape(A), source.shape(B)
    if len(shape_A) < 2 or len(shape_B) < 2 or min(*shape_A, *shape_B) < 1 or any(n > 1 for n in shape_B[2:]):
        return reading.skip(parts.values(), f"lora_A {list(shape_A)} and lora_B {list(shape_B)} are no matrices")
    if shape_A[0] != shape_B[1]:
        return reading.skip(parts.values(), f"lora_A {list(shape_A)} and lora_B {list(shape_B)} differ in rank")
    name, parameter = _target(source, module_name(path), shape_A, shape_B)
    if not settings.states_alpha(source.config):
        return reading.skip(parts.values(), _UNKNOWN_SCALE)
    own = shape_A[0] if "peft_type" not in source.config else None  # a header states no rank, the tensors do
    r = settings.module_rank(source.config, name if parameter is None else f"{name}.{parameter}", own)
    scaling = settings.lora_scaling(source.config, name if parameter is None else f"{name}.{parameter}", r)
    if parameter is not None:
        return _experts(source, reading, name, parameter, A, B, r, scaling)
    if shape_A[0] != r:
        return reading.skip(
            parts.values(), f"lora_A has rank {shape_A[0]}, but the config says {r}: PEFT does not load it"
        )
    shape = (shape_B[0], _flat(shape_A))
    dora = bool(source.config.get("use_dora"))
    if "magnitude" in parts and not dora:
        reading.set_aside([parts["magnitude"]], "use_dora is false in the config, so PEFT does not load it")
    split = init if init in ("pissa", "olora") and not embedding else None  # PEFT splits no embeddings
    if split and len(shape_A) > 2:
        return reading.skip(parts.values(), f"PEFT does not load a convolution with init_lora_weights {split}")
    build, needs_base, kind = _update(source, parts, A, B, r, scaling, split, dora)
    if needs_base is not None and build is None:
        return reading.skip(parts.values(), needs_base)
    tensors = [A, B] + [parts[p] for p in ("magnitude",) if p in parts and dora]
    if "bias" in parts:
        reading.set_aside([parts["bias"]], "a bias: added to the outputs, not part of DeltaW")
    fan = embedding or bool(source.config.get("fan_in_fan_out"))
    reading.modules.append(
        AdapterModule(
            name, _format(kind, embedding), shape, r, scaling, tuple(tensors), build, fan, needs_base,
            bias_tensor=parts.get("bias"), factors=None if needs_base else FactorNames(B, A),
        )
    )  # fmt: skip
    return None


def _format(kind: str, embedding: bool) -> str:
    if not embedding:
        return kind
    return "dora-embedding" if kind == "dora" else "embedding"


def _update(
    source: Source, parts: Mapping[str, str], A: str, B: str, r: int, scaling: float, split: str | None, dora: bool
) -> tuple[Any, str | None, str]:
    """(``build`` or None, why it needs the base or why there is none, format)."""
    if dora and split:
        return None, f"DoRA on {split}'s changed base: rora does not combine them", "dora"
    if dora and "magnitude" not in parts:
        return None, "use_dora is true, but lora_magnitude_vector is missing", "dora"
    if dora:
        why = "DoRA's DeltaW = m (W + s B A) / ||W + s B A|| - W depends on W"
        return partial(_dora, source, B, A, parts["magnitude"], scaling), why, "dora"
    if split:
        if split == "olora" and source.config.get("fan_in_fan_out"):
            return None, "OLoRA on a Conv1D layer splits W along its stored axes: not a product of these factors", split
        why = f"{split}'s DeltaW = s (B A - B_0 A_0) takes away the part of W that it started from"
        return partial(_residual, source, B, A, scaling, r, split), why, split
    return low_rank(source, B, A, scaling), None, "rslora" if source.config.get("use_rslora") else "lora"


def _dora(source: Source, B: str, A: str, magnitude: str, scaling: float, W: Tensor | None) -> Update:
    """DoRA (arXiv:2402.09353, equation 5), with the norm over the row of each output, as in PEFT.

    The outputs of an embedding are its dimensions, so there the norm runs over the whole vocabulary.
    """
    assert W is not None
    lora_B, lora_A = source.read(B).flatten(1), source.read(A).flatten(1)
    directed = W.double() + scaling * (lora_B.double() @ lora_A.double())
    m = source.read(magnitude).double().flatten()
    return Update(dense=(m / directed.norm(dim=1))[:, None] * directed - W.double())


def _residual(source: Source, B: str, A: str, scaling: float, r: int, split: str, W: Tensor | None) -> Update:
    """PiSSA (arXiv:2404.02948), OLoRA (arXiv:2406.01775): PEFT adds s B A to W - s B_0 A_0, so DeltaW has rank 2r."""
    import torch

    assert W is not None
    if split == "pissa":
        U, S, Vh = torch.linalg.svd(W.float(), full_matrices=False)
        start_B, start_A = U[:, :r] * S[:r], Vh[:r]
    else:
        Q, R = torch.linalg.qr(W.float())
        start_B, start_A = scaling * Q[:, :r], R[:r]
    lora_B = torch.cat([scaling * source.read(B).double(), -start_B.double()], dim=1)
    return Update(torch.cat([source.read(A).double(), start_A.double()]), lora_B)


def _target(source: Source, path: str, shape_A: tuple[int, ...], shape_B: tuple[int, ...]) -> tuple[str, str | None]:
    """The module's name, and the parameter if ``target_parameters`` names one of this module.

    PEFT nests one wrapper for each parameter of a module, and the ``base_layer`` parts in a tensor's name count them.
    Their order is that of the module's parameters, which only the base knows, so the shapes decide between several.
    """
    name = path.replace(".base_layer", "")
    targets = source.config.get("target_parameters") or []
    owned = [
        parameter
        for target in targets
        if isinstance(target, str)
        for owner, _, parameter in [target.rpartition(".")]
        if _owns(source, name, owner, parameter)
    ]
    if not owned:
        return path, None
    for parameter in owned if source.base else ():
        found = source.base.find(name, parameter) if source.base else None
        if found and source.base and set(source.base.shape(found)[-2:]) == {shape_A[1], shape_B[0]}:
            return name, parameter
    depth = path.count(".base_layer")
    return name, sorted(owned)[min(depth, len(owned) - 1)] if len(owned) == 1 else f"{_UNKNOWN_PARAMETER}{depth}"


def _owns(source: Source, name: str, owner: str, parameter: str) -> bool:
    """Whether the target ``owner``.``parameter`` is a parameter of the module ``name``; PEFT compares the names' ends.

    For a fused stack of experts (``gate_up_proj``) PEFT writes no owner. Then the base tells whose parameter it is;
    without a base, it may belong to any module that is not targeted whole.
    """
    if owner:
        return name == owner or name.endswith("." + owner)
    if source.base:
        return source.base.find(name, parameter) is not None
    modules = source.config.get("target_modules") or []
    return not isinstance(modules, list) or not any(name == m or name.endswith(f".{m}") for m in modules)


def _experts(
    source: Source, reading: Reading, name: str, parameter: str, A: str, B: str, r: int, scaling: float
) -> None:
    """Add a fused weight [experts, ...]; lora_A [experts * r, d_in] is ordered by expert, lora_B [d_out, r * experts]
    by rank."""
    stacked, d_in, d_out = source.shape(A)[0], source.shape(A)[1], source.shape(B)[0]
    if parameter.startswith(_UNKNOWN_PARAMETER) and settings.patterns(source.config, "rank_pattern"):
        return reading.skip((A, B), "rank_pattern ranks each parameter: which this is, only --base tells")
    if stacked % r:
        return reading.skip((A, B), f"lora_A has {stacked} rows, not a multiple of the rank {r}")
    experts = stacked // r
    for expert in range(experts):
        build = partial(_expert, source, A, B, experts, expert, scaling)
        reading.modules.append(
            AdapterModule(
                name, "experts", (d_out, d_in), r, scaling, (A, B), build,
                expert=expert if experts > 1 else None, parameter=parameter, factors=FactorNames(B, A, experts),
            )
        )  # fmt: skip
    return None


def _expert(source: Source, A: str, B: str, experts: int, expert: int, scaling: float, _: Tensor | None) -> Update:
    lora_A, lora_B = source.read(A), source.read(B)
    return Update(
        lora_A.reshape(experts, -1, lora_A.shape[-1])[expert],
        lora_B.reshape(lora_B.shape[0], -1, experts)[..., expert],
        scaling,
    )


def _flat(shape: tuple[int, ...]) -> int:
    out = 1
    for size in shape[1:]:
        out *= size
    return out
