"""The shape of the package: functions that can be read at once, and the kind of model named in three rooms alone."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "rora_cli"
MAX_LINES, MAX_PARAMETERS = 60, 8
#: What only a sequence classifier has, or only its classes in transformers and PEFT are called.
KIND = re.compile(
    r"\bAutoModelFor\w+|\bSEQ_CLS\b|\bCAUSAL_LM\b|\bnum_labels\b|\bid2label\b|\b(subject|task)\.kind (==|!=|is|in)\b"
)
#: The facts of each kind, the tasks, and the readers of a checkpoint's own config.
ROOMS = ("kinds.py", "tasks", "checkpoints")


def modules() -> Iterator[tuple[str, str]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path.relative_to(PACKAGE).as_posix(), path.read_text(encoding="utf-8")


def functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for name, text in modules():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{name}:{node.lineno} {node.name}", node


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    given = function.args.posonlyargs + function.args.args + function.args.kwonlyargs
    return len(given) - bool(given and given[0].arg in ("self", "cls"))


def test_no_function_is_longer_than_a_screen() -> None:
    lengths = {where: (node.end_lineno or 0) - node.lineno + 1 for where, node in functions()}
    assert {where: lines for where, lines in lengths.items() if lines > MAX_LINES} == {}


def test_no_function_takes_more_than_eight_parameters() -> None:
    counts = {where: parameters(node) for where, node in functions()}
    assert {where: count for where, count in counts.items() if count > MAX_PARAMETERS} == {}


def test_the_kind_of_model_is_named_in_three_rooms() -> None:
    named = {
        f"{name}: {found[0]}"
        for name, text in modules()
        if name.split("/")[0] not in ROOMS and (found := KIND.search(_code(text)))
    }
    assert named == set()


def _code(text: str) -> str:
    """Without comments and docstrings."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [n for n in node.body if not (isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant))]
    return ast.unparse(tree)


def test_the_command_line_is_built_with_typers_public_api() -> None:
    internal = re.compile(r"typer\.core|\bimport click\b|\bfrom click\b")
    assert [name for name, text in modules() if internal.search(text)] == []


ONE_HOME = {
    "report's file name": '"rora-report.json"',
    "number types of weights": '("float32", "bfloat16", "float16")',
    "places of a trigger": '("start", "end", "random", "every")',
    "robust scale of a normal": "1.4826",
    "packaged encoder": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
}


@pytest.mark.parametrize("fact", ONE_HOME)
def test_each_fact_has_one_home(fact: str) -> None:
    """Those that a close reader once found in two to six modules."""
    assert len([name for name, text in modules() if ONE_HOME[fact].replace('"', "'") in _code(text)]) == 1
