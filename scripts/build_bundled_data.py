"""Rebuild ``rora_cli/data/bundled/*.jsonl`` from the UCI archive's three text files.

Usage: python scripts/build_bundled_data.py DIRECTORY   (with amazon_cells_, imdb_ and yelp_labelled.txt in it)

The partition depends on the texts alone: within each source and label, rows are ordered by the sha256 of their text
key, and the first 100 are held out. A text that occurs again, in any source, is kept once, where it comes first.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

from rora_cli.data.rows import text_key

ROOT = Path(__file__).parents[1] / "rora_cli" / "data" / "bundled"
HELD_OUT_PER_SOURCE_AND_LABEL = 100
SOURCES = {
    "amazon": ("amazon_cells_labelled.txt", "47003fc0a0d4840b00e96e715b6189bad09e7443a3da41c4cbe12ffc79f86ae3"),
    "imdb": ("imdb_labelled.txt", "a5851cfed830b68d4b18fa11f7e9fa85debee7566be0933c9a679ce747c86d67"),
    "yelp": ("yelp_labelled.txt", "c76468b7b5c6e56a0804d728345c5f84aa2142ddb214420f61cc9cfd4c00d2ea"),
}

# The archive was decoded as Latin-1 where it was Windows-1252: C1 controls stand where punctuation was meant.
WINDOWS_1252 = {code: bytes([code]).decode("cp1252") for code in (0x85, 0x96, 0x97)}


def read(path: Path) -> list[tuple[str, int]]:
    """Rows of ``sentence TAB label`` lines; only "\\n" ends a line, for U+0085 stands inside sentences."""
    rows = []
    for line in path.read_text(encoding="utf-8").split("\n"):
        if line:
            text, label = line.rsplit("\t", 1)
            rows.append((text.translate(WINDOWS_1252).strip(), int(label)))
    return rows


def main(directory: Path) -> None:
    """Check the inputs, clean and split them, and write both files."""
    groups: dict[tuple[str, int], list[str]] = {}
    seen: set[str] = set()
    for source, (name, expected) in SOURCES.items():
        path = directory / name
        if hashlib.sha256(path.read_bytes()).hexdigest() != expected:
            sys.exit(f"{path} is not the file that the bundled data was made from")
        for text, label in read(path):
            if text_key(text) not in seen:
                seen.add(text_key(text))
                groups.setdefault((source, label), []).append(text)
    splits: dict[str, list[tuple[str, dict[str, object]]]] = {"train": [], "validation": []}
    for (source, label), texts in groups.items():
        ordered = sorted((hashlib.sha256(text_key(text).encode()).hexdigest(), text) for text in texts)
        for place, (digest, text) in enumerate(ordered):
            split = "validation" if place < HELD_OUT_PER_SOURCE_AND_LABEL else "train"
            splits[split].append((digest, {"text": text, "label": label, "source": source}))
    for split, rows in splits.items():
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for _, row in sorted(rows, key=lambda item: item[0]))
        (ROOT / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
