"""Text helpers: numbers as people read them, and names that cannot do anything."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rora_cli.reports import json_report
from rora_cli.reports.text import count, number, percent, proportion, safe
from rora_cli.results.accuracy import CleanAccuracy, Proportion
from rora_cli.results.findings import Finding, Severity


def test_proportion_shows_counts_and_interval() -> None:
    assert proportion(Proportion(773, 872, 0.8633, 0.9051)) == "88.6 % (773/872, 86.3-90.5)"
    assert proportion(Proportion(0, 0, None, None)) == "n/a (0/0)"


@pytest.mark.parametrize(
    ("value", "shown"), [(None, "-"), (0.0, "0"), (1234.5, "1.23e+03"), (1e-12, "1e-12"), (0.5, "0.5")]
)
def test_number(value: float | None, shown: str) -> None:
    assert number(value) == shown


def test_count_and_percent() -> None:
    assert (count(1, "module"), count([1, 2], "try", "tries"), percent(None), percent(0.5)) == (
        "1 module", "2 tries", "n/a", "50.0 %",
    )  # fmt: skip


@given(st.text(st.one_of(st.characters(), st.sampled_from(":#[\n\x1b\u202e"))))
def test_safe_text_is_printable_one_line_and_no_instruction(text: str) -> None:
    shown = safe(text)
    shown.encode()  # no lone surrogates
    assert "::" not in shown and "##[" not in shown and len(shown) <= 200
    assert all(ord(c) >= 32 and not 127 <= ord(c) < 160 for c in shown)
    assert not {"\u202e", "\u2028", "\u200b", "\u2066", "\ufeff"} & set(shown)


def test_json_keeps_order_names_severities_and_has_no_nan() -> None:
    finding = Finding("a/b", Severity.HIGH, "m", None, {"x": math.inf, "y": (1, {2})})
    text = json_report.render({"b": finding, "a": CleanAccuracy(Proportion(1, 2, 0.1, 0.9), {})})
    document = json.loads(text)
    assert list(document) == ["b", "a"]
    assert document["b"]["severity"] == "high" and document["b"]["evidence"] == {"x": None, "y": [1, [2]]}
    assert document["a"]["overall"] == {"value": 0.5, "count": 1, "total": 2, "low": 0.1, "high": 0.9}
    with pytest.raises(TypeError):
        json_report.render({"x": object()})
