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


def test_a_misspelt_rule_is_no_pattern_of_files(trapped: Path) -> None:
    with pytest.raises(UsageError, match="did you mean file/pickle-dangerous"):
        rora_cli.check(str(trapped), ignore=["file/pickle-dangerus"])
    assert code(trapped, ignore=["file/pickle-dangerous", "model.gguf"]) == 0
    assert code(trapped, ignore=["file/optimizer.pt"]) == 1, "a file that is not there"


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


def with_policy(directory: Path, text: str) -> Path:
    """A policy file that holds ``text``."""
    path = directory / "rora.toml"
    path.write_text(text)
    return path


def test_a_policy_sets_severities_and_ignores_what_has_a_reason(trapped: Path, tmp_path: Path) -> None:
    (trapped / "tool.py").write_text("x = 1")
    entry = '[[ignore]]\nrule = "{}"\nreason = "read by us"\n'
    accepted = entry.format("file/pickle-dangerous") + 'location = "optim*"\n' + entry.format("file/not-analysed")
    assert code(trapped, policy=with_policy(tmp_path, accepted)) == 1, "the program code is still medium"
    policy = with_policy(tmp_path, '[severity]\n"file/code" = "low"\n' + accepted)
    assert code(trapped, policy=policy) == 0
    found = {f.rule_id: f for f in rora_cli.check(str(trapped), policy=policy).findings}
    assert found["file/pickle-dangerous"].accepted == "ignored by rora.toml: read by us"
    assert found["file/code"].severity is Severity.LOW and not found["file/code"].accepted
    assert found["file/code"].message.endswith("(low by rora.toml, medium otherwise)")
    elsewhere = accepted.replace('location = "optim*"', 'checkpoint = "another*"')
    assert code(trapped, policy=with_policy(tmp_path, elsewhere)) == 1


@pytest.mark.parametrize(("until", "expected"), [("2000-01-01", 1), ("2999-12-31", 3)])
def test_what_a_policy_ignores_may_end(trapped: Path, tmp_path: Path, until: str, expected: int) -> None:
    text = f'[[ignore]]\nrule = "file/pickle-dangerous"\nreason = "r"\nuntil = {until}\n'
    policy = with_policy(tmp_path, text)
    assert code(trapped, policy=policy) == expected
    found = rora_cli.check(str(trapped), policy=policy).findings
    assert sum("until 2000-01-01, no longer" in f.message for f in found) == (expected == 1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x", "rora.toml: "),
        ("[other]", "unknown key 'other'"),
        ('[severity]\n"file/cod" = "low"', "did you mean file/code"),
        ('[severity]\n"file/code" = "fatal"', "use one of info, low, medium, high"),
        ('[severity]\n"file/code" = ["low"]', "use one of info"),
        ('severity = "low"', "needs a table"),
        ('[[ignore]]\nrule = "file/code"', "has no reason"),
        ('[[ignore]]\nreason = "r"', "has no rule"),
        ('[[ignore]]\nrule = "file/code"\nreason = 1', "reason of .* is no text"),
        ('[[ignore]]\nrule = "file/code"\nreason = "r"\nuntil = "2027-01-01"', "write it as"),
        ('[[ignore]]\nrule = "file/code"\nreason = "r"\npath = "x"', "unknown key 'path'"),
        ("ignore = [1]", "is no table"),
    ],
)
def test_a_policy_that_is_none_is_refused(trapped: Path, tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        rora_cli.check(str(trapped), policy=with_policy(tmp_path, text))


def test_a_policy_beside_a_download_is_not_read(trapped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_policy(trapped, '[[ignore]]\nrule = "file/pickle-dangerous"\nreason = "trust me"\n')
    monkeypatch.chdir(trapped)
    assert code(Path()) == 1
    with pytest.raises(UsageError, match="cannot be read"):
        rora_cli.check(".", policy="nowhere.toml")


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
