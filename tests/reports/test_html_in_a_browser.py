"""The HTML report as a person sees it: in a headless Chromium, light and dark, wide and narrow, and by keyboard."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from rora_cli.reports import html
from rora_cli.results.diagnose import GroupSummary
from rora_cli.results.margins import Alignment, Margins, ModuleMargins, Step
from tests.reports.browser import Browser, colours, find
from tests.reports.samples import SAMPLES
from tests.reports.test_findings_formats import HOSTILE, module, result

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(find() is None, reason="no Chromium is on the path, and RORA_TEST_CHROMIUM names none"),
]
SECTIONS = [
    "header", "#adapter-0 > dl", "#adapter-0 .findings", "[aria-labelledby=adapter-0-kinds]", "[aria-label='Heat map']",
    "[aria-label^='Singular values']", "[aria-label^='Left and right']", "[aria-labelledby=adapter-0-modules]",
    "#adapter-1", "[aria-label^='Clean accuracy']", "[aria-labelledby=margins-modules]", "footer",
]  # fmt: skip


def page(name: str) -> str:
    """A report with everything in it: a base, findings, margins, an adapter that could not be read."""
    made = result(name)
    base = {k: getattr(made.adapters[0].modules[0], k) for k in (
        "base_sigma_max", "strength_ratio", "rescaling_factor", "alignment_k", "alignment_left", "alignment_right",
        "null_left", "null_right", "base_singular_values",
    )}  # fmt: skip
    kinds = ("query", "key", "value", "attention-out", "gate", "up", "down")
    modules = tuple(
        module(f"model.layers.{block}.{kind}.{name}", block, **{**base, "kind": kind, "strength_ratio": 0.1 + 0.1 * i})
        for block in range(8)
        for i, kind in enumerate(kinds)
    )
    groups = tuple(GroupSummary(kind, 8, 1.0, 2.0, 0.1, 0.2, 0.3) for kind in kinds)
    side = Alignment(-0.5, 0.0, 0.5)
    margins = Margins(
        40, 20, name, name, 0.01, 0.9, 2.5, (Step(0.0, 0.5), Step(0.7, 0.9), Step(2.6, 0.6)),
        (Step(0.0, 1.0), Step(1.5, 0.2)),
        (ModuleMargins(name, 0.1, side, side, side, side, 3.0, 0.5, 0.1, 0.1, False),), "local",
    )  # fmt: skip
    full = replace(made.adapters[0], modules=modules, groups=groups)
    return html.render(replace(made, adapters=(full, made.adapters[1]), margins=margins))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = find()
    assert program is not None
    with Browser(program) as running:
        yield running


@pytest.fixture(params=["model.layers.0.q_proj", HOSTILE], ids=["plain", "hostile"])
def report(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    (tmp_path / "report.html").write_text(page(request.param), encoding="utf-8", errors="strict")
    return tmp_path / "report.html"


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_it_renders_whole_at_every_width_in_both_colour_schemes(
    browser: Browser, report: Path, width: int, dark: bool
) -> None:
    browser.open(report, width=width, dark=dark)
    assert browser.complaints == []
    assert browser.requests == [report.resolve().as_uri()]
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    background = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    light = sum(map(int, background.removeprefix("rgb(").removesuffix(")").split(",")))
    assert light < 150 if dark else light > 600
    for section in SECTIONS:
        box = browser.evaluate(
            f"(r => ({{x: r.x + scrollX, y: r.y + scrollY, width: Math.min(r.width, innerWidth), height: r.height}}))"
            f'(document.querySelector("{section}").getBoundingClientRect())'
        )
        assert box["width"] > 100 and box["height"] > 15, section
        assert colours(browser.picture(box)) > 24, f"{section} is blank"


@pytest.fixture
def sample(tmp_path: Path) -> Callable[[str], Path]:
    """The page of a sample, with hostile names."""

    def write(name: str) -> Path:
        (tmp_path / f"{name}.html").write_text(html.render(SAMPLES[name](HOSTILE)), encoding="utf-8", errors="strict")
        return tmp_path / f"{name}.html"

    return write


@pytest.mark.parametrize("name", SAMPLES)
def test_the_other_pages_render_whole_too(browser: Browser, sample: Callable[[str], Path], name: str) -> None:
    """Wide and light, narrow and dark, on paper; no text on another, and none too faint."""
    page = sample(name)
    for width, dark in ((1280, False), (400, True)):
        browser.open(page, width=width, dark=dark)
        assert browser.complaints == [] and browser.requests == [page.resolve().as_uri()]
        assert browser.evaluate("document.documentElement.scrollWidth") <= width
        assert browser.evaluate(_CONTRAST)["ratio"] >= 4.5
        assert browser.evaluate(_OVERFLOWING) == []
        blank = [box for box in browser.evaluate(_SECTIONS) if colours(browser.picture(box)) <= 24]
        assert blank == []
    _assert_whole_on_paper(browser, page)


@pytest.mark.parametrize("name", ["hunt", "purify"])
def test_the_other_pages_by_keyboard_and_screen_reader(
    browser: Browser, sample: Callable[[str], Path], name: str
) -> None:
    browser.open(sample(name), width=1280, dark=False)
    walked = walk(browser)
    assert walked[0] == "#content" and walked.count("SUMMARY") == browser.evaluate(
        "document.querySelectorAll('summary').length"
    )
    tables = browser.evaluate("document.querySelectorAll('.scroll:not(details:not([open]) *)').length")
    assert tables == sum(not name.startswith("#") and name != "SUMMARY" for name in walked)
    named = read_out(browser, "region", "heading", "rowheader", "columnheader")
    assert all(name.strip() for name in named["region"] + named["heading"] + named["rowheader"])
    spoken = browser.call("Accessibility.getFullAXTree")["nodes"]
    assert name != "hunt" or any(n.get("name", {}).get("value", "").startswith("trigger:") for n in spoken)


def test_no_column_is_cut_on_paper(browser: Browser, report: Path) -> None:
    _assert_whole_on_paper(browser, report)


def _assert_whole_on_paper(browser: Browser, report: Path) -> None:
    """A4 across, less its margins, at 96 pixels an inch."""
    browser.open(report, width=1032, dark=True)
    wide = "[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > document.body.clientWidth + 1).length"
    assert browser.evaluate("getComputedStyle(document.querySelector('.scroll')).overflowX") == "auto"
    browser.print_media(True)
    try:
        assert browser.evaluate("getComputedStyle(document.querySelector('.scroll')).overflowX") == "visible"
        assert browser.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert browser.evaluate(wide) == 0
        assert browser.evaluate("document.documentElement.scrollWidth") <= 1032
    finally:
        browser.print_media(False)


def test_a_blank_part_would_be_noticed(browser: Browser, report: Path) -> None:
    browser.open(report, width=1280, dark=False)
    browser.evaluate("document.querySelector('.findings').style.visibility = 'hidden'")
    box = browser.evaluate("(r => ({x: r.x, y: r.y, width: r.width, height: r.height}))"
                           "(document.querySelector('.findings').getBoundingClientRect())")  # fmt: skip
    assert colours(browser.picture(box)) <= 24


def test_text_stands_out_from_its_ground(browser: Browser, report: Path) -> None:
    """WCAG 2.2's contrast of 4.5 for every colour that words are set in, on the page and on its cards."""
    for dark in (False, True):
        browser.open(report, width=1280, dark=dark)
        worst = browser.evaluate(_CONTRAST)
        assert worst["ratio"] >= 4.5, (dark, worst)


def walk(browser: Browser) -> list[str]:
    """What the Tab key leads to, one after the other; each shows that it has the focus."""
    seen: list[str] = []
    while len(seen) < 60:
        for kind in ("keyDown", "keyUp"):
            browser.call("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)
        name, outline = browser.evaluate(
            "(e => [e.getAttribute('href') || e.getAttribute('aria-label') || e.tagName,"
            " getComputedStyle(e).outlineStyle])(document.activeElement)"
        )
        if name == "BODY":
            return seen
        assert outline != "none", name
        seen.append(name)
    raise AssertionError("the focus does not leave the page")


def test_it_can_be_walked_by_keyboard(browser: Browser, report: Path) -> None:
    browser.open(report, width=1280, dark=False)
    seen = walk(browser)
    assert seen[0] == "#content" and {"Heat map", "SUMMARY"} <= set(seen)
    tables = browser.evaluate("document.querySelectorAll('.scroll:not(details *)').length")
    assert tables == sum(not name.startswith("#") and name != "SUMMARY" for name in seen)


def read_out(browser: Browser, *roles: str) -> dict[str, list[str]]:
    """The names that a screen reader is told, by role."""
    nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
    return {
        role: [n.get("name", {}).get("value", "") for n in nodes if n.get("role", {}).get("value") == role]
        for role in roles
    }


def test_what_a_screen_reader_is_told(browser: Browser, report: Path) -> None:
    browser.open(report, width=1280, dark=False)
    named = read_out(browser, "image", "region", "heading", "article", "link", "rowheader")
    for role, names in named.items():
        assert names and all(name.strip() for name in names), (role, names)
    assert sum(name.startswith("Heat map of strength") for name in named["image"]) == 1
    assert browser.evaluate("document.documentElement.lang") == "en"


#: Cells of tables whose content is wider than they are.
_OVERFLOWING = """[...document.querySelectorAll('td, th')].filter(e => e.scrollWidth > e.clientWidth + 1)
  .map(e => e.textContent.trim().slice(0, 40))"""
#: The rectangles of header, headings and tables.
_SECTIONS = """[...document.querySelectorAll('header, main > *, .scroll:not(details:not([open]) *)')].map(e => {
  const r = e.getBoundingClientRect();
  return {x: r.x + scrollX, y: r.y + scrollY, width: Math.min(r.width, innerWidth), height: Math.min(r.height, 2000)};
}).filter(r => r.width > 100 && r.height > 15)"""
_CONTRAST = """(() => {
  const parse = c => c.match(/[\\d.]+/g).map(Number);
  const shine = c => { const [r, g, b] = parse(c).map(v => { v /= 255; return v <= .03928 ? v / 12.92 :
    ((v + .055) / 1.055) ** 2.4; }); return .2126 * r + .7152 * g + .0722 * b; };
  let worst = {ratio: 99};
  for (const e of document.querySelectorAll('main *, header *')) {
    if (e.closest('svg') || ![...e.childNodes].some(n => n.nodeType == 3 && n.data.trim())) continue;
    let ground = e;
    while (ground && parse(getComputedStyle(ground).backgroundColor)[3] === 0) ground = ground.parentElement;
    const [a, b] = [shine(getComputedStyle(e).color), shine(getComputedStyle(ground || document.body).backgroundColor)];
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (ratio < worst.ratio) worst = {ratio, text: e.textContent.slice(0, 40), color: getComputedStyle(e).color};
  }
  return worst;
})()"""
