"""The documentation as a site: `make docs`. Sphinx with furo and MyST; nothing is fetched while it is built or read."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from rora_cli.version import __version__

project, author, copyright = "rora", "The rora developers", "The rora developers"
release = version = __version__
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
myst_heading_anchors = 4
html_theme = "furo"
html_title = f"rora {__version__}"
html_show_sourcelink = False
nitpicky = True

#: Documents that lie beside the folder, where a code host expects them -> their pages.
_ELSEWHERE = {
    "../CONTRIBUTING.md": "contributing.md", "../SECURITY.md": "security.md", "../CHANGELOG.md": "changelog.md",
}  # fmt: skip


def _with_pages(app: Any, name: str, source: list[str]) -> None:
    """Let links that lead out of the folder lead to the pages that include those documents."""
    for document, page in _ELSEWHERE.items():
        source[0] = source[0].replace(f"]({document})", f"]({page})")


def setup(app: Any) -> None:
    app.connect("source-read", _with_pages)
