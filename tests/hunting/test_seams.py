"""The search knows behaviours and answers, never labels; its functions stay short enough to be read."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import rora_cli

ROOT = Path(rora_cli.__file__).parent
ROOMS = ("hunting", "tasks", "evaluation")
#: What only a task may name.
OF_A_TASK = {"label_names", "log_probabilities", "argmax", "logits", "num_labels", "id2label"}
MAX_LINES, MAX_PARAMETERS = 60, 8


def functions(room: str) -> Iterator[tuple[str, ast.FunctionDef]]:
    for path in sorted((ROOT / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", node


@pytest.mark.parametrize("room", ROOMS)
def test_functions_are_short_and_take_few_parameters(room: str) -> None:
    for where, node in functions(room):
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        taken = [argument.arg for argument in arguments if argument.arg not in ("self", "cls")]
        assert len(taken) <= MAX_PARAMETERS, f"{where} takes {len(taken)} parameters"
        assert node.end_lineno is not None and node.end_lineno - node.lineno < MAX_LINES, f"{where} is too long"


def test_the_search_names_nothing_of_a_classifier() -> None:
    for path in sorted((ROOT / "hunting").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
            assert name not in OF_A_TASK, f"{path.name}:{getattr(node, 'lineno', 0)} names {name}"
            module = node.module if isinstance(node, ast.ImportFrom) else ""
            assert not (module or "").startswith("rora_cli.tasks.classification"), f"{path.name} imports a task"
