"""What the model card of a checkpoint says of its ancestor, licence and languages, and the licence's own files.

No YAML parser reads the card, because nobody trusts its author: a few plain fields of the front matter are looked for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from rora_cli.checkpoints import other_files
from rora_cli.checkpoints.preflight import Inspection
from rora_cli.checkpoints.walk import read_unchanged

#: Length of a model card [bytes] that is searched: the front matter stands first.
_CARD_LIMIT = 16_384
#: The longest file [bytes] that is taken for a licence's text.
_LICENCE_LIMIT = 256 << 10
_LICENCE_FILE = re.compile(r"(?:licen[cs]e|notice|copying|use_policy)(?:[-_]\w{1,40})?(?:\.(?:md|txt))?", re.IGNORECASE)
HUB_ID = r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}"
#: Field of the front matter -> what its value may look like.
_FIELDS: Mapping[str, str] = {
    "base_model": HUB_ID,
    "license": r"[A-Za-z0-9][\w.+-]{0,63}",
    "license_name": r"[A-Za-z0-9][\w.+ -]{0,95}",
    "license_link": r"https://[\w./~%+-]{1,200}",
    "language": r"[A-Za-z]{2,8}(?:-[A-Za-z0-9]{1,8})*",
}


def card_values(inspection: Inspection, field: str) -> list[str]:
    """The values of a field of the card's front matter, one or a list, in order; none where it is not there or odd."""
    item = rf"[\"']?({_FIELDS[field]})[\"']?"
    listed = re.search(
        rf"^{field}:[ \t]*(?:{item}[ \t]*$|\[([^\]\n]*)\][ \t]*$|\n((?:[ \t]*-[ \t]*[^\n]*(?:\n|\Z))+))",
        _front_matter(inspection),
        re.MULTILINE | re.ASCII,
    )
    if listed is None:
        return []
    single, in_brackets, in_lines = listed.groups()
    if single:
        return [single]
    entries = (
        in_brackets.split(",") if in_brackets else [line.strip().removeprefix("-") for line in in_lines.split("\n")]
    )
    matches = (re.fullmatch(item, entry.strip(), re.ASCII) for entry in entries[:50])
    return [found.group(1) for found in matches if found]


def card_facts(inspection: Inspection) -> dict[str, str | list[str]]:
    """What the card of something made from the checkpoint must repeat: licence and languages, as the front matter has
    them."""
    facts: dict[str, str | list[str]] = {}
    for field in ("license", "license_name", "license_link", "language"):
        if values := card_values(inspection, field):
            facts[field] = values if field == "language" else values[0]
    return facts


def licence_files(inspection: Inspection) -> dict[str, bytes]:
    """The texts of the licence that lie beside the weights, by name.

    Raises:
        CheckpointError: one was changed since it was inspected.
    """
    return {
        name: read_unchanged(entry)
        for name, entry in inspection.files.items()
        if _LICENCE_FILE.fullmatch(name) and entry.size <= _LICENCE_LIMIT and other_files.is_text(entry)
    }


def _front_matter(inspection: Inspection) -> str:
    card = inspection.files.get("README.md")
    if card is None:
        return ""
    with card.path.open("rb") as file:
        text = file.read(_CARD_LIMIT).decode("utf-8", "replace").replace("\r\n", "\n")
    front = re.match(r"---\n(.*?\n)---", text, re.DOTALL)
    return front.group(1) if front else ""
