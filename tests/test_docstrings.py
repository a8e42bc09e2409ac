"""Docstrings of public definitions, held by ratchets: each number may only get better, and is then recorded anew.

``python tests/test_docstrings.py`` lists the offenders.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).parents[1] / "rora_cli"
Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef

#: Room -> fraction of public functions, methods and classes with a docstring, at least; a room not named here has 1.
MIN_DOCUMENTED: dict[str, float] = {}
#: Room -> number of public functions that raise a RoraError themselves and do not say so, at most; 0 if not named here.
MAX_SILENT: dict[str, int] = {}
#: Room -> number of public functions of tensors or arrays whose docstring shows no shape, at most; 0 if not named here.
MAX_WITHOUT_SHAPE: dict[str, int] = {}


class Public(NamedTuple):
    """A public definition: its room, its place (file:line name), its node and its docstring."""

    room: str
    place: str
    node: Definition
    doc: str


@cache
def _modules() -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}


@cache
def _classes() -> dict[str, ast.ClassDef]:
    found = (node for tree in _modules().values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    return {node.name: node for node in found}


def _bases(node: ast.ClassDef) -> Iterator[ast.ClassDef]:
    """The classes of the package that ``node`` inherits from, nearest first."""
    for base in node.bases:
        if isinstance(base, ast.Name) and base.id in _classes():
            yield _classes()[base.id]
            yield from _bases(_classes()[base.id])


def _doc(node: Definition, owner: ast.ClassDef | None) -> str:
    """The docstring, else that of the method which a base class of the package defines."""
    inherited = (m for base in _bases(owner) for m in base.body) if owner is not None else ()
    nodes = [node, *(m for m in inherited if isinstance(m, Definition) and m.name == node.name)]
    return next(filter(None, map(ast.get_docstring, nodes)), "")


def _definitions(body: list[ast.stmt], owner: ast.ClassDef | None = None) -> Iterator[tuple[Definition, str]]:
    """The public definitions of a module and of its public classes, with their docstrings."""
    for node in body:
        if isinstance(node, Definition) and not node.name.startswith("_"):
            yield node, _doc(node, owner)
            if isinstance(node, ast.ClassDef):
                yield from _definitions(node.body, node)


@cache
def _public() -> tuple[Public, ...]:
    found = []
    for path, tree in _modules().items():
        name = path.relative_to(PACKAGE)
        room = name.parts[0] if len(name.parts) > 1 else "rora_cli"
        for node, doc in _definitions(tree.body):
            found.append(Public(room, f"{name.as_posix()}:{node.lineno} {node.name}", node, doc))
    return tuple(found)


def _functions() -> list[Public]:
    return [p for p in _public() if not isinstance(p.node, ast.ClassDef)]


def _own(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a function's own body, without those of functions and classes inside of it."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, Definition | ast.Lambda):
            yield child
            yield from _own(child)


def _raises(node: ast.AST) -> bool:
    """Whether the function's own body raises RoraError or a subclass of it."""
    for inner in _own(node):
        if isinstance(inner, ast.Raise) and isinstance(inner.exc, ast.Call) and isinstance(inner.exc.func, ast.Name):
            raised = _classes().get(inner.exc.func.id)
            if raised is not None and "RoraError" in {raised.name, *(base.name for base in _bases(raised))}:
                return True
    return False


def _takes_arrays(node: Definition) -> bool:
    """Whether a tensor or an array is among the arguments or the results."""
    assert not isinstance(node, ast.ClassDef)
    arguments = node.args
    hints = [a.annotation for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    text = " ".join(ast.unparse(hint) for hint in (*hints, node.returns) if hint is not None)
    return re.search(r"\b(?:Tensor|NDArray|ndarray)\b", text) is not None


def undocumented() -> list[Public]:
    """Public definitions without a docstring."""
    return [p for p in _public() if not p.doc]


def silent() -> list[Public]:
    """Public functions that raise a RoraError, and whose docstring does not say so."""
    return [p for p in _functions() if _raises(p.node) and not re.search(r"\bRaises?\b", p.doc)]


def without_shape() -> list[Public]:
    """Public functions of tensors or arrays, whose docstring has neither a shape such as [d_out, r] nor "scalar"."""
    return [p for p in _functions() if _takes_arrays(p.node) and not re.search(r"\[.+?\]|\bscalars?\b", p.doc)]


def _by_room(offenders: list[Public]) -> dict[str, list[str]]:
    rooms: dict[str, list[str]] = {}
    for offender in offenders:
        rooms.setdefault(offender.room, []).append(offender.place)
    return rooms


def test_public_definitions_have_docstrings() -> None:
    total = Counter(p.room for p in _public())
    for room, places in _by_room(undocumented()).items():
        documented = 1 - len(places) / total[room]
        assert documented >= MIN_DOCUMENTED.get(room, 1.0), places


@pytest.mark.parametrize(("offenders", "allowed"), [(silent, MAX_SILENT), (without_shape, MAX_WITHOUT_SHAPE)])
def test_docstrings_say_what_is_raised_and_which_shapes(
    offenders: Callable[[], list[Public]], allowed: dict[str, int]
) -> None:
    for room, places in _by_room(offenders()).items():
        assert len(places) <= allowed.get(room, 0), places


def test_a_raise_is_seen_and_a_nested_function_is_not_its_owner() -> None:
    source = "def f():\n    def g():\n        raise UsageError('')\n    {}"
    for last, raises in (("return g", False), ("raise DataError('')", True), ("raise ValueError('')", False)):
        assert _raises(ast.parse(source.format(last)).body[0]) == raises


if __name__ == "__main__":
    everything = Counter(p.room for p in _public())
    for kind in (undocumented, silent, without_shape):
        counts = Counter(p.room for p in kind())
        print(kind.__name__, sum(counts.values()), {r: f"{n} of {everything[r]}" for r, n in sorted(counts.items())})
        print("".join(f"    {p.place}\n" for p in kind()), end="")
