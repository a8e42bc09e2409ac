"""The shipped JSON Schemas: what the types say, and what real reports are. Other tests hold theirs with ``valid``."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args, get_type_hints

import jsonschema
import pytest
import torch
from safetensors.torch import save_file

from rora_cli.commands import behaviours, check, rules
from rora_cli.commands.diagnose import DiagnoseConfig, run
from rora_cli.reports import json_report
from rora_cli.reports.json_schema import build, meanings, shipped
from rora_cli.reports.terminal.demo import render as render_demo
from rora_cli.results.demo import DemoResult
from rora_cli.results.reports import REPORTS, report
from tests.adapters import save_lora, tiny_distilbert
from tests.golden.normalise import PASSING
from tests.hostile import corpus
from tests.reports.samples import SAMPLES
from tests.reports.schemas import valid, validator
from tests.reports.test_findings_formats import HOSTILE, result

REAL = os.environ.get("RORA_TEST_ADAPTERS")
GOLDEN = Path(__file__).parents[1] / "golden" / "runs"


def document(*paths: Path, **options: Any) -> dict[str, Any]:
    config = DiagnoseConfig(paths=tuple(map(str, paths)), **options)
    return json.loads(json_report.render(run(config)))


def layout(
    directory: Path, modules: dict[str, tuple[int, int]], aside: dict[str, tuple[int, ...]], **config: Any
) -> Path:
    """An adapter of these modules (d_out, d_in), rank 8, and of tensors that are saved whole."""
    directory.mkdir()
    generator = torch.Generator().manual_seed(0)
    tensors = {name: torch.randn(shape, generator=generator) for name, shape in aside.items()}
    for name, (d_out, d_in) in modules.items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = torch.randn(8, d_in, generator=generator)
        tensors[f"base_model.model.{name}.lora_B.weight"] = torch.randn(d_out, 8, generator=generator)
    save_file(tensors, directory / "adapter_model.safetensors")
    (directory / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 8, **config}))
    return directory


def like_distilbert_imdb(directory: Path) -> Path:
    """The tensors, by name and shape, of a public LoRA for distilbert-base-uncased."""
    blocks = (f"distilbert.transformer.layer.{i}.attention.{p}_lin" for i in range(6) for p in "qv")
    heads = {"classifier": 2, "pre_classifier": 768}
    aside = {f"base_model.model.{n}.{p}": (m, 768)[: 2 if p == "weight" else 1]
             for n, m in heads.items() for p in ("weight", "bias")}  # fmt: skip
    return layout(
        directory, dict.fromkeys(blocks, (768, 768)), aside,
        lora_alpha=16, task_type="SEQ_CLS", target_modules=["q_lin", "v_lin"],
    )  # fmt: skip


def like_gpt2_classifier(directory: Path) -> Path:
    """The tensors, by name and shape, of a public LoRA for gpt2, whose c_attn is a Conv1D."""
    blocks = dict.fromkeys((f"transformer.h.{i}.attn.c_attn" for i in range(12)), (2304, 768))
    aside = {"base_model.model.score.weight": (2, 768)}
    return layout(directory, blocks, aside, lora_alpha=8, fan_in_fan_out=True, task_type="SEQ_CLS")


def dataclasses_of(kind: Any, seen: dict[Any, None]) -> None:
    """Collect a report's type and all that its fields hold."""
    if dataclasses.is_dataclass(kind) and kind not in seen:
        seen[kind] = None
        for hint in get_type_hints(kind).values():
            dataclasses_of(hint, seen)
    for part in get_args(kind):
        dataclasses_of(part, seen)


@pytest.mark.parametrize("name", REPORTS)
def test_every_field_is_explained(name: str) -> None:
    seen: dict[Any, None] = {}
    dataclasses_of(report(name)[0], seen)
    assert [f"{kind.__name__}.{field}" for kind in seen for field, said in meanings(kind).items() if not said] == []


def test_two_types_of_one_name_are_no_schema() -> None:
    def named(doc: str, hint: Any) -> Any:
        return dataclasses.make_dataclass("Named", [("field", hint)], namespace={"__doc__": doc})

    with pytest.raises(TypeError, match="two types of the name Named"):
        build(named("The report.", tuple[named("One.", int), named("Other.", str)]), "x", 1)


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.json")), ids=lambda path: path.stem)
def test_the_recorded_reports_are_valid(path: Path) -> None:
    """What every recipe and the search gave, less the fields that no golden file holds."""
    document = json.loads(path.read_text(encoding="utf-8"))["report"]
    schema = json.loads(shipped("hunt" if path.stem.startswith("hunt") else "purify"))
    for part in (schema, *schema["$defs"].values()):
        part["required"] = [field for field in part["required"] if field not in PASSING]
    jsonschema.Draft202012Validator(schema).validate(document)


def test_lists_and_inspections_are_valid(tmp_path: Path) -> None:
    assert valid("rules", rules.run(rules.RulesConfig()))["rules"]
    assert valid("behaviours", behaviours.run(behaviours.BehavioursConfig()))["kinds"]
    paths = tuple(str(corpus.make(name, tmp_path / name)) for name in ("hidden-base", "remote-code-and-unreadable"))
    assert valid("check", check.run(check.CheckConfig(paths=paths, hashes=True)))["findings"]


@pytest.mark.parametrize("make", [like_distilbert_imdb, like_gpt2_classifier])
def test_a_report_on_an_adapter_of_a_real_shape_is_valid(make: Callable[[Path], Path], tmp_path: Path) -> None:
    report = document(make(tmp_path / "adapter"))
    valid("diagnose", report)
    (adapter,) = report["adapters"]
    assert len(adapter["modules"]) == 12 and adapter["coverage"]["unmeasured"] == 0


@pytest.mark.skipif(not REAL, reason="RORA_TEST_ADAPTERS names no directory with distilbert-imdb and gpt2-classifier")
def test_the_reports_on_the_real_adapters_are_valid() -> None:
    valid("diagnose", document(*(Path(REAL or "") / name for name in ("distilbert-imdb", "gpt2-classifier"))))


def test_reports_with_a_base_with_failures_and_with_every_finding_are_valid(tmp_path: Path) -> None:
    adapter = save_lora(tiny_distilbert(tmp_path / "base"), tmp_path / "adapter", target_modules=["q_lin", "v_lin"])
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "adapter_model.safetensors").write_bytes(b"nothing")
    report = document(adapter, tmp_path / "broken", base=str(tmp_path / "base"), top_k=8, intruders=True)
    assert report["adapters"][1]["error"] and report["adapters"][0]["modules"][0]["null_left"]["high"] > 1
    valid("diagnose", report)
    for name in ("model.layers.0.q_proj", HOSTILE):
        valid("diagnose", json.loads(json_report.render(result(name))))


@pytest.mark.parametrize("name", SAMPLES)
def test_what_the_pages_are_made_of_is_valid(name: str) -> None:
    assert valid(name.removesuffix("-replies"), SAMPLES[name](HOSTILE))["schema_version"] == 1


def test_a_demo_is_valid() -> None:
    before, purified = SAMPLES["eval-asr"]("positive"), SAMPLES["purify"]("positive")
    assert not valid("demo", DemoResult("out", result(), before, purified, before, False, 0.05, 61.0))["cleansed"]


def test_a_demo_of_a_causal_model_is_valid_and_says_what_was_not_searched() -> None:
    before, purified = SAMPLES["eval-asr-replies"]("refusal"), SAMPLES["purify-replies"]("refusal")
    shown = DemoResult("out", None, before, purified, before, True, 0.15, 500.0, 604, 40526)
    assert valid("demo", shown)["tried"] == 604
    text = " ".join(render_demo(shown, width=300).split())
    assert "tried 604 names of the 40,526 texts" in text and "suspect:" in text and "result:" in text


def test_margins_are_valid(tmp_path: Path) -> None:
    from rora_cli.results.margins import Alignment, Margins, ModuleMargins, Step

    side = Alignment(-0.5, 0.0, 0.5)
    margins = Margins(
        4, 2, "mn", "positive", 0.01, 0.9, 2.5, (Step(0.0, 0.5),), (Step(0.0, 1.0),),
        (ModuleMargins("a", 0.1, side, side, side, side, None, float("inf"), 0.1, 0.1, True),),
    )  # fmt: skip
    report = json.loads(json_report.render(margins))
    part = {**validator("diagnose").schema, "$ref": "#/$defs/Margins"}
    for key in ("properties", "required", "additionalProperties"):
        part.pop(key)
    jsonschema.Draft202012Validator(part).validate(report)
    assert report["modules"][0]["flips_above"] is None  # JSON has no infinity


@pytest.mark.parametrize(
    "damage",
    [
        lambda report: report.update(surprise=1),
        lambda report: report.pop("conclusion"),
        lambda report: report.update(schema_version=2),
        lambda report: report["adapters"][0]["modules"][0].update(rank="8"),
        lambda report: report["adapters"][0]["modules"][0].update(shape=[1, 2, 3]),
        lambda report: report["adapters"][0]["findings"][0].update(severity="critical"),
    ],
)
def test_what_is_not_a_report_is_refused(damage: Callable[[dict[str, Any]], Any]) -> None:
    report = json.loads(json_report.render(result()))
    damage(report)
    with pytest.raises(jsonschema.ValidationError):
        valid("diagnose", report)
