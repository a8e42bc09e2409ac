"""Write rora_cli/commands/typed_options.py, the types of the Python functions: python scripts/build_api.py [--check]"""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TARGET = Path(__file__).parent.parent / "rora_cli" / "commands" / "typed_options.py"
#: Function -> command, and its parameters that rora_cli/api.py spells out itself.
FUNCTIONS = {
    "purify": ("purify", ("model", "clean", "output")),
    "hunt": ("hunt", ("model", "clean")),
    "evaluate_asr": ("eval-asr", ("model", "data", "target_label")),
    "diagnose": ("diagnose", ("paths", "clean")),
    "rescale": ("rescale", ("adapter", "output", "clean")),
    "poison": ("poison", ("model", "data", "output", "target_label")),
    "check": ("check", ("paths",)),
}
#: Options of text that name a model or a place on disk.
_PLACES = ("reference", "adapter", "ancestor", "base", "before", "calibrate", "clean_out")
_HEAD = '''"""The keywords of the Python functions and their types: what stands beside the command line's options.

Made by `scripts/build_api.py` from the fields of the configs; without defaults, which the configs have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Literal, TypedDict

Named = str | PathLike[str]
'''


def render() -> str:
    from rora_cli.cli.command import classes_of
    from rora_cli.cli.commands_table import command

    parts = [_HEAD]
    for function, (name, own) in FUNCTIONS.items():
        title = "".join(word.capitalize() for word in function.split("_"))
        lines = [f'class {title}Options(TypedDict, total=False):\n    """Options of ``rora_cli.{function}``."""\n']
        lines += _fields(classes_of(command(name))[0], own)
        parts.append("\n".join(lines))
    done = subprocess.run(  # noqa: S603 - ruff, on text of our own
        [sys.executable, "-m", "ruff", "format", "--stdin-filename", str(TARGET), "-"],
        input="\n\n".join(parts) + "\n", capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout


def _fields(config: Any, own: tuple[str, ...]) -> Iterator[str]:
    from rora_cli.options import options_of

    for field in options_of(config).values():
        if field.name in own:
            continue
        keyword = field.name if field.option.argument else field.flag.lstrip("-").replace("-", "_")
        yield f"    {keyword}: {_type(field)}"
        text = " ".join(field.option.text.replace("[bold]", "").replace("[/]", "").split())
        wrapped = textwrap.wrap(text.replace("\\", "\\\\").replace('"', "'"), 112)
        yield f'    """{chr(10).join([wrapped[0], *(f"    {line}" for line in wrapped[1:])])}"""'


def _type(field: Any) -> str:
    """The type as a caller may give it: one value or several, a path as text, None for what is left to rora."""
    choices = field.option.choices
    kinds = {"str": "str", "int": "int", "float": "float", "bool": "bool", "Path": "Named"}
    if field.name in _PLACES:
        kinds["str"] = "Named"
    one = f"Literal[{', '.join(map(repr, choices))}]" if choices else kinds[field.kind.__name__]
    if field.option.read is not None and field.several and not field.one_text:
        one = "Mapping[str, str]"
    elif field.several:
        one = f"{one} | Sequence[{one}]"
    return f"{one} | None" if field.default is None else one


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(0 if TARGET.read_text(encoding="utf-8") == render() else f"{TARGET} is out of date")
    TARGET.write_text(render(), encoding="utf-8")
