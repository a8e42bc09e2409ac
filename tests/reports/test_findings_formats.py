"""SARIF against OASIS' own schema (copied, as they allow), JUnit, Markdown and HTML, with hostile names in all."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import pytest

from rora_cli.reports import github, html, junit, markdown, sarif
from rora_cli.reports.registry import FORMATS, renderer
from rora_cli.reports.terminal import diagnose as terminal
from rora_cli.results import provenance
from rora_cli.results.check import CheckedCheckpoint, CheckResult
from rora_cli.results.diagnose import Coverage, DiagnoseResult, Diagnosis, GroupSummary
from rora_cli.results.findings import Finding, Severity
from rora_cli.results.provenance import Provenance
from rora_cli.results.spectra import Band, ModuleSpectrum

GOLDEN = Path(__file__).parent.parent / "golden"
HOSTILE = "<script>alert(1)</script>\x1b[31m\n::error::x|[a](http://b)`c`[bold]\u202egnp.\x00\ud800]]>"


def module(name: str, block: int, **fields: object) -> ModuleSpectrum:
    values = {
        "shape": (8, 8), "rank": 2, "singular_values": (2.0, 0.5), "frobenius_norm": 2.06, "stable_rank": 1.06,
        "effective_rank": 1.6, "block": block, "kind": "query", "energy_share": 0.8, "size_normalised_norm": 0.26,
        "entry_kurtosis": 3.1,
    }  # fmt: skip
    return ModuleSpectrum(name=name, **{**values, **fields})  # type: ignore[arg-type]


def result(name: str = "model.layers.0.q_proj", findings: int = 1) -> DiagnoseResult:
    against = {
        "base_sigma_max": 4.0, "strength_ratio": 0.5, "rescaling_factor": 2.0, "alignment_k": 4, "alignment_left": 3.0,
        "alignment_right": 0.9, "null_left": Band(0.5, 1.6), "null_right": Band(0.5, 1.6),
        "base_singular_values": (4.0, 3.0, 2.0),
    }  # fmt: skip
    found = [
        Finding(
            "spectral/outlier-module", Severity.HIGH, f"{name} stands out", name, {"z": 9.0, "nan": float("nan")}, name
        )
        for _ in range(findings)
    ]
    structural = Finding("adapter/hidden-base-tensor", Severity.MEDIUM, "a base weight", "adapter_config.json")
    first = Diagnosis(
        path="adapters/one",
        format="LORA",
        modules=(module(name, 0, **against), module("model.layers.1.v_proj", 1, **against)),
        coverage=Coverage(5, 4, 0, 1, 2, 2),
        spread_of_norms=0.2,
        unmeasured={name: f"unknown {name}"},
        findings=(*found, structural, Finding("spectral/zero-update", Severity.INFO, "zero", None)),
    )
    broken = Diagnosis(path=name, error=f"{name} is broken")
    provenance = Provenance("diagnose", {"rora": "0.1.0"}, {}, 0, {name: "ab" * 32})
    return DiagnoseResult(
        1, provenance, (first, broken), "base", 4, None, "inconclusive.", {"spectral/zero-update": "z"}
    )


@pytest.fixture(scope="module")
def schema() -> dict:
    return json.loads((GOLDEN / "sarif-schema-2.1.0.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["model.layers.0.q_proj", HOSTILE])
def test_sarif_is_valid_and_says_what_was_not_analysed(schema: dict, name: str) -> None:
    text = sarif.render(result(name))
    document = json.loads(text)
    jsonschema.validate(document, schema)
    assert "NaN" not in text and "\x1b" not in text
    (run,) = document["runs"]
    assert [r["ruleId"] for r in run["results"]] == [
        "spectral/outlier-module", "adapter/hidden-base-tensor", "spectral/zero-update",
    ]  # fmt: skip
    assert [r["level"] for r in run["results"]] == ["error", "warning", "note"]
    uris = [r["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for r in run["results"]]
    assert uris[0] == "adapters/one/adapter_model.safetensors" and uris[1] == "adapters/one/adapter_config.json"
    assert not run["invocations"][0]["executionSuccessful"]
    assert len(run["invocations"][0]["toolExecutionNotifications"]) == 2


def test_sarif_fingerprints_are_of_rule_module_and_checkpoint() -> None:
    def prints(text: str) -> list[str]:
        return [r["partialFingerprints"]["ruleModuleAndCheckpoint/v1"] for r in json.loads(text)["runs"][0]["results"]]

    one, two = prints(sarif.render(result())), prints(sarif.render(result("model.layers.9.q_proj")))
    assert one == prints(sarif.render(result())) and len(set(one)) == 3
    assert one[0] != two[0] and one[1:] == two[1:]
    elsewhere = replace(result(), adapters=tuple(replace(a, path=f"other/{a.path}") for a in result().adapters))
    assert not set(one) & set(prints(sarif.render(elsewhere)))


def test_sarif_names_the_page_of_a_rule_where_the_package_says_that_there_is_one(monkeypatch, schema: dict) -> None:
    def rule() -> dict:
        document = json.loads(sarif.render(result()))
        jsonschema.validate(document, schema)
        return document["runs"][0]["tool"]["driver"]["rules"][0]

    stated = "Name: rora-cli\nProject-URL: Documentation, https://docs.example.org/rora/\nVersion: 1\n"
    monkeypatch.setattr(provenance, "_metadata", lambda name: stated)
    assert rule()["helpUri"] == "https://docs.example.org/rora/rules.html#adapter"
    monkeypatch.setattr(provenance, "_metadata", lambda name: "Name: rora-cli\n")
    assert "/peft/" in rule()["helpUri"] and "rora rules" in rule()["help"]["text"], "a page about adapters, then"


def test_what_is_accepted_is_a_suppression_for_sarif() -> None:
    accepted = Finding("spectral/zero-update", Severity.INFO, "zero", None, accepted="ignored as asked")
    first = replace(result().adapters[0], findings=(accepted,))
    text = sarif.render(replace(result(), adapters=(first,)))
    jsonschema.validate(json.loads(text), json.loads((GOLDEN / "sarif-schema-2.1.0.json").read_text()))
    (found,) = json.loads(text)["runs"][0]["results"]
    assert found["suppressions"] == [{"kind": "external", "justification": "ignored as asked"}]


def test_sarif_stays_below_what_code_scanning_takes() -> None:
    document = json.loads(sarif.render(result(findings=6000)))
    assert len(document["runs"][0]["results"]) == 5000
    assert any(
        "left out" in n["message"]["text"] for n in document["runs"][0]["invocations"][0]["toolExecutionNotifications"]
    )


@pytest.mark.parametrize("name", ["model.layers.0.q_proj", HOSTILE])
def test_junit_has_a_case_a_module(name: str) -> None:
    suites = ElementTree.fromstring(junit.render(result(name)))
    suite = suites[0]
    cases = suite.findall("testcase")
    assert len(cases) == int(suite.attrib["tests"]) == 5
    assert int(suite.attrib["failures"]) == len(suite.findall("testcase/failure")) == 2
    assert int(suite.attrib["errors"]) == len(suite.findall("testcase/error")) == 1
    assert int(suites[1].attrib["errors"]) == 1


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def checked(name: str) -> CheckResult:
    found = Finding("file/code", Severity.MEDIUM, f"{name} is program code", name, advice=name)
    one = CheckedCheckpoint(name, "model", 4, 3, 7_000_000, 28_000_000, {"F32": 3}, {"weight": 3}, (), False, (found,))
    two = CheckedCheckpoint("sound", "adapter", 2, 0, 0, 0, {}, {}, (name,), True, ())
    provenance = Provenance("check", {"rora": "0.1.0"}, {}, 0)
    return CheckResult(1, provenance, (one, two), (found,), {"file/code": "Program code."})


@pytest.mark.parametrize("name", ["model.layers.0.q_proj", HOSTILE])
def test_html_of_check(name: str) -> None:
    text = html.render(checked(name))
    assert_self_contained(text)
    words = " ".join(re.sub("<[^>]*>", " ", text).split())
    assert "Inconclusive" in words and "would refuse it" in words and "28 MB" in words and "Not analysed" in words
    if name != HOSTILE:
        assert f"<code>{name}</code>" in text


@pytest.mark.parametrize("name", ["model.layers.0.q_proj", HOSTILE])
def test_html_is_one_file_without_script_or_network(name: str) -> None:
    text = html.render(result(name))
    tags = assert_self_contained(text)
    drawings = [a for t, a in tags if t == "svg" and "aria-hidden" not in a]
    assert all("aria-label" in a and a.get("role") == "img" for a in drawings) and len(drawings) == 3


def assert_self_contained(text: str) -> list[tuple[str, dict[str, str | None]]]:
    """No script, no network, no name twice, every link inside the page; returns its tags."""
    assert text.startswith("<!doctype html>")
    page = _Page()
    page.feed(text)
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "link", "img", "iframe", "object", "form"}
    assert not any(key.startswith("on") for _, attributes in page.tags for key in attributes)
    assert all((a.get("href") or "#").startswith("#") for _, a in page.tags)
    assert "http://" not in re.sub(r"\[a\]\(http://b\)", "", text) and "url(" not in text
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    assert {a["href"][1:] for t, a in page.tags if t == "a" and a.get("href")} <= set(ids)
    assert "prefers-color-scheme: dark" in text
    return page.tags


def test_markdown_takes_names_literally() -> None:
    text = markdown.render(result(HOSTILE))
    assert "<script" not in text and "\x1b" not in text and "\n::" not in text
    assert not re.search(r"(?<!\\)\[a(?<!\\)\]\(http", text)
    for line in text.splitlines():
        if line.startswith("| ") and "HIGH" not in line:
            assert len(re.findall(r"(?<!\\)\|", line)) in (4, 8), line


def test_the_terminal_shows_no_control_character_or_markup() -> None:
    text = terminal.render(result(HOSTILE), width=80, detail=True)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text)
    assert "::" not in text and "[bold]" in text
    assert max(map(len, text.splitlines())) <= 80


def test_annotations_name_the_file_and_take_names_literally() -> None:
    lines = github.render(result()).splitlines()
    assert lines[0].startswith("::error file=adapters/one/adapter_model.safetensors,title=spectral/outlier-module::")
    assert lines[1].startswith("::warning file=adapters/one/adapter_config.json,title=adapter/hidden-base-tensor::")
    assert not any("zero-update" in line for line in lines), "information is no annotation"
    for line in github.render(result(HOSTILE)).splitlines():
        assert re.match(r"::(error|warning|notice) file=[^,:]*,title=[^,:]*::", line), line
        assert "\x1b" not in line and line.count("::") == 2, line


def test_junit_has_a_passing_case_for_what_is_clean() -> None:
    clean = replace(result().adapters[0], findings=(), unmeasured={}, modules=())
    (suite,) = ElementTree.fromstring(junit.render(replace(result(), adapters=(clean,))))
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("1", "0", "0")


def test_every_registered_format_renders() -> None:
    for name in FORMATS:
        assert renderer(name)(result())


@pytest.mark.parametrize("name", ["model.layers.0.self_attn.q_proj", HOSTILE])
def test_the_terminal_summary_fits_one_screen_whatever_was_found(name: str) -> None:
    rules = [f"adapter/rule-{i}" for i in range(9)]
    findings = tuple(Finding(rule, Severity.HIGH, f"{name} " * 20, name) for rule in rules for _ in range(3))
    groups = tuple(GroupSummary(f"kind-{i}", 3, 1.0, 2.0, 0.1, 0.2, 0.3) for i in range(20))
    one = replace(result(name).adapters[0], findings=findings, groups=groups)
    conclusion = "anomalous: there are findings of medium severity. " + "Spectra alone show nothing of that kind. " * 4
    text = terminal.render(replace(result(name), adapters=(one,), conclusion=conclusion), width=80)
    before = text.splitlines()[: next(i for i, line in enumerate(text.splitlines()) if line.startswith("module"))]
    assert len(before) <= 24 and max(map(len, before)) <= 80
    assert "more rules: --detail shows all" in text and "more kinds" in text and "(and 2 more)" in text
    detailed = terminal.render(replace(result(name), adapters=(one,)), width=80, detail=True)
    assert all(f"{rule}:" in detailed for rule in rules) and "kind-19" in detailed


def test_a_batch_is_a_line_each_and_a_count() -> None:
    lines = terminal.render(result(), width=80).splitlines()
    assert lines[1].startswith("adapters/one") and "not read" in lines[2]
    assert "2 adapters, by the worst finding: 1 not read, 1 high" in lines


def test_a_label_that_stays_open_is_not_analysed_and_what_was_found_fails_its_case() -> None:
    from rora_cli.results.hunt import Coverage as Searched
    from rora_cli.results.hunt import HuntResult, LabelHunt

    nothing = Searched(0, 0, 0, 0, 0, (), 0, 0, 0, 0, 0, "fast")
    labels = (
        LabelHunt("positive", "trigger", (), (), nothing),
        LabelHunt("negative", "inconclusive", (), (), nothing, reason="too few rows"),
    )
    findings = (
        Finding("hunt/trigger", Severity.HIGH, "'mn' inserted turns all", "positive"),
        Finding("hunt/inconclusive", Severity.MEDIUM, "negative is inconclusive", "negative"),
    )
    provenance = Provenance("hunt", {"rora": "0.1.0"}, {}, 0, {})
    hunted = HuntResult("models/one", "fast", "a reference", labels, 1, 1.0, provenance, findings)
    (suite,) = ElementTree.fromstring(junit.render(hunted))
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("2", "1", "1")
    (run,) = json.loads(sarif.render(hunted))["runs"]
    assert [r["ruleId"] for r in run["results"]] == ["hunt/trigger"]
    assert run["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "models/one"
    assert not run["invocations"][0]["executionSuccessful"]
    assert "too few rows" in run["invocations"][0]["toolExecutionNotifications"][0]["message"]["text"]
    assert "the result is inconclusive" in markdown.render(hunted)


def test_html_lists_the_worst_first() -> None:
    low, high = (Finding("file/code", severity, f"{severity.label} one") for severity in (Severity.LOW, Severity.HIGH))
    first = checked("x").checkpoints[0]
    several = [
        replace(first, path="fine", findings=(), unreadable=()),
        replace(first, path="low", findings=(low,), unreadable=()),
        replace(first, path="high", findings=(low, high), unreadable=()),
        replace(first, path="unread", findings=(low,), unreadable=("x",)),
    ]
    made = replace(checked("x"), checkpoints=tuple(several))
    page = html.render(made)
    titles = re.findall(r'<h2 id="[^"]+"><code>([^<]+)</code>', page)
    assert titles == ["high", "unread", "low", "fine"]
    one, other = result("x").adapters[:2]
    fine = replace(one, path="fine", findings=(), unmeasured={})
    page = html.render(replace(result("x"), adapters=(fine, other, one)))
    assert re.findall(r'<h2 id="[^"]+"><code>([^<]+)</code>', page)[-1] == "fine"
