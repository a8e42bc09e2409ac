"""Which column holds the text and which the label."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rora_cli.errors import DataError


class NoLabelsError(DataError):
    """The rows have no labels, as in many public test splits."""


def plain(name: str) -> str:
    """A column's name without quotes, case, spaces and punctuation: ``reviewText`` equals ``Review_Text``."""
    return re.sub(r"[\W_]+", "", name.lower())


#: Names of text and of label columns, preferred ones first; compared in the form of :func:`plain`.
TEXT_COLUMNS = (
    "text", "sentence", "content", "review", "review_text", "review_body", "tweet", "document", "comment",
    "comment_text", "utterance", "message", "sms", "body", "input", "input_text", "question", "query",
    "title", "headline", "reviews", "sentiment_text", "tweet_text", "phrase", "statement", "post", "abstract",
    "description", "article", "news", "summary", "sentence_text", "cleaned_text", "clean_text", "v2",
)  # fmt: skip
LABEL_COLUMNS = (
    "label", "labels", "label_id", "class", "target", "sentiment", "category", "coarse_label", "intent", "emotion",
    "polarity", "score", "class_label", "class_index", "class_id", "label_text", "label_name", "sentiment_label",
    "airline_sentiment", "rating", "stars", "overall", "topic", "type", "toxic", "is_spam", "spam", "v1",
)  # fmt: skip

#: A table that holds both columns of a pair is a text-pair task (entailment, paraphrase, question and passage).
PAIRS = (
    ("premise", "hypothesis"), ("sentence1", "sentence2"), ("question1", "question2"), ("question", "sentence"),
    ("question", "passage"), ("question", "context"), ("query", "passage"), ("text1", "text2"), ("text_a", "text_b"),
    ("sentence_a", "sentence_b"), ("sent1", "sent2"), ("q1", "q2"), ("text", "text_pair"), ("claim", "evidence"),
)  # fmt: skip

KNOWN_COLUMNS = frozenset(
    plain(name) for name in (*TEXT_COLUMNS, *LABEL_COLUMNS, *(name for pair in PAIRS for name in pair), "id", "idx")
)


def find_columns(
    names: Sequence[str], where: str, *, text_column: str | None = None, label_column: str | None = None
) -> tuple[str, str]:
    """The text and the label column among ``names``; a column that the caller names is taken as it is.

    Raises:
        NoLabelsError: a column has the name of texts, but none has that of labels.
        DataError: a column is missing or has no conventional name, or the table is a text-pair task.
    """
    by_name = {plain(name): name for name in reversed(names)}
    if text_column is None:
        _require_single_texts(by_name, where)
    label = _find(by_name, names, LABEL_COLUMNS, label_column, "label", where)
    text = _find(by_name, names, TEXT_COLUMNS, text_column, "text", where)
    present = ", ".join(repr(name[:40]) for name in names[:20]) or "none"
    if len(names) == 1 and None in (text, label):
        error = DataError if text is None else NoLabelsError
        raise error(f"{where} has only the column {present}, where one of texts and one of labels are needed; add it")
    if text is None:
        raise DataError(f"the text column of {where} cannot be told from its columns ({present}); give --text-column")
    if label is None:
        raise NoLabelsError(
            f"the label column of {where} cannot be told from its columns ({present}); give --label-column"
        )
    if text == label:
        raise DataError(f"column {text!r} of {where} cannot be text and label at once; give both by name")
    return text, label


def _require_single_texts(by_name: dict[str, str], where: str) -> None:
    for first, second in (tuple(map(plain, pair)) for pair in PAIRS):
        if first in by_name and second in by_name:
            raise DataError(
                f"{where} is a text-pair task ({by_name[first]}, {by_name[second]}), and only single texts are "
                "supported, for a trigger has no defined place in a pair; choose a single-text data set, name one "
                f"column with --text-column {by_name[first]}, or, for a model that reads both as one text, join the "
                "two columns into one and name that"
            )


def _find(
    by_name: dict[str, str],
    names: Sequence[str],
    conventional: tuple[str, ...],
    given: str | None,
    kind: str,
    where: str,
) -> str | None:
    if given is not None:
        if given not in names:
            present = ", ".join(map(repr, names)) or "none"
            raise DataError(
                f"{where} has no column {given!r} (it has {present}); give one of them with --{kind}-column"
            )
        return given
    return next((by_name[plain(name)] for name in conventional if plain(name) in by_name), None)
