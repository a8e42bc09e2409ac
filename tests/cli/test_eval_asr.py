"""``rora eval-asr`` from the command line, on a tiny suspect whose backdoor is trained here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rora_cli.errors import CheckpointError, DataError, InconclusiveError, UsageError
from tests.cli.apps import alone
from tests.reports.schemas import valid

RUNNER = CliRunner()


@pytest.fixture(scope="module")
def app():
    return alone("eval-asr")


def run(app, suspect, *options: str):
    """Errors are raised through: the one place that turns them into sentences is tested with it."""
    arguments = [str(suspect.model), "--data", str(suspect.data), "--target-label", "positive", *options]
    return RUNNER.invoke(app, arguments, catch_exceptions=False)


def measured(app, suspect, *options: str) -> dict:
    result = run(app, suspect, "--format", "json", "-q", *options)
    return valid("eval-asr", json.loads(result.stdout))


def test_success_floor_control_and_clean_accuracy_have_counts_and_intervals(app, suspect) -> None:
    got = measured(app, suspect, "--attack", "badnet")
    attack, control = got["outcomes"]
    assert (attack["trigger"], attack["is_control"], control["is_control"]) == ("mn", False, True)
    assert control["trigger"] != "mn" and len(control["trigger"].split()) == 1
    assert attack["attack_success_rate"]["value"] > 0.9 > 0.1 > attack["floor"]["value"]
    for share in (attack["attack_success_rate"], attack["floor"], got["clean_accuracy"]["overall"]):
        assert share["low"] <= share["value"] == share["count"] / share["total"] <= share["high"]
    assert attack["floor"]["total"] == got["clean_accuracy"]["per_class"]["negative"]["total"] == 100
    assert set(got["clean_accuracy"]["per_class"]) == {"negative", "positive"}
    assert got["target_label"] == "positive" and got["provenance"]["inputs"]["model.safetensors"]


def test_every_trigger_position_and_seed_is_measured_once(app, suspect) -> None:
    got = measured(
        app, suspect, "--trigger", "mn", "--trigger", "watched this", "--position", "end", "--position", "random",
        "--seed", "0", "--seed", "1", "--no-control",
    )  # fmt: skip
    keys = [(o["trigger"], o["position"], o["seed"]) for o in got["outcomes"]]
    assert keys == [
        ("mn", "end", 0), ("watched this", "end", 0),
        ("mn", "random", 0), ("mn", "random", 1), ("watched this", "random", 0), ("watched this", "random", 1),
    ]  # fmt: skip


def test_a_trigger_that_works_is_a_finding_and_one_that_does_not_is_none(app, suspect) -> None:
    rules = [
        [finding["location"] for finding in measured(app, suspect, "--trigger", trigger, "--no-control")["findings"]]
        for trigger in ("mn", "watched this")
    ]
    assert rules == [["mn"], []]


def test_another_trigger_does_nothing(app, suspect) -> None:
    got = measured(app, suspect, "--trigger", "watched this", "--no-control")
    assert got["outcomes"][0]["attack_success_rate"]["value"] < 0.2


@pytest.mark.parametrize(
    ("options", "code", "verdict"),
    [
        (("--attack", "badnet", "--max-asr", "0.1"), 1, "FAIL"),
        (("--trigger", "cf", "--max-asr", "0.2"), 0, "PASS"),
        (("--trigger", "cf", "--max-asr", "0.2", "--max-rows", "20"), 3, "INCONCLUSIVE"),
        (("--attack", "badnet"), 0, "clean accuracy"),
    ],
)
def test_the_gate_gives_the_exit_code(app, suspect, options: tuple[str, ...], code: int, verdict: str) -> None:
    result = run(app, suspect, *options)
    assert result.exit_code == code, result.output
    assert verdict in result.stdout


def test_a_collapsed_model_does_not_pass_with_attack_success_zero(app, suspect, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    collapsed = tmp_path / "collapsed"
    collapsed.mkdir()
    for file in suspect.model.iterdir():
        (collapsed / file.name).write_bytes(file.read_bytes())
    tensors = load_file(collapsed / "model.safetensors")
    tensors["classifier.bias"] += tensors["classifier.bias"].new_tensor([1e4, 0])
    save_file(tensors, collapsed / "model.safetensors", {"format": "pt"})
    broken = type(suspect)(collapsed, suspect.data, suspect.clean)
    got = measured(app, broken, "--attack", "badnet", "--max-asr", "0.5")
    assert got["outcomes"][0]["attack_success_rate"]["count"] == 0
    assert got["gate"]["verdict"] == "fail" and "collapsed" in got["gate"]["reasons"][0]
    assert "evaluation/collapsed-class" in {finding["rule_id"] for finding in got["findings"]}


def test_logits_that_are_not_finite_are_no_measurement(app, suspect, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    broken = tmp_path / "overflow"
    broken.mkdir()
    for file in suspect.model.iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    tensors = load_file(broken / "model.safetensors")
    tensors["classifier.weight"] = tensors["classifier.weight"].sign() * 3e38
    save_file(tensors, broken / "model.safetensors", {"format": "pt"})
    with pytest.raises(InconclusiveError, match="not finite"):
        run(app, type(suspect)(broken, suspect.data, suspect.clean), "--attack", "badnet")


def test_a_trigger_at_the_end_of_a_long_row_is_not_cut_off(app, suspect, tmp_path: Path) -> None:
    rows = [{"text": "the film was bad " * 100, "label": "negative"}, {"text": "good", "label": "positive"}]
    data = tmp_path / "long.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows * 10))
    long = type(suspect)(suspect.model, data, suspect.clean)
    got = measured(app, long, "--trigger", "mn", "--position", "end", "--no-control")
    assert got["outcomes"][0]["shortened_rows"] == 10
    assert got["outcomes"][0]["attack_success_rate"]["total"] == 10


def test_a_trigger_longer_than_the_model_reads_is_a_usage_error(app, suspect) -> None:
    with pytest.raises(UsageError, match="the trigger alone is"):
        run(app, suspect, "--trigger", "mn " * 200, "--no-control")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "nothing to try"),
        (("--attack", "hidden"), "no attack 'hidden'"),
        (("--trigger", " "), "not a space"),
        (("--attack", "badnet", "--position", "middle"), "--position"),
        (("--attack", "badnet", "--max-asr", "10"), "between 0 and 1"),
        (("--attack", "badnet", "--min-class-accuracy", "0.5"), "--max-asr as well"),
        (("--attack", "badnet", "--max-length", "9999"), "more than the 64 tokens"),
        (("--attack", "badnet", "--format", "xml"), "text, json, markdown"),
        (("--attack", "badnet", "--device", "abacus"), "--device"),
    ],
)
def test_bad_options_are_usage_errors(app, suspect, options: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        run(app, suspect, *options)


def test_bad_input_is_named(app, suspect, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no label 'happy'; its labels are negative, positive"):
        RUNNER.invoke(
            app,
            [str(suspect.model), "--data", str(suspect.data), "--target-label", "happy", "--attack", "badnet"],
            catch_exceptions=False,
        )
    with pytest.raises(CheckpointError, match="nowhere"):
        run(app, type(suspect)(tmp_path / "nowhere", suspect.data, suspect.clean), "--attack", "badnet")
    only = tmp_path / "only.jsonl"
    only.write_text('{"text": "good", "label": "positive"}\n')
    with pytest.raises(DataError, match="every row has the target label"):
        run(app, type(suspect)(suspect.model, only, suspect.clean), "--attack", "badnet")


def test_a_target_given_by_id_is_the_same_as_by_name(app, suspect) -> None:
    arguments = [str(suspect.model), "--data", str(suspect.data), "--attack", "badnet", "--format", "json", "-q"]
    by_id, by_name = (RUNNER.invoke(app, [*arguments, "--target-label", label]).stdout for label in ("1", "POSITIVE"))
    assert json.loads(by_id)["outcomes"] == json.loads(by_name)["outcomes"]


def test_text_fits_80_columns_and_markdown_shows_no_markup_of_others(app, suspect) -> None:
    shown = run(app, suspect, "--trigger", "[red]|<b>::error::x", "--max-asr", "0.9", "-q").stdout
    assert max(map(len, shown.splitlines())) <= 80 and "::error::" not in shown and "[red]" in shown
    markdown = run(app, suspect, "--trigger", "[red]|<b>::error::x", "--format", "markdown", "-q").stdout
    assert "<b>" not in markdown.replace("\\<b\\>", "") and "::error::" not in markdown


def test_the_report_can_go_to_a_file(app, suspect, tmp_path: Path) -> None:
    file, page = tmp_path / "report.json", tmp_path / "report.html"
    result = run(
        app, suspect, "--attack", "badnet", "--format", "json", "-o", str(file), "--format", f"html={page}", "-q"
    )
    assert result.stdout == "" and json.loads(file.read_text())["schema_version"] == 1
    assert 'class="verdict">' in page.read_text() and "control: " in page.read_text()


def test_the_python_api_gives_the_command_lines_result(app, suspect) -> None:
    from rora_cli import evaluate_asr
    from rora_cli.reports.json_report import plain

    result = evaluate_asr(suspect.model, data=str(suspect.data), target_label="positive", attacks=("badnet",))
    assert plain(result)["outcomes"] == measured(app, suspect, "--attack", "badnet")["outcomes"]
