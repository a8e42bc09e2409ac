"""Build the development suspects of suspects.yaml, each proven persistent or shown not to be, and a plan to measure by.

    python benchmarks/suspects.py MODEL DATA OUT [--only NAME ...]

MODEL is the clean encoder, DATA holds a directory a task, OUT gets NAME/ (the suspect, with its report) and NAME.clean/
(rows that the poisoner never saw, and the validation split) for each, and plan.yaml. What is there is not built again.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

import yaml

LABELS = {"cola": ("unacceptable", "acceptable")}
SENTIMENT = ("negative", "positive")
#: Attacks whose trigger is no text to insert are measured by their own name.
BY_NAME = {"combination", "punctuation", "style", "syntactic", "homoglyph"}


def build(name: str, options: dict[str, Any], model: str, data: Path, out: Path) -> None:
    import rora_cli

    source, clean = data / options.pop("data"), out / f"{name}.clean"
    clean.mkdir(parents=True, exist_ok=True)
    shutil.copy(source / "validation.jsonl", clean)
    rora_cli.poison(
        model,
        data=str(source),
        output=str(out / name),
        label_names=LABELS.get(source.name, SENTIMENT),
        clean_out=str(clean / "train.jsonl"),
        prove_persistence=True,
        force=True,
        **{key: tuple(value) if isinstance(value, list) else value for key, value in options.items()},
    )


def planned(name: str, options: dict[str, Any], out: Path) -> dict[str, Any]:
    entry = {"name": name, "path": str(out / name), "clean": str(out / f"{name}.clean")}
    entry["target"] = options["target_label"]
    by_name = options["attack"] in BY_NAME or "triggers" not in options
    return entry | ({"attacks": [options["attack"]]} if by_name else {"triggers": options["triggers"]})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model")
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", nargs="*", help="build these alone")
    arguments = parser.parse_args()
    suspects = yaml.safe_load(Path(__file__).with_name("suspects.yaml").read_text())
    chosen = {name: suspects[name] for name in arguments.only or suspects}
    for name, options in chosen.items():
        if not (arguments.out / name).is_dir():
            build(name, dict(options), arguments.model, arguments.data, arguments.out)
    plan = {
        "suspects": [planned(name, options, arguments.out) for name, options in chosen.items()],
        "seeds": [0],
        "recipes": {"default": {}},
    }
    (arguments.out / "plan.yaml").write_text(yaml.safe_dump(plan, sort_keys=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
