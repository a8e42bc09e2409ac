"""Attacks on one model, measured on the same rows: clean accuracy, floor, control and success."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from random import Random
from typing import TYPE_CHECKING, Any

from rora_cli.attacks.base import Attack
from rora_cli.progress import SILENT, Progress
from rora_cli.results.accuracy import AttackOutcome, CleanAccuracy

if TYPE_CHECKING:
    import numpy as np

    from rora_cli.checkpoints.loading import LoadedClassifier
    from rora_cli.data.rows import Rows


#: The position of attacks that rewrite the text as a whole.
WHOLE_TEXT = "whole text"


def input_hashes(loaded: LoadedClassifier) -> dict[str, str]:
    """sha256 of every file that was read of the model and, under ``adapter/``, of its adapter."""
    hashes = {}
    for inspection in loaded.inspections:
        prefix = "adapter/" if inspection.role == "adapter" else ""
        hashes.update({prefix + name: digest for name, digest in inspection.hashes().items()})
    return hashes


class Bench:
    """A model and rows to measure attacks on; the clean predictions are made once."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        rows: Rows,
        label_names: Sequence[str],
        max_length: int | None = None,
        progress: Progress = SILENT,
    ) -> None:
        from rora_cli.evaluation.inference import length_limit

        self.model, self.tokenizer, self.rows, self.label_names = model, tokenizer, rows, label_names
        self.progress = progress
        self.max_tokens = length_limit(model, tokenizer, max_length)

    def _predict(self, name: str) -> Callable[[Sequence[str]], np.ndarray]:
        from rora_cli.evaluation.inference import predict_logits

        def predict(texts: Sequence[str]) -> np.ndarray:
            with self.progress.phase(name, len(texts)) as task:
                return predict_logits(self.model, self.tokenizer, texts, max_length=self.max_tokens, task=task)

        return predict

    @cached_property
    def clean_predictions(self) -> np.ndarray:
        """Label ids [n] of the rows as they are."""
        predicted: np.ndarray = self._predict("clean rows")(self.rows.texts).argmax(axis=1)
        return predicted

    @cached_property
    def clean_accuracy(self) -> CleanAccuracy:
        from rora_cli.evaluation.accuracy import accuracy_of_predictions

        return accuracy_of_predictions(self.clean_predictions, self.rows.labels, self.label_names)

    @cached_property
    def vocabulary(self) -> list[str]:
        from rora_cli.evaluation.inference import whole_words

        return whole_words(self.tokenizer)

    def measure(self, attack: Attack, target_label: int, seed: int, *, role: str = "attack") -> AttackOutcome:
        """One attack under one seed; ``role`` is ``attack``, ``control`` or ``decoy`` (what must not set it off)."""
        from rora_cli.evaluation.attack import measure_attack
        from rora_cli.evaluation.inference import count_tokens

        position = attack.position if attack.positioned else WHOLE_TEXT
        return measure_attack(
            self._predict(f"{attack.name if role == 'attack' else role}, {position}, seed {seed}"),
            self.rows.texts,
            self.rows.labels,
            attack.implant if role != "decoy" else lambda text, rng: attack.decoy(text, rng) or text,
            target_label=target_label,
            label_names=self.label_names,
            name=attack.name,
            trigger=attack.shown if role != "decoy" else f"decoy of {attack.shown}",
            position=position,
            seed=seed,
            is_control=role != "attack",
            clean_predictions=self.clean_predictions,
            count_tokens=lambda texts: count_tokens(self.tokenizer, texts),
            max_tokens=self.max_tokens,
        )

    def measure_all(
        self, attacks: Iterable[Attack], seeds: Sequence[int], target_label: int, *, control: bool = True
    ) -> Iterator[AttackOutcome]:
        """Every attack's variants under every seed, each followed by its control and its decoy, where it has them.

        An attack that no seed can change (a fixed place, one trigger) is measured under the first seed only; its
        control, which is drawn at random, under all.
        """
        chosen = [variant for attack in attacks for variant in attack.variants()]
        taken = {word.lower() for attack in chosen for trigger in attack.triggers for word in trigger.split()}
        vocabulary = [word for word in self.vocabulary if word.lower() not in taken] if control else []
        for attack in chosen:
            for number, seed in enumerate(seeds):
                if number == 0 or _is_random(attack):
                    yield self.measure(attack, target_label, seed)
                if not control:
                    continue
                if (drawn := attack.control(vocabulary, self.pieces, seed)) is not None:
                    yield self.measure(drawn, target_label, seed, role="control")
                if attack.decoy("any text", Random(0)) is not None:
                    yield self.measure(attack, target_label, seed, role="decoy")

    def pieces(self, word: str) -> int:
        return len(self.tokenizer(word, add_special_tokens=False)["input_ids"])


def _is_random(attack: Attack) -> bool:
    return not attack.positioned or attack.position == "random" or len(attack.triggers) > 1
