"""Write docs/reference.md from the commands themselves: python scripts/build_reference.py [--check]"""

from __future__ import annotations

import sys
from pathlib import Path

TARGET = Path(__file__).parent.parent / "docs" / "reference.md"


def render() -> str:
    from rora_cli.cli.commands_table import COMMANDS, build

    lines = ["# Command reference", "", "Made by `scripts/build_reference.py` from the commands' own help.", ""]
    for name, (module, _) in COMMANDS.items():
        command = build(name, module)
        lines += [f"## rora {name}", "", _plain(command.help or ""), ""]
        lines += ["| option | meaning |", "|---|---|"]
        for parameter in command.params:
            if parameter.name == "help":
                continue
            lines.append(f"| {_names(parameter)} | {_meaning(parameter)} |")
        lines.append("")
    return "\n".join(lines)


def _names(parameter: object) -> str:
    if parameter.param_type_name == "argument":  # type: ignore[attr-defined]
        return f"`{(parameter.metavar or parameter.name.upper()).strip('{}')}`"  # type: ignore[attr-defined]
    names = [*parameter.opts, *parameter.secondary_opts]  # type: ignore[attr-defined]
    return " ".join(f"`{name}`" for name in names)


def _meaning(parameter: object) -> str:
    text = _plain(getattr(parameter, "help", None) or "")
    shown = getattr(parameter, "show_default", None)
    default = parameter.default  # type: ignore[attr-defined]
    if isinstance(shown, str):
        text += f" (default: {shown})"
    elif default not in (None, False, True, (), []) and not callable(default):
        text += f" (default: {default})"
    return " ".join(text.replace("|", "\\|").split())


def _plain(text: str) -> str:
    return text.replace("[bold]", "**").replace("[/]", "**")


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(0 if TARGET.read_text(encoding="utf-8") == render() else "docs/reference.md is out of date")
    TARGET.write_text(render(), encoding="utf-8")
