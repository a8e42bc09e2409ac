"""The largest error of every adapter format against PEFT's own merge, as a Markdown table.

    python benchmarks/format_truth.py

The cases are those of tests/checkpoints/test_adapters_truth.py, which hold in CI what is only printed here.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.checkpoints.test_adapters_truth import CASES, compare


def main() -> None:
    warnings.simplefilter("ignore")
    print("| case | format | modules | source of truth | error of DeltaW | of sigma, with base | of sigma, alone |")
    print("|---|---|--:|---|--:|--:|--:|")
    for name, case in CASES.items():
        with tempfile.TemporaryDirectory() as directory:
            compared = compare(case, Path(directory))
        alone = "needs the base" if compared.alone is None else f"{compared.alone:.1e}"
        print(
            f"| {name} | {case.kind} | {len(compared.adapter.modules)} | PEFT `merge_and_unload` - base "
            f"| {compared.delta_error:.1e} | {compared.sigma_error:.1e} | {alone} |"
        )


if __name__ == "__main__":
    main()
