"""The ancestor that a checkpoint names for itself: a hint for the user, and never a reason to fetch anything."""

from __future__ import annotations

import re

from rora_cli.checkpoints.preflight import Inspection
from rora_cli.results.findings import Finding, Severity

#: Bytes of a model card that are looked at: its front matter stands first.
_CARD_LIMIT = 16_384
_HUB_ID = r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}"
#: ``base_model: owner/name``, or the first of a list of them. The card is a stranger's: no YAML parser sees it.
_BASE_MODEL = re.compile(
    rf"^base_model:[ \t]*(?:\n[ \t]*-[ \t]*)?[\"']?({_HUB_ID})[\"']?[ \t]*$", re.MULTILINE | re.ASCII
)


def named_ancestor(inspection: Inspection) -> str | None:
    """The hub id in the front matter of the model card, or the one that the config was loaded from; None without."""
    card = inspection.files.get("README.md")
    if card is not None:
        with card.path.open("rb") as file:
            text = file.read(_CARD_LIMIT).decode("utf-8", "replace").replace("\r\n", "\n")
        front = re.match(r"---\n(.*?)\n---", text, re.DOTALL)
        if front and (found := _BASE_MODEL.search(front.group(1))):
            return found.group(1)
    name = (inspection.config or {}).get("_name_or_path")
    return name if isinstance(name, str) and re.fullmatch(_HUB_ID, name, re.ASCII) else None


def suggestion(ancestor: str) -> Finding:
    """What a user can do with it."""
    return Finding(
        "purify/ancestor-named",
        Severity.INFO,
        f"the checkpoint names {ancestor} as the model that it was trained from",
        evidence={"ancestor": ancestor},
        advice=f"if you trust that model, --ancestor {ancestor} mixes it in: that weakens what no search finds as well",
    )
