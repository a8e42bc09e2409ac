"""``purify --power`` end to end on a tiny classifier: measured on the result, kept for --resume, and reported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import rora_cli
from rora_cli.commands.purify import exit_code
from rora_cli.errors import UsageError
from rora_cli.power import measure
from tests.conftest import write_splits
from tests.reports.schemas import valid

OPTIONS: dict[str, Any] = {
    "device": "cpu", "search_budget": "fast", "escalate": "none", "max_rounds": 1, "epochs": 1, "forms": ("words",),
}  # fmt: skip


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_splits(tmp_path_factory.mktemp("rows"), train=(200, 5), validation=(120, 6))


class _Killed(BaseException):
    pass


@pytest.mark.slow
def test_the_power_of_the_last_search_is_measured_once_and_reported(
    trained: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rora_cli.tasks.classification.planted.RATES", {"weights": 1e-3})
    out, copied = tmp_path / "out", []
    copy = measure._Measurement._copy

    def killed_in_the_second(self: Any, stand_ins: Any, progress: Any) -> Any:
        if copied:
            raise _Killed
        copied.append(copy(self, stand_ins, progress))
        return copied[0]

    monkeypatch.setattr(measure._Measurement, "_copy", killed_in_the_second)
    monkeypatch.setattr("rora_cli.defences.default.silence.PER_COPY", 1)
    asked = {**OPTIONS, "power": 2, "output": str(out), "reference": str(trained)}
    with pytest.raises(_Killed):
        rora_cli.purify(trained, clean=rows, **asked)
    assert not out.exists() and (tmp_path / "out.rora-state").exists()

    def interrupted(self: Any, stand_ins: Any, progress: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(measure._Measurement, "_copy", interrupted)
    result = rora_cli.purify(trained, clean=rows, resume=True, **asked)
    assert result.power is not None and result.covering is not None
    assert len(result.power.copies) == 1, "the first copy was not planted again"
    (word,) = result.power.stand_ins
    assert word.form == "rare words" and word.firm and result.power.ended == "it was interrupted"
    assert result.verdict == "inconclusive" and exit_code(result) == 3, "one stand-in is no evidence"
    report = valid("purify", json.loads((out / "rora-report.json").read_text()))
    assert report["power"]["found"]["total"] == 1 and report["covering"]["covered"] == []
    card = (out / "README.md").read_text()
    assert "of 1 planted backdoor this search found" in card and "covered: no form of backdoor" in card.lower()
    assert "purify/power-unknown" in [finding["rule_id"] for finding in report["findings"]]


def test_a_power_that_cannot_be_measured_is_refused_or_said_and_costs_nothing(
    trained: Path, clean: Path, tmp_path: Path
) -> None:
    for options, said in (
        ({"recipe": "lora"}, "does not search"),
        ({"load_in_4bit": True, "escalate": "none"}, "--load-in-4bit"),
        ({"forms": ()}, "--forms names no form"),
    ):
        given: dict[str, Any] = {"power": 3, **options}
        with pytest.raises(UsageError, match=said):
            rora_cli.purify(trained, clean=clean, output=str(tmp_path / "refused"), **given)
    few, by_default = (
        rora_cli.purify(trained, clean=clean, output=str(tmp_path / name), reference=str(trained), **OPTIONS, **power)
        for name, power in (("few", {"power": 3}), ("default", {}))
    )
    assert few.power is not None and "80 clean rows to train on of other labels" in str(few.power.reason)
    assert (few.verdict, exit_code(few), exit_code(few, "fail")) == ("inconclusive", 3, 0)
    assert by_default.power is not None and by_default.verdict == few.verdict
    asked = {finding.rule_id for finding in few.findings} - {finding.rule_id for finding in by_default.findings}
    assert asked == {"purify/power-unknown"}, "nobody asked for the default"
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("few", "default")]
    assert weights[0] == weights[1]
