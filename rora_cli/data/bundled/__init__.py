"""The data set that comes with rora: UCI Sentiment Labelled Sentences (CC BY 4.0); see README.md beside this file."""

from __future__ import annotations

from pathlib import Path

from rora_cli.data.source import Request, Source, at_hand
from rora_cli.errors import DataError

NAMES = ("bundled", "sentiment-sentences")
LICENSE = "CC BY 4.0: Sentiment Labelled Sentences, D. Kotzias, UCI Machine Learning Repository, data set 331"


def from_package(request: Request) -> Source | None:
    """The bundled data set; None if ``request`` names another one. Raises DataError if it asks for a revision."""
    if request.spec.strip().lower() not in NAMES:
        return None
    if request.revision is not None:
        raise DataError("the bundled data set has no revisions; leave the revision out")
    here = Path(__file__).parent
    return Source(
        origin=NAMES[0],
        splits={split: at_hand({f"{split}.jsonl": here / f"{split}.jsonl"}) for split in ("train", "validation")},
        license=LICENSE,
        text_column="text",
        label_column="label",
        class_names=("negative", "positive"),
    )
