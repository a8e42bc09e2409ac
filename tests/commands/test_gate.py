"""What a gate does not count: ignored rules, a baseline; and the exit code that is left."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

import rora_cli
from rora_cli.commands import check
from rora_cli.commands.rules import RulesConfig, every_rule, run
from rora_cli.errors import UsageError
from rora_cli.reports.json_report import render
from rora_cli.results.findings import Severity
from tests.conftest import build_tiny_classifier


class Trap:
    def __reduce__(self) -> Any:
        return os.system, ("true",)


@pytest.fixture
def trapped(tmp_path: Path) -> Path:
    directory = build_tiny_classifier(tmp_path / "model")
    (directory / "optimizer.pt").write_bytes(pickle.dumps(Trap()))
    (directory / "model.gguf").write_bytes(b"GGUF")
    return directory


def code(path: Path, **options: Any) -> int:
    return int(check.exit_code(rora_cli.check(str(path), **options), "medium"))


def test_an_ignored_rule_is_said_and_not_counted(trapped: Path) -> None:
    assert code(trapped) == 1
    assert code(trapped, ignore=["file/pickle-dangerous"]) == 3, "the other file was still not analysed"
    assert code(trapped, ignore=["file/pickle-dangerous", "*.gguf"]) == 0
    assert code(trapped, ignore=["file/pickle-dangerous", "file/not-analysed"]) == 0
    found = rora_cli.check(str(trapped), ignore=["file/pickle-dangerous"]).findings
    (trap,) = (f for f in found if f.rule_id == "file/pickle-dangerous")
    assert (trap.severity, trap.accepted) == (Severity.INFO, "ignored as asked")
    assert trap.message.endswith("(ignored as asked; high otherwise)")


def test_a_baseline_lets_only_what_it_has_through(trapped: Path, tmp_path: Path) -> None:
    baseline = tmp_path / "baseline.json"
    baseline.write_text(render(rora_cli.check(str(trapped))))
    assert code(trapped, baseline=baseline) == 0
    (trapped / "training_args.bin").write_bytes(pickle.dumps(Trap()))
    assert code(trapped, baseline=baseline) == 1
    other = tmp_path / "other"
    trapped.rename(other)
    assert code(other, baseline=baseline) == 1, "it was another checkpoint that was accepted"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"checkpoints": [{}]}', '{"model": "m"}', '{"checkpoints": "x"}'])
def test_a_baseline_that_is_no_report_is_refused(trapped: Path, tmp_path: Path, text: str) -> None:
    baseline = tmp_path / "baseline.json"
    baseline.write_text(text)
    with pytest.raises(UsageError, match="is no JSON report of check, diagnose or hunt"):
        rora_cli.check(str(trapped), baseline=baseline)
    with pytest.raises(UsageError, match="cannot be read"):
        rora_cli.check(str(trapped), baseline=tmp_path / "nowhere.json")


def test_a_rule_that_does_not_exist_is_refused_where_only_rules_are_taken(trapped: Path) -> None:
    with pytest.raises(UsageError, match="'spectral/zero-updat' is no rule; did you mean spectral/zero-update"):
        rora_cli.diagnose(str(trapped), base=str(trapped), ignore=["spectral/zero-updat"])


def test_patterns_are_matched_as_a_shell_would(trapped: Path) -> None:
    assert [c.path for c in rora_cli.check(str(trapped.parent / "mod*")).checkpoints] == [str(trapped)]
    with pytest.raises(UsageError, match="matches nothing"):
        rora_cli.check(str(trapped.parent / "nothing*"))


def test_every_rule_is_listed_once_with_a_meaning() -> None:
    rules = list(every_rule())
    assert len({rule.id for rule in rules}) == len(rules) > 60
    assert all(rule.meaning and rule.severity for rule in rules)
    assert [rule.id for rule in run(RulesConfig(rules=("json/malformed",))).rules] == ["json/malformed"]
    assert {rule.id.partition("/")[0] for rule in run(RulesConfig(rules=("spectral", "hunt"))).rules} == {
        "spectral",
        "hunt",
    }
    with pytest.raises(UsageError, match="did you mean json/malformed"):
        run(RulesConfig(rules=("json/malforme",)))
    assert json.loads(render(run(RulesConfig())))["rules"]
