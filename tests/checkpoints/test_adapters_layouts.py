"""Layouts outside PEFT, made out of PEFT's own tensors, and what a hostile or broken file gets."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rora_cli.checkpoints.adapters import Adapter, merge_into, read_adapter
from rora_cli.checkpoints.adapters.base import BaseWeights
from rora_cli.checkpoints.adapters.names import matching_pattern
from rora_cli.checkpoints.adapters.registry import FORMATS, WITHOUT_SPECTRUM
from rora_cli.checkpoints.preflight import inspect
from rora_cli.errors import CheckpointError
from tests.adapters import edit_config, edit_tensors, save_lora, tiny_distilbert

peft = pytest.importorskip("peft")
WEIGHTS = "adapter_model.safetensors"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> nn.Module:
    return tiny_distilbert(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture
def adapter(base: nn.Module, tmp_path: Path) -> Path:
    return save_lora(base, tmp_path / "adapter", target_modules=["q_lin", "v_lin"], lora_alpha=6)


def read(path: Path) -> Adapter:
    return read_adapter(inspect(path, role="adapter"))


def truth(base: nn.Module, adapter: Path) -> dict[str, Tensor]:
    return peft.PeftModel.from_pretrained(copy.deepcopy(base), str(adapter)).merge_and_unload().state_dict()


def pairs(adapter: Path) -> dict[str, tuple[Tensor, Tensor]]:
    tensors = load_file(adapter / WEIGHTS)
    names = [n.removesuffix(".lora_A.weight") for n in tensors if n.endswith(".lora_A.weight")]
    return {n.removeprefix("base_model.model."): tuple(tensors[f"{n}.lora_{x}.weight"] for x in "AB") for n in names}  # type: ignore[misc]


def write(directory: Path, tensors: dict[str, Tensor], config: dict[str, Any] | None = None) -> Path:
    directory.mkdir()
    save_file({n: t.contiguous() for n, t in tensors.items()}, directory / WEIGHTS)
    if config is not None:
        (directory / "adapter_config.json").write_text(json.dumps(config))
    return directory


def assert_same_merge(base: nn.Module, ours: Adapter, expected: dict[str, Tensor]) -> None:
    state = {n: t.clone() for n, t in base.state_dict().items()}
    merge_into(ours, state)
    for name, tensor in state.items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dotted", [True, False], ids=["diffusers", "kohya"])
def test_kohya_and_diffusers_names(base: nn.Module, adapter: Path, tmp_path: Path, dotted: bool) -> None:
    tensors = {}
    for name, (A, B) in pairs(adapter).items():
        path = f"{name}.lora" if dotted else "lora_te_" + name.replace(".", "_") + ".lora"
        separator = "." if dotted else "_"
        tensors |= {f"{path}{separator}down.weight": A, f"{path}{separator}up.weight": B}
        tensors[f"{path.removesuffix('.lora')}.alpha"] = torch.tensor(6.0)
    ours = read(write(tmp_path / "kohya", tensors))
    assert ours.format == "KOHYA" and len(ours.modules) == 8 and not ours.unmeasured
    assert_same_merge(base, ours, truth(base, adapter))


def test_without_an_alpha_kohya_means_a_scale_of_one(base: nn.Module, adapter: Path, tmp_path: Path) -> None:
    tensors = {}
    for name, (A, B) in pairs(adapter).items():
        tensors |= {f"{name}.lora_down.weight": A, f"{name}.lora_up.weight": B}
    ours = read(write(tmp_path / "kohya", tensors))
    edit_config(adapter, lora_alpha=4)  # r is 4
    assert_same_merge(base, ours, truth(base, adapter))


def test_mlx(base: nn.Module, adapter: Path, tmp_path: Path) -> None:
    tensors = {}
    for name, (A, B) in pairs(adapter).items():
        tensors |= {f"{name}.lora_a": A.T, f"{name}.lora_b": B.T}
    config = {"fine_tune_type": "lora", "lora_parameters": {"rank": 4, "scale": 1.5, "dropout": 0.0}}
    ours = read(write(tmp_path / "mlx", tensors, config))
    assert ours.format == "MLX" and len(ours.modules) == 8
    assert_same_merge(base, ours, truth(base, adapter))
    edit_config(tmp_path / "mlx", lora_parameters={"rank": 4})
    with pytest.raises(CheckpointError, match="scale"):
        read(tmp_path / "mlx")


@pytest.mark.parametrize(("kind", "options"), [("LoHa", {"r": 2}), ("LoKr", {"r": 2, "decompose_both": True})])
def test_lycoris_names(base: nn.Module, tmp_path: Path, kind: str, options: dict[str, Any]) -> None:
    config = getattr(peft, f"{kind}Config")(target_modules=["q_lin"], alpha=3, **options)
    model = peft.get_peft_model(copy.deepcopy(base), config)
    for name, parameter in model.named_parameters():
        if "hada_" in name or "lokr_" in name:
            parameter.data = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name))) * 0.3
    model.save_pretrained(tmp_path / "peft")
    tensors = {}
    for name, tensor in load_file(tmp_path / "peft" / WEIGHTS).items():
        path, _, part = name.removeprefix("base_model.model.").rpartition(".")
        tensors[f"lora_te_{path.replace('.', '_')}.{part}"] = tensor
        tensors[f"lora_te_{path.replace('.', '_')}.alpha"] = torch.tensor(3.0)
    ours = read(write(tmp_path / "lycoris", tensors))
    assert [m.format for m in ours.modules] == [kind.lower()] * 4
    assert_same_merge(base, ours, truth(base, tmp_path / "peft"))


@pytest.mark.parametrize("kind", [*WITHOUT_SPECTRUM])
def test_methods_without_a_spectrum_say_so(adapter: Path, kind: str) -> None:
    edit_config(adapter, peft_type=kind)
    ours = read(adapter)
    assert not ours.modules and set(ours.unmeasured) == set(load_file(adapter / WEIGHTS))


def test_unknown_types_are_refused_with_what_there_is(adapter: Path) -> None:
    edit_config(adapter, peft_type="MAGIC")
    with pytest.raises(CheckpointError, match=r"MAGIC.*LORA"):
        read(adapter)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"init_lora_weights": "loftq"}, "LoftQ"),
        ({"init_lora_weights": "pissa_niter_4"}, "random sketch"),
        ({"use_qalora": True}, "QALoRA"),
        ({"r": 5}, "rank"),
        ({"rank_pattern": {"q_lin": 3}}, "rank"),
    ],
)
def test_what_cannot_be_told_from_the_files_is_listed_with_the_reason(adapter: Path, fields: dict, reason: str) -> None:
    edit_config(adapter, **fields)
    ours = read(adapter)
    assert ours.unmeasured and all(reason in why for why in ours.unmeasured.values())
    measured = {t for m in ours.modules for t in m.tensors}
    assert measured | ours.unmeasured.keys() | ours.aside.keys() == set(load_file(adapter / WEIGHTS))


@pytest.mark.parametrize(
    "fields",
    [{"lora_alpha": "8"}, {"lora_alpha": True}, {"r": 0}, {"r": 2.5}, {"r": 10**9}, {"alpha_pattern": [1]},
     {"alpha_pattern": {"q_lin": None}}],
)  # fmt: skip
def test_config_values_out_of_bounds_are_one_sentence(adapter: Path, fields: dict[str, Any]) -> None:
    edit_config(adapter, **fields)
    with pytest.raises(CheckpointError, match=r"adapter_config\.json"):
        read(adapter)


def test_tensors_that_peft_would_not_load_are_not_measured(adapter: Path) -> None:
    name = "base_model.model.distilbert.transformer.layer.0.attention.q_lin"
    A = load_file(adapter / WEIGHTS)[f"{name}.lora_A.weight"]
    edit_tensors(
        adapter, **{"stray.lora_A.weight": A, "stray.lora_B.weight": A.T.contiguous(), f"{name}.x.lora_A.weight": A}
    )
    ours = read(adapter)
    assert len(ours.modules) == 8
    assert "prefix" in ours.unmeasured["stray.lora_A.weight"]
    assert "missing" in ours.unmeasured[f"{name}.x.lora_A.weight"]


def test_pattern_rule_is_pefts() -> None:
    from peft.utils.other import get_pattern_key

    patterns = ["q_lin", r"layer\.1\..*", "attention", "layer.0.attention.v_lin", "v_li"]
    for name in (
        "distilbert.layer.0.attention.q_lin",
        "layer.1.x",
        "a.layerX0.attention.v_lin",
        "v_lin",
        "xq_lin",
        "b.v_li",
    ):
        theirs = get_pattern_key(patterns, name)
        assert matching_pattern(patterns, name) == (theirs if theirs in patterns else None), name


def test_every_format_has_its_reader() -> None:
    from rora_cli.checkpoints.adapters.registry import _reader

    assert all(callable(_reader(kind)) for kind in FORMATS)


class _Names:
    def __init__(self, *names: str) -> None:
        self._names = names

    def names(self) -> tuple[str, ...]:
        return self._names

    def info(self, name: str) -> Any: ...

    def read(self, name: str) -> Any: ...


def test_where_a_module_lies_in_the_base() -> None:
    bare = BaseWeights(_Names("layer.0.q.weight", "layer.10.q.weight"))
    assert bare.find("bert.layer.0.q") == "layer.0.q.weight"
    assert BaseWeights(_Names("bert.layer.0.q.weight")).find("layer.0.q") == "bert.layer.0.q.weight"
    assert BaseWeights(_Names("a.layer.0.q.weight", "b.layer.0.q.weight")).find("layer.0.q") is None
    assert BaseWeights(_Names("layer.0.q.weight")).find("layer_0_q") == "layer.0.q.weight"
    assert bare.find("layer.1.q") is None
