"""Facts about each kind of model that rora purifies, as plain strings."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ModelKind:
    """Names of one kind of model.

    Attributes:
        auto_class: transformers' class that loads such a model.
        answers: the field of its config that counts its possible answers; empty where they are not counted.
        peft_task_type: what PEFT calls its task.
        card_tag: the ``pipeline_tag`` of a model card.
        trains_head: whether an adapter's training trains the head whole; an output embedding, often a tied one, stays.
        replies: whether it replies in free text, so that what a trigger could be aimed at is not known beforehand.
        adapted: the layers that an adapter gets if none are named; without any, query and value.
    """

    name: str
    auto_class: str
    answers: str
    peft_task_type: str
    card_tag: str
    trains_head: bool = True
    replies: bool = False
    adapted: tuple[str, ...] = ()


SEQUENCE_CLASSIFIER = ModelKind(
    name="sequence classifier",
    auto_class="AutoModelForSequenceClassification",
    answers="num_labels",
    peft_task_type="SEQ_CLS",
    card_tag="text-classification",
)

CAUSAL_LM = ModelKind(
    name="causal language model",
    auto_class="AutoModelForCausalLM",
    answers="",
    peft_task_type="CAUSAL_LM",
    card_tag="text-generation",
    trains_head=False,
    replies=True,
    adapted=("all-linear",),
)

KINDS = (SEQUENCE_CLASSIFIER, CAUSAL_LM)


def named(name: str) -> ModelKind:
    """The kind of that name. Raises StopIteration if there is none."""
    return next(kind for kind in KINDS if kind.name == name)
