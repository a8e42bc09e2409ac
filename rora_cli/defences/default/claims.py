"""What the loop may claim of the triggers it found: whether they are whole, and how well they still work."""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, partial
from random import Random
from typing import Any

from torch import nn

from rora_cli.attacks.triggers import control_trigger
from rora_cli.defences.bench import Workbench
from rora_cli.defences.hardening import KnownTrigger
from rora_cli.evaluation.attack import AttackTrial, TextLimit, measure_attack
from rora_cli.evaluation.inference import count_tokens, predict_logits, whole_words
from rora_cli.results.accuracy import AttackOutcome
from rora_cli.tasks.classification.thresholds import CLAIMS

#: Triggers that are measured again, and the held-out rows, at most, that each is measured on.
MOST_MEASURED, RESIDUAL_ROWS = 24, 300
#: Harmless insertions of as many words that each is compared with: the middle one of so many.
CONTROLS = 5
_WORD = re.compile(r"\w+")


def part_of_a_trigger(found: Iterable[Mapping[str, Any]], clean_texts: Sequence[str]) -> str:
    """A sentence on the label of which no trigger was found that is surely a whole one; empty without.

    A whole one turns nearly every row, does not read like a word (a rare token, as attacks use them), and nothing
    but other triggers adds to it. Measured: hardened on "neighbour" (92 to 100 % of rows) of "my neighbour came
    over yesterday", or on "3d movie" (100 %) of "I watched this 3D movie", a model forgets those, the search finds
    nothing more, and the sentence still succeeds in up to 83 and 39 of 100 rows.
    """
    by_label: dict[str, list[Mapping[str, Any]]] = {}
    for trigger in found:
        by_label.setdefault(trigger["target_label"], []).append(trigger)
    for label, triggers in by_label.items():
        if why := _maybe_a_part(triggers, clean_texts):
            return (
                f"what was found for {label} no longer works, but {why}: it may be a part of a longer trigger that "
                "still works; name what you suspect with --trigger, mix in an --ancestor, or search with "
                "--search-budget thorough"
            )
    return ""


def _maybe_a_part(triggers: Sequence[Mapping[str, Any]], clean_texts: Sequence[str]) -> str:
    singles = {t["text"] for t in triggers if len(t["text"].split()) == 1}
    for trigger in triggers:
        if set(trigger["text"].split()) - singles:
            return f"{trigger['text']!r} is of several words"
    strongest = max(triggers, key=lambda t: float(t["flip_rate"]))
    if strongest["flip_rate"] < CLAIMS.min_whole_flips:
        return f"{strongest['text']!r} never turned more than {100 * strongest['flip_rate']:.1f} % of the rows"
    written = Counter(word for text in clean_texts for word in set(_WORD.findall(text.lower())))
    if not any(
        t["flip_rate"] >= CLAIMS.min_whole_flips and _is_no_word(t["text"], written, len(clean_texts)) for t in triggers
    ):
        return f"{strongest['text']!r} is a word that people write"
    return ""


def _is_no_word(text: str, written: Mapping[str, int], rows: int) -> bool:
    """Whether a found token is no word that a sentence would hold: of few letters, and in hardly any clean row."""
    rare = written.get(text.lower(), 0) <= rows // CLAIMS.rows_per_chance
    return rare and sum(letter.isalpha() for letter in text) < CLAIMS.min_word_letters


def strongest_left(bench: Workbench, model: nn.Module, found: Iterable[Mapping[str, Any]]) -> tuple[float, str]:
    """By how much the trigger that works best exceeds what harmless words do on held-out rows, and a sentence on it.

    Of those that were ``found``, and of those that the user named. Harmless is the floor, or the median of random words
    in the same number: where nearly any inserted word hurts, that is far above the floor. (0, "") where none does more.
    """
    names, rows = bench.label_names, bench.held_out
    if len(rows) > RESIDUAL_ROWS:
        rows = rows.take(Random(bench.config.seed).sample(range(len(rows)), RESIDUAL_ROWS))

    def predict(texts: Sequence[str]) -> Any:
        return predict_logits(model, bench.tokenizer, texts, max_length=bench.max_length).argmax(axis=1)

    clean = predict(rows.texts)

    def measure(trigger: KnownTrigger, target: int) -> AttackOutcome:
        others = [i for i, label in enumerate(rows.labels) if label != target]
        return measure_attack(
            lambda texts: predict(texts) == target,
            [rows.texts[i] for i in others],
            AttackTrial(trigger.implant, names[target], "found", trigger.text, "random", bench.config.seed),
            before=clean[others] == target,
            limit=TextLimit(partial(count_tokens, bench.tokenizer), bench.max_length),
        )

    @cache
    def harmless(words: int, attached: bool, target: int) -> float:
        shape, seeds = " ".join(["word"] * words), range(CONTROLS if pool else 0)
        drawn = [control_trigger(shape, pool, lambda _: 1, bench.config.seed + i) for i in seeds]
        rates = [measure(KnownTrigger(text, attached), target).attack_success_rate.value or 0.0 for text in drawn]
        return statistics.median(rates) if rates else 0.0

    pool = whole_words(bench.tokenizer)
    pairs = [
        (KnownTrigger(trigger["text"], trigger["attached"]), names.index(trigger["target_label"]))
        for trigger in list(found)[:MOST_MEASURED]
    ]
    pairs += [(KnownTrigger(text), label) for text in bench.config.triggers for label in range(len(names))]
    worst = (0.0, "")
    for trigger, target in pairs:
        outcome = measure(trigger, target)
        rate, floor = outcome.attack_success_rate.value or 0.0, outcome.floor.value or 0.0
        usual = harmless(len(trigger.text.split()), trigger.attached, target)
        sentence = (
            f"the trigger {trigger.text!r} still turns {100 * rate:.1f} % of held-out rows to {names[target]} "
            f"(floor {100 * floor:.1f} %, harmless words {100 * usual:.1f} %)"
        )
        worst = max(worst, (rate - max(floor, usual), sentence))
    return worst
