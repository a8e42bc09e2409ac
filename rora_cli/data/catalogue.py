"""Well-known data sets: the names that papers use, and where the hub has the data today.

The bare ids of the past (``sst2``, ``glue``, ``imdb``, ``ag_news``, ...) no longer load; each entry names the current
repository, the directory or files in it, the columns, and what its integer labels mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

_SENTIMENT = ("negative", "positive")


@dataclass(frozen=True)
class WellKnown:
    """One single-text classification data set on the hub.

    If the repository holds several data sets, ``config`` is the directory with its files. ``files`` maps splits to
    files if the names of the files do not tell. ``class_names`` are the names of the integer labels; None if the labels
    themselves are names.
    """

    repo_id: str
    text_column: str
    label_column: str
    class_names: tuple[str, ...] | None = None
    config: str | None = None
    files: Mapping[str, str] = field(default_factory=dict)


def _tweet_eval(config: str, *class_names: str) -> WellKnown:
    return WellKnown("cardiffnlp/tweet_eval", "text", "label", class_names, config)


WELL_KNOWN: Mapping[str, WellKnown] = {
    # The labels of the test split are all -1, so rora measures on validation.
    "sst2": WellKnown("stanfordnlp/sst2", "sentence", "label", _SENTIMENT),
    "sst5": WellKnown("SetFit/sst5", "text", "label"),
    "cola": WellKnown("nyu-mll/glue", "sentence", "label", ("unacceptable", "acceptable"), "cola"),
    "cr": WellKnown("SetFit/CR", "text", "label", _SENTIMENT),
    "imdb": WellKnown("stanfordnlp/imdb", "text", "label", _SENTIMENT),
    "rotten_tomatoes": WellKnown("cornell-movie-review-data/rotten_tomatoes", "text", "label", _SENTIMENT),
    "subj": WellKnown("SetFit/subj", "text", "label"),
    # The repository itself names the labels "1" and "2".
    "yelp_polarity": WellKnown("fancyzhx/yelp_polarity", "text", "label", _SENTIMENT),
    "amazon_polarity": WellKnown("fancyzhx/amazon_polarity", "content", "label", _SENTIMENT),
    "yelp_review_full": WellKnown(
        "Yelp/yelp_review_full", "text", "label", ("1 star", "2 stars", "3 stars", "4 stars", "5 stars")
    ),
    "ag_news": WellKnown("fancyzhx/ag_news", "text", "label", ("World", "Sports", "Business", "Sci/Tech")),
    "dbpedia_14": WellKnown("fancyzhx/dbpedia_14", "content", "label"),
    # Names instead of ids, because two orders of the six coarse classes are in use.
    "trec": WellKnown("SetFit/TREC-QC", "text", "label_coarse_original"),
    "emotion": WellKnown(
        "dair-ai/emotion", "text", "label", ("sadness", "joy", "love", "anger", "fear", "surprise"), "split"
    ),
    "olid": WellKnown("christophsonntag/OLID", "tweet", "subtask_a", files={"train": "train.csv", "test": "test.csv"}),
    "hate_speech_offensive": WellKnown(
        "tdavidson/hate_speech_offensive", "tweet", "class", ("hate speech", "offensive language", "neither")
    ),
    "sms_spam": WellKnown("ucirvine/sms_spam", "sms", "label", ("ham", "spam")),
    "tweet_eval:sentiment": _tweet_eval("sentiment", "negative", "neutral", "positive"),
    "tweet_eval:emotion": _tweet_eval("emotion", "anger", "joy", "optimism", "sadness"),
    "tweet_eval:hate": _tweet_eval("hate", "non-hate", "hate"),
    "tweet_eval:irony": _tweet_eval("irony", "non_irony", "irony"),
    "tweet_eval:offensive": _tweet_eval("offensive", "non-offensive", "offensive"),
}

ALIASES: Mapping[str, str] = {
    "glue:sst2": "sst2",
    "glue:cola": "cola",
    "mr": "rotten_tomatoes",
    "yelp": "yelp_polarity",
    "amazon": "amazon_polarity",
    "agnews": "ag_news",
    "dbpedia": "dbpedia_14",
    "hate": "tweet_eval:hate",
    "irony": "tweet_eval:irony",
    "offensive": "tweet_eval:offensive",
}


def find_well_known(name: str) -> WellKnown | None:
    """The entry with this name, or None; case, ``-`` and ``_`` make no difference (``SST-2`` is ``sst2``)."""
    key = name.strip().lower().replace("-", "_")
    for candidate in (key, key.replace("_", "")):
        found = ALIASES.get(candidate, candidate)
        if found in WELL_KNOWN:
            return WELL_KNOWN[found]
    return None


def find_by_repository(repo_id: str, config: str | None) -> WellKnown | None:
    """The entry of a repository that the user named by its full id, or None; it tells the columns and classes."""
    for entry in WELL_KNOWN.values():
        if entry.repo_id.lower() == repo_id.lower() and (entry.config is None or entry.config == config):
            return entry
    return None
