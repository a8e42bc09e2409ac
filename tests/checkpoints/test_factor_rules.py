"""Factors of an update that cannot be right by their headers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rora_cli.checkpoints import factor_rules
from rora_cli.checkpoints.header import TensorInfo
from rora_cli.checkpoints.preflight import inspect
from rora_cli.commands import check
from rora_cli.errors import ExitCode
from tests.hostile import corpus

QUERY = "base_model.model.bert.encoder.layer.0.attention.self.query"


def found(*tensors: tuple[str, tuple[int, ...], str], **config: object) -> list[str]:
    infos = {name: TensorInfo(name, dtype, shape, "a.safetensors", 0, 0) for name, shape, dtype in tensors}
    return [f.rule_id for f in factor_rules.check(infos, config, "a.safetensors")]


def pair(a: tuple[int, ...], b: tuple[int, ...], dtype: str = "F32", names: str = "lora_{}.weight") -> list[tuple]:
    first, second = ("a", "b") if names == "lora_{}" else ("A", "B")
    return [(f"m.{names.format(first)}", a, dtype), (f"m.{names.format(second)}", b, dtype)]


@pytest.mark.parametrize(
    "tensors",
    [
        pair((4, 32), (16, 4)),
        pair((4, 8, 3, 3), (16, 4, 1, 1)),  # convolutions
        pair((4, 60), (32, 4), names="lora_embedding_{}"),
        pair((24, 32), (16, 24)),  # six experts of rank 4 in one stack
        pair((4, 32), (16, 4), names="lora_{}.default.weight"),
        pair((32, 4), (4, 16), names="lora_{}"),  # MLX
        pair((4, 32), (0, 4)),  # another rule's
        [("m.lora_down.weight", (4, 32), "BF16"), ("m.lora_up.weight", (16, 4), "BF16"), ("m.alpha", (), "I64")],
        [*pair((4, 32), (16, 4), "F8_E4M3"), ("m.lora_B.bias", (16,), "F32")],
    ],
)
def test_sound_factors_of_every_layout(tensors: list[tuple]) -> None:
    assert found(*tensors) == []


def test_faults_of_a_pair() -> None:
    assert found(pair((4, 32), (16, 4))[0]) == ["adapter/half-a-pair"]
    assert found(*pair((4, 32), (16, 8))) == ["adapter/rank-mismatch"]
    assert found(*pair((32, 4), (8, 16), names="lora_{}")) == ["adapter/rank-mismatch"]
    assert found(*pair((4, 32), (16,))) == ["adapter/rank-mismatch"]
    assert found(*pair((4,), (16, 4))) == ["adapter/rank-mismatch"], "a vector of the right length is no factor"
    assert found(*pair((4, 32), (16, 8)), use_bdlora=True) == []
    assert found(*pair((4, 32), (16, 4), "I8")) == ["adapter/integer-factor"] * 2
    many = [(f"m{i}.lora_A.weight", (4, 32), "F32") for i in range(50)]
    assert found(*many) == ["adapter/half-a-pair"] * 6


def test_a_rank_that_the_config_does_not_have() -> None:
    """PEFT makes factors of the config's rank, and refuses to load others into them."""
    factors = pair((4, 32), (16, 4))
    assert found(*factors, peft_type="LORA", r=16) == ["adapter/rank-mismatch"]
    assert found(*factors, peft_type="LORA") == ["adapter/rank-mismatch"], "PEFT's default is 8"
    assert found(*factors, peft_type="LORA", r=4) == []
    assert found(*factors, peft_type="LORA", r=16, rank_pattern={"m": 4}) == []
    assert found(*pair((24, 32), (16, 24)), peft_type="LORA", r=4, target_parameters=["m"]) == []
    assert found(*factors, peft_type="ADALORA", r=16) == [], "it prunes ranks as it trains"
    assert found(*factors, peft_type="LORA", r="16") == [], "another rule reports what is no number"


def test_far_too_many_tensors_unless_they_are_experts() -> None:
    def adapter(module: str) -> list[tuple]:
        names = [f"layers.{i}.{module}.lora_{part}.weight" for i in range(10_001) for part in "AB"]
        return [(name, (2, 2), "F32") for name in names]

    assert found(*adapter("q_proj")) == ["adapter/too-many-tensors"]
    assert found(*adapter("experts.0")) == []


def test_check_tells_an_incomplete_adapter_from_a_wrong_one(tmp_path: Path) -> None:
    """Half a pair is something that could not be analysed; two ranks are a finding."""
    corpus.valid_adapter(tmp_path / "half")
    tensors = corpus.adapter_tensors()
    del tensors[f"{QUERY}.lora_B.weight"]
    corpus.write_safetensors(tmp_path / "half" / "adapter_model.safetensors", tensors)
    corpus.valid_adapter(tmp_path / "ranks")
    corpus.edit_adapter_tensors(tmp_path / "ranks", **{f"{QUERY}.lora_B.weight": np.zeros((corpus.HIDDEN, 5))})
    codes = {}
    for name in ("half", "ranks"):
        result = check.run(check.CheckConfig(paths=(str(tmp_path / name),)))
        codes[name] = check.exit_code(result, "medium")
    assert codes == {"half": ExitCode.INCONCLUSIVE, "ranks": ExitCode.FINDINGS}
    assert [f.rule_id for f in inspect(tmp_path / "half").findings] == ["adapter/half-a-pair"]
