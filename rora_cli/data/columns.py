"""Which column holds the text and which the label."""

from __future__ import annotations

from collections.abc import Sequence

from rora_cli.errors import DataError

#: In order of preference where a table has several.
TEXT_COLUMNS = (
    "text", "sentence", "content", "review", "review_text", "review_body", "tweet", "document", "comment",
    "comment_text", "utterance", "message", "sms", "body", "input", "input_text", "question", "query",
    "title", "headline",
)  # fmt: skip
LABEL_COLUMNS = (
    "label", "labels", "label_id", "class", "target", "sentiment", "category", "coarse_label", "intent", "emotion",
    "polarity", "score",
)  # fmt: skip

#: A table that holds both columns of a pair is a text-pair task (entailment, paraphrase, question and passage).
PAIRS = (
    ("premise", "hypothesis"), ("sentence1", "sentence2"), ("question1", "question2"), ("question", "sentence"),
    ("question", "passage"), ("question", "context"), ("query", "passage"), ("text1", "text2"), ("text_a", "text_b"),
    ("sentence_a", "sentence_b"),
)  # fmt: skip

KNOWN_COLUMNS = frozenset(TEXT_COLUMNS) | frozenset(LABEL_COLUMNS) | {name for pair in PAIRS for name in pair} | {"idx"}


def find_columns(
    names: Sequence[str], where: str, *, text_column: str | None = None, label_column: str | None = None
) -> tuple[str, str]:
    """The text and the label column among ``names``; a column given by the caller is taken as it is.

    Raises:
        DataError: a column is missing, cannot be told by convention, or the table is a text-pair task.
    """
    by_lower = {name.lower(): name for name in reversed(names)}
    if text_column is None:
        for first, second in PAIRS:
            if first in by_lower and second in by_lower:
                raise DataError(
                    f"{where} is a text-pair task ({by_lower[first]}, {by_lower[second]}), and only single texts are "
                    "supported, for a trigger has no defined place in a pair; choose a single-text data set, or "
                    "name one column with --text-column"
                )
    label = _find(by_lower, names, LABEL_COLUMNS, label_column, "label", where)
    text = _find(by_lower, names, TEXT_COLUMNS, text_column, "text", where)
    if text == label:
        raise DataError(f"column {text!r} of {where} cannot be text and label at once; give both by name")
    return text, label


def _find(
    by_lower: dict[str, str],
    names: Sequence[str],
    conventional: tuple[str, ...],
    given: str | None,
    kind: str,
    where: str,
) -> str:
    present = ", ".join(map(repr, names)) or "none"
    if given is not None:
        if given not in names:
            raise DataError(
                f"{where} has no column {given!r} (it has {present}); give one of them with --{kind}-column"
            )
        return given
    for name in conventional:
        if name in by_lower:
            return by_lower[name]
    raise DataError(f"the {kind} column of {where} cannot be told from its columns ({present}); give --{kind}-column")
