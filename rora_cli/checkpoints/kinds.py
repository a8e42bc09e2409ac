"""What a model is by its config and the names of its weights, and whether rora can judge it as a classifier.

hunt, purify, poison, eval-asr and diagnose --clean ask a model which one of several labels a text has. check,
diagnose, rescale and verify work on every model. No torch: preflight asks here too.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, Protocol

from rora_cli.checkpoints.header import quoted
from rora_cli.layout import LABEL_LAYERS, is_head

#: What runs without asking the model for labels.
STILL_WORKS = "`rora check`, `rora diagnose`, `rora rescale` and `rora verify` work on it"

#: What an architecture's name says of its task; the first that fits counts.
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
#: Tasks whose heads bear the names of a sequence classifier's, and would be read as one.
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
    """What the model says it is, with its architecture: "a causal language model (LlamaForCausalLM)"."""
    name = _architecture(config)
    task = next((words for pattern, words in _TASKS if name and re.search(pattern, name)), None)
    if task == "a sequence-to-sequence language model" and ("vision_config" in config or "audio_config" in config):
        task = "a vision or audio language model"
    if task != "a sequence classifier" and _EMBEDDING_FILES.intersection(files):
        task = "an embedding model (sentence-transformers)"
        return f"{task[:-1]}, {name})" if name else task
    return f"{task} ({name})" if task else None


def why_not_judged(config: Mapping[str, Any], tensors: Tensors, outputs: int | None = None) -> str | None:
    """Why a model with a head cannot be asked for one label of several; None where it can.

    ``outputs`` replaces the number that its own weights or config tell: a new head's, or an adapter's.
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
    """The rows of the head's last layer where the weights hold one, else the number of labels in the config."""
    for name in LABEL_LAYERS:
        if name in tensors and len(tensors[name].shape) == 2:
            return int(tensors[name].shape[0])
    return label_count(config)


def label_count(config: Mapping[str, Any]) -> int:
    """The number of labels in the config, as transformers counts it."""
    names, count = config.get("id2label"), config.get("num_labels", 2)
    return len(names) if isinstance(names, dict) else count if type(count) is int else 2


def says_classifier(config: Mapping[str, Any]) -> bool:
    name = _architecture(config)
    return name is not None and name.endswith("SequenceClassification")


def head_elsewhere(config: Mapping[str, Any], tensors: Tensors) -> str | None:
    """A weight that has a row a label and no name that transformers gives to a head: that of another program."""
    count = label_count(config)
    outside = [n for n, t in tensors.items() if len(t.shape) == 2 and t.shape[0] == count and not is_head(n)]
    # A head stands outside of the model's body: few parts in its name, and no number of a block.
    outside = [n for n in outside if n.count(".") <= 2 and not re.search(r"(^|\.)\d+\.|embedding", n)]
    return outside[0] if len(outside) == 1 else None


def wrapper_in_names(tensors: Collection[str]) -> tuple[str, str] | None:
    """The part that a wrapper left in the names of the weights, and the wrapper: ("_orig_mod", "torch.compile")."""
    for part, wrapper in _WRAPPERS.items():
        parts = [name.split(".")[:-1] for name in tensors]
        found = sum(part in path[:1] if part == "module" else part in path for path in parts)
        if found and (part != "module" or found == len(parts)):
            return part, wrapper
    return None


def described(path: object, config: Mapping[str, Any], files: Collection[str]) -> str:
    """The model and what it is, as the start of a sentence: "DIR is a causal language model (LlamaForCausalLM)"."""
    kind = kind_of(config, files)
    return f"{path} is {kind}" if kind else f"{path} is of the model type {quoted(str(config.get('model_type')), 60)}"


def _architecture(config: Mapping[str, Any]) -> str | None:
    """The one that the config names; a sequence classifier's first, where there are several."""
    names = config.get("architectures")
    known = [n for n in names if isinstance(n, str) and re.fullmatch(r"\w{1,80}", n)] if isinstance(names, list) else []
    return next((name for name in known if name.endswith("SequenceClassification")), known[0] if known else None)
