"""The documentation as a site: it builds without a warning and without a network, and asks nobody for anything."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_the_site_builds_offline_and_fetches_nothing(tmp_path: Path) -> None:
    for part in ("sphinx", "furo", "myst_parser"):
        pytest.importorskip(part, reason="the docs group is not installed")
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-W",
        "--keep-going",
        "-q",
        "-b",
        "html",
        str(ROOT / "docs"),
        str(tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env={**os.environ, **proxies})
    assert done.returncode == 0, done.stderr
    pages = {path.stem: path.read_text(encoding="utf-8") for path in tmp_path.glob("*.html")}
    assert {"index", "which", "rules", "report", "faq", "comparison", "contributing"} <= set(pages)
    assert all(
        f'href="{path.stem}.html"' in pages["index"] for path in (ROOT / "docs").glob("*.md") if path.stem != "index"
    )
    for name, page in pages.items():
        fetched = re.findall(r'<(?:script|img|link|iframe)[^>]+(?:src|href)="(https?:[^"]+)"', page)
        assert not fetched, (name, fetched)
