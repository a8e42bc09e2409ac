"""The kind of a model, from its config and the names of its weights, and whether rora can judge it as a classifier.

hunt, purify, poison and eval-asr need a model that gives a text one of several labels, or a causal language model;
diagnose --clean needs the former. check, diagnose, rescale and verify work on every model. This file needs no torch,
because preflight uses it too.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, Protocol

from rora_cli.checkpoints.header import quoted
from rora_cli.kinds import CAUSAL_LM, SEQUENCE_CLASSIFIER, ModelKind
from rora_cli.layout import LABEL_LAYERS, is_head

#: The end of a sentence about a model that is no classifier: which commands work all the same.
STILL_WORKS = "`rora check`, `rora diagnose`, `rora rescale` and `rora verify` work on it"

#: (pattern of an architecture's name, its kind in words); the first pattern that matches counts.
_TASKS = (
    (r"(Sequence|Text)Classification$", "a sequence classifier"),
    (r"TokenClassification$", "a token classifier"),
    (r"MultipleChoice$", "a multiple-choice model"),
    (r"(Image|Video|Vision|ImageText|Object|Segmentation|Depth|Keypoint|Pose)\w*$|^(CLIP|Siglip|ViT|Swin|Dino)",
     "a vision model"),
    (r"(Audio|Speech|CTC|XVector|RNNT)\w*$|^(Whisper|Wav2Vec2|Hubert|WavLM)", "a speech or audio model"),
    (r"QuestionAnswering(Simple)?$", "a question-answering model"),
    (r"(CausalLM|LMHeadModel|DoubleHeadsModel)$", "a causal language model"),
    (r"MaskedLM$", "a masked language model"),
    (r"(ConditionalGeneration|Seq2SeqLM|TextToText)$", "a sequence-to-sequence language model"),
    (r"(PreTraining|NextSentencePrediction)$", "a pretrained model with the heads of its pretraining"),
    (r"(Model|Encoder|Decoder)$", "a model without a head"),
)  # fmt: skip
#: Architectures whose heads have the names of a sequence classifier's head, so that rora would take them for one.
_LOOKALIKES = re.compile(r"(TokenClassification|MultipleChoice)$")
_EMBEDDING_FILES = frozenset({"modules.json", "config_sentence_transformers.json", "1_Pooling/config.json"})
_WRAPPERS = {
    "_orig_mod": "torch.compile",
    "module": "DataParallel or DeepSpeed",
    "_fsdp_wrapped_module": "FSDP",
    "_checkpoint_wrapped_module": "activation checkpointing",
}


class _HasShape(Protocol):
    @property
    def shape(self) -> tuple[int, ...]: ...


Tensors = Mapping[str, _HasShape]


def kind_of(config: Mapping[str, Any], files: Collection[str] = ()) -> str | None:
    """The model's kind and architecture, as its config states them: "a causal language model (LlamaForCausalLM)"."""
    name = _architecture(config)
    task = next((words for pattern, words in _TASKS if name and re.search(pattern, name)), None)
    if task == "a sequence-to-sequence language model" and ("vision_config" in config or "audio_config" in config):
        task = "a vision or audio language model"
    if task != "a sequence classifier" and _EMBEDDING_FILES.intersection(files):
        task = "an embedding model (sentence-transformers)"
        return f"{task[:-1]}, {name})" if name else task
    return f"{task} ({name})" if task else None


def loaded_as(config: Mapping[str, Any], adapter: Mapping[str, Any] | None, adapter_has_head: bool) -> ModelKind:
    """The kind of model that the files are loaded as: a causal one, or else a classifier, which says what it lacks.

    A classification head that the adapter brings decides, then the task that its config states, then the architecture.
    """
    task = (adapter or {}).get("task_type")
    if adapter_has_head or task == SEQUENCE_CLASSIFIER.peft_task_type:
        return SEQUENCE_CLASSIFIER
    return CAUSAL_LM if is_causal(config) or task == CAUSAL_LM.peft_task_type else SEQUENCE_CLASSIFIER


def is_causal(config: Mapping[str, Any]) -> bool:
    """Whether the config states the architecture of a causal language model."""
    return (kind_of(config) or "").startswith("a causal language model")


def why_not_judged(config: Mapping[str, Any], tensors: Tensors, outputs: int | None = None) -> str | None:
    """Why a model with a head does not give a text one of several labels; None if it does.

    ``outputs``, the size of a new head or of an adapter's head, replaces the size of the model's own head.
    """
    name, problem = _architecture(config), config.get("problem_type")
    if name and _LOOKALIKES.search(name):
        return f"is {kind_of(config)}, not a sequence classifier"
    if problem == "multi_label_classification":
        return (
            "is a multi-label classifier (problem_type multi_label_classification in config.json): it answers each "
            "label by itself, and rora judges models that choose one label"
        )
    if problem == "regression":
        return (
            "is a regression model (problem_type regression in config.json): it answers with a number, and rora judges "
            "models that choose one label"
        )
    if (outputs if outputs is not None else head_outputs(config, tensors)) == 1:
        return (
            "has one output (a regression, reward or cross-encoder model): it answers with a number, and rora judges "
            "models that choose one of two or more labels"
        )
    return None


def head_outputs(config: Mapping[str, Any], tensors: Tensors) -> int:
    """The number of rows of the head's last layer if the weights hold a head, else of labels in the config."""
    for name in LABEL_LAYERS:
        if name in tensors and len(tensors[name].shape) == 2:
            return int(tensors[name].shape[0])
    return label_count(config)


def label_count(config: Mapping[str, Any]) -> int:
    """The number of labels in the config, counted as transformers does."""
    names, count = config.get("id2label"), config.get("num_labels", 2)
    return len(names) if isinstance(names, dict) else count if type(count) is int else 2


def says_classifier(config: Mapping[str, Any]) -> bool:
    """Whether the config names the architecture of a sequence classifier."""
    name = _architecture(config)
    return name is not None and name.endswith("SequenceClassification")


def head_elsewhere(config: Mapping[str, Any], tensors: Tensors) -> str | None:
    """A weight with one row for each label, but without a head's name in transformers: another program's head."""
    count = label_count(config)
    outside = [n for n, t in tensors.items() if len(t.shape) == 2 and t.shape[0] == count and not is_head(n)]
    # A head stands outside of the model's body, so its name has few parts and no block number.
    outside = [n for n in outside if n.count(".") <= 2 and not re.search(r"(^|\.)\d+\.|embedding", n)]
    return outside[0] if len(outside) == 1 else None


def wrapper_in_names(tensors: Collection[str]) -> tuple[str, str] | None:
    """(part that a wrapper left in the weights' names, wrapper), such as ("_orig_mod", "torch.compile"); or None."""
    for part, wrapper in _WRAPPERS.items():
        parts = [name.split(".")[:-1] for name in tensors]
        found = sum(part in path[:1] if part == "module" else part in path for path in parts)
        if found and (part != "module" or found == len(parts)):
            return part, wrapper
    return None


def described(path: object, config: Mapping[str, Any], files: Collection[str]) -> str:
    """The start of a sentence about the model: "DIR is a causal language model (LlamaForCausalLM)"."""
    kind = kind_of(config, files)
    return f"{path} is {kind}" if kind else f"{path} is of the model type {quoted(str(config.get('model_type')), 60)}"


def _architecture(config: Mapping[str, Any]) -> str | None:
    """The architecture that the config names; if it names several, that of a sequence classifier."""
    names = config.get("architectures")
    known = [n for n in names if isinstance(n, str) and re.fullmatch(r"\w{1,80}", n)] if isinstance(names, list) else []
    return next((name for name in known if name.endswith("SequenceClassification")), known[0] if known else None)
