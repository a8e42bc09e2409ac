"""Token ids of many rows: in memory where they are few, else in an Arrow file that is mapped and not read whole."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from rora_cli.errors import OutputError

#: Tokens that stay in memory as Python's integers, at up to 36 bytes each: 300 MB.
MAX_IN_MEMORY = 8_000_000
#: Rows that are tokenised, and written, at a time.
ROWS_AT_A_TIME = 1_000


class TokenRows:
    """The token ids of rows, in their order, and ``lengths`` [rows] in tokens.

    Of few tokens it holds lists. Of more than ``MAX_IN_MEMORY`` it holds a memory-mapped file of 4 bytes a token, which
    ``datasets`` writes into the directory for temporary files (TMPDIR) and which has no name there where the system
    allows that, so that nothing is left of it.

    Args:
        rows: token ids of each row, which are asked for once.

    Raises:
        OutputError: the disk of TMPDIR has no room for them.
    """

    def __init__(self, rows: Iterable[Sequence[int]]) -> None:
        self._rows: Any = []
        self.lengths: list[int] = []
        coming, total = iter(rows), 0
        for row in coming:
            self._rows.append(list(row))
            self.lengths.append(len(row))
            total += len(row)
            if total > MAX_IN_MEMORY:
                self._rows = self._mapped(chain(self._rows, coming))
                return

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, row: int) -> list[int]:
        ids: list[int] = self._rows[row]
        return ids if isinstance(self._rows, list) else self._rows[row]["ids"]

    def _mapped(self, rows: Iterable[Sequence[int]]) -> Any:
        from datasets import Dataset, Features, Sequence, Value
        from datasets.arrow_writer import ArrowWriter

        self.lengths = []
        with tempfile.TemporaryDirectory(prefix="rora-", ignore_cleanup_errors=True) as scratch:
            path = str(Path(scratch) / "rows.arrow")
            try:
                features = Features({"ids": Sequence(Value("int32"))})
                with ArrowWriter(features=features, path=path, writer_batch_size=ROWS_AT_A_TIME) as writer:
                    for row in rows:
                        writer.write({"ids": np.asarray(row, dtype=np.int32)})
                        self.lengths.append(len(row))
                    writer.finalize()
                return Dataset.from_file(path)
            except OSError as error:
                raise OutputError(
                    f"the {len(self.lengths):,} tokenised rows do not fit into {tempfile.gettempdir()} "
                    f"({error.strerror or error}); set TMPDIR to a directory with more room, or lower --max-train-rows"
                ) from error
