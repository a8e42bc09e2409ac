"""Every command on a tiny model of every family, in this process: exit codes, sentences, and the files written.

``python -m tests.family_matrix [FAMILY ...]`` prints the table family x command x exit code.
"""

from __future__ import annotations

import contextlib
import gc
import io
import json
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import tiny_rows
from tests.families import FAMILIES, TRIGGER, adapt_family, build_family, train_family

#: A training so short that it shows only whether it can be done, and a limit on lost accuracy that nothing exceeds.
_SHORT = ("--epochs", "1", "--batch-size", "40", "--max-accuracy-drop", "100", "--device", "cpu")
_SEARCHES = ("--reference", "bag-of-words", "--device", "cpu")
#: Column -> (command, arguments). {m} the model, {a} an adapter on it, {d} clean rows, {o} where outputs go.
COMMANDS: dict[str, tuple[str, ...]] = {
    "check": ("check", "{m}"),
    "check a": ("check", "{a}", "--base", "{m}"),
    "diagnose": ("diagnose", "{a}", "--base", "{m}", "--no-cache"),
    "diag cl": ("diagnose", "{a}", "--base", "{m}", "--clean", "{d}", "--max-rows", "24", "--no-cache"),
    "eval-asr": ("eval-asr", "{m}", "--data", "{d}", "--trigger", TRIGGER, "--target-label", "positive"),
    "eval a": ("eval-asr", "{m}", "--adapter", "{a}", "--data", "{d}", "--trigger", TRIGGER, "--target-label", "1"),
    "hunt": ("hunt", "{m}", "--clean", "{d}", "--split", "train", "--budget", "fast", "--label", "positive",
             *_SEARCHES),
    "rescale": ("rescale", "{a}", "--base", "{m}", "-o", "{o}/rescaled"),
    "lora": ("purify", "{m}", "--clean", "{d}", "--recipe", "lora", *_SHORT, "-o", "{o}/lora"),
    "paper": ("purify", "{m}", "--clean", "{d}", "--recipe", "paper", "--tr-k", "8", *_SHORT, "-o", "{o}/paper"),
    "full": ("purify", "{m}", "--clean", "{d}", "--recipe", "full", *_SHORT, "-o", "{o}/full"),
    "crow": ("purify", "{m}", "--clean", "{d}", "--recipe", "crow", *_SHORT, "-o", "{o}/crow"),
    "prune": ("purify", "{m}", "--clean", "{d}", "--recipe", "fine-pruning", *_SHORT, "-o", "{o}/prune"),
    "reinit": ("purify", "{m}", "--clean", "{d}", "--recipe", "reinit", "--reinit-blocks", "1", *_SHORT,
               "-o", "{o}/reinit"),
    "adapter": ("purify", "{m}", "--adapter", "{a}", "--clean", "{d}", "--recipe", "lora", *_SHORT,
                "-o", "{o}/adapter"),
    "default": ("purify", "{m}", "--clean", "{d}", "--search-budget", "fast", "--max-rounds", "1", "--escalate", "none",
                *_SEARCHES[:2], *_SHORT, "-o", "{o}/default"),
}  # fmt: skip
#: Commands whose cost is the search's or that differ from another by a penalty only: run on one family of each kind.
_FEW = {
    "hunt": {"bert", "mpnet", "funnel", "roberta", "bart", "gpt2", "bloom", "qwen2", "albert", "xlnet", "t5", "mbart",
             "deberta-v2", "llama", "gemma", "squeezebert", "mixtral"},
    "paper": {"bert", "gpt2", "bloom", "albert", "t5", "deberta", "xlnet", "mixtral", "squeezebert"},
    "default": {"gpt2", "albert", "mixtral", "squeezebert"},
}  # fmt: skip
#: Where nothing is searched for, weights that are no longer random are enough.
_UNSEARCHED_STEPS = 30


def columns(family: str) -> list[str]:
    """The commands that are run on a family."""
    return [column for column in COMMANDS if column not in _FEW or family in _FEW[column]]


@dataclass(frozen=True)
class Answer:
    """What one command answered: its exit code, and all that it printed on stderr."""

    code: int
    stderr: str

    @property
    def sentences(self) -> list[str]:
        """What it said where it stopped."""
        return [line.removeprefix("rora: ") for line in self.stderr.splitlines() if line.startswith("rora: ")]

    @property
    def phases(self) -> set[str]:
        """What it began to do."""
        return {line.removesuffix(" ...") for line in self.stderr.splitlines() if line.endswith(" ...")}


@dataclass(frozen=True)
class Bench:
    """One family on disk: its classifier with a backdoor, an adapter on it, and clean rows."""

    family: str
    model: Path
    adapter: Path
    clean: Path
    outputs: Path

    def run(self, column: str) -> Answer:
        places = {"m": self.model, "a": self.adapter, "d": self.clean, "o": self.outputs}
        return rora(*(argument.format(**places) for argument in COMMANDS[column]))

    def verify(self) -> dict[str, Answer]:
        """``rora verify`` of every output that is there."""
        return {output.name: rora("verify", str(output)) for output in sorted(self.outputs.iterdir())}


def make_bench(family: str, directory: Path) -> Bench:
    steps = None if family in _FEW["hunt"] else _UNSEARCHED_STEPS
    model = train_family(family, build_family(family, directory / "model"), trigger=TRIGGER, steps=steps)
    adapter = adapt_family(family, model, directory / "adapter")
    clean = directory / "clean"
    clean.mkdir()
    for split, count, seed in (("train", 80, 5), ("validation", 32, 6)):
        texts, labels = tiny_rows(count, seed=seed)
        lines = [json.dumps({"text": text, "label": label}) for text, label in zip(texts, labels, strict=True)]
        (clean / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    # The commands collect garbage to give memory back early: all that the libraries hold need not be looked at again.
    gc.freeze()
    return Bench(family, model, adapter, clean, directory / "outputs")


def rora(*arguments: str) -> Answer:
    """Run the command line in this process, as the entry point does."""
    from rora_cli.cli.app import run

    printed, said, argv = io.StringIO(), io.StringIO(), sys.argv
    code = 0
    sys.argv = ["rora", *arguments]
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(said):
            run()
    except SystemExit as stop:
        code = int(stop.code or 0)
    finally:
        sys.argv = argv
    return Answer(code, said.getvalue())


def table_row(family: str, answers: dict[str, Answer]) -> str:
    """The family's exit codes, a dot where a command is not run on it."""
    codes = (str(answers[column].code) if column in answers else "." for column in COMMANDS)
    return family.ljust(12) + "".join(code.rjust(len(column) + 2) for code, column in zip(codes, COMMANDS, strict=True))


def main(families: list[str]) -> None:
    import tempfile

    print(" " * 12 + "".join(f"  {column}" for column in COMMANDS))
    sentences: dict[str, list[str]] = {}
    for family in families or FAMILIES:
        with tempfile.TemporaryDirectory() as scratch:
            bench = make_bench(family, Path(scratch))
            answers = {column: bench.run(column) for column in columns(family)}
            print(table_row(family, answers), flush=True)
            for column, answer in answers.items():
                for sentence in answer.sentences:
                    sentences.setdefault(sentence.replace(scratch, ""), []).append(f"{family} {column}")
    for sentence, cells in sentences.items():
        print(f"{', '.join(cells)}: {sentence}")


if __name__ == "__main__":
    main(sys.argv[1:])
