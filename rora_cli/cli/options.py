"""Options that several commands share, and the ``--config`` file that can stand in for all of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from rora_cli.errors import UsageError

#: Panels of the help that several commands have.
DATA, RUN, OUTPUT = "Data", "Where it runs", "Output"

QUIET = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes on stderr.")]
FORCE = Annotated[
    bool, typer.Option("--force", help="Replace the output, whole, if it exists.", rich_help_panel=OUTPUT)
]
FORMAT = Annotated[str, typer.Option("--format", help="text or json.", rich_help_panel=OUTPUT)]
FORMATS = Annotated[
    list[str],
    typer.Option(
        "--format",
        metavar="NAME[=FILE]",
        help="text, json, sarif, junit, markdown or html, several times for several; =FILE writes that one there.",
    ),
]
REPORT_FILE = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", metavar="FILE", help="Write the report here instead of stdout.", rich_help_panel=OUTPUT
    ),
]
SEED = Annotated[int, typer.Option("--seed", min=0, help="Seed of everything random.")]
REVISION = Annotated[
    str | None, typer.Option("--revision", metavar="REV", help="Branch, tag or commit of a hub model.")
]
DEVICE = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.", rich_help_panel=RUN)]
OFFLINE = Annotated[
    bool,
    typer.Option(
        "--offline", help="Never reach for the network: local paths and the hub's cache only.", rich_help_panel=RUN
    ),
]
TEXT_COLUMN = Annotated[
    str | None,
    typer.Option(
        "--text-column", metavar="NAME", help="Column of the text.", show_default="by convention", rich_help_panel=DATA
    ),
]
LABEL_COLUMN = Annotated[
    str | None,
    typer.Option(
        "--label-column",
        metavar="NAME",
        help="Column of the label.",
        show_default="by convention",
        rich_help_panel=DATA,
    ),
]
LABEL_MAP = Annotated[
    list[str] | None,
    typer.Option(
        "--label-map",
        metavar="DATA=MODEL",
        help="A label of the data and the model's name for it; nothing after the = leaves its rows out. May be given "
        "several times.",
        rich_help_panel=DATA,
    ),
]
DATA_REVISION = Annotated[
    str | None,
    typer.Option(
        "--data-revision", metavar="REV", help="Branch, tag or commit of a hub data set.", rich_help_panel=DATA
    ),
]
MAX_TRAIN_ROWS = Annotated[
    int | None,
    typer.Option("--max-train-rows", min=1, help="Train on a seeded, stratified sample.", rich_help_panel=DATA),
]
MAX_HELD_OUT_ROWS = Annotated[
    int | None,
    typer.Option("--max-held-out-rows", min=1, help="Measure on a seeded, stratified sample.", rich_help_panel=DATA),
]


def read_config(path: Path) -> Mapping[str, Any]:
    """A YAML or TOML file of option names and values. Raises UsageError where it is not one flat mapping."""
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".toml":
            try:
                import tomllib
            except ModuleNotFoundError:  # Python 3.10
                import tomli as tomllib  # type: ignore[no-redef]
            values = tomllib.loads(text)
        elif path.suffix in (".yaml", ".yml"):
            import yaml

            values = yaml.safe_load(text) or {}
        else:
            raise UsageError(f"--config {path} must end in .yaml, .yml or .toml")
    except OSError as error:
        raise UsageError(f"--config {path} cannot be read: {error.strerror}") from error
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"--config {path} is not valid: {str(error).splitlines()[0]}") from error
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise UsageError(f"--config {path} must be a mapping of option names to values")
    return values


class ConfigurableCommand(TyperCommand):
    """A command whose options can also come from ``--config FILE``; the command line wins over the file.

    Keys are option names with or without dashes (``learning-rate`` or ``learning_rate``); an unknown one is an error.
    """

    def make_context(self, info_name: Any, args: list[str], parent: Any = None, **extra: Any) -> Any:
        path = _config_argument(args)
        if path is None:
            return super().make_context(info_name, args, parent, **extra)
        values = read_config(Path(path))
        return super().make_context(info_name, args, parent, **extra, default_map=self._defaults(values, path))

    def _defaults(self, values: Mapping[str, Any], path: str) -> dict[str, Any]:
        known: dict[str, str] = {}
        for parameter in self.params:
            names = [*getattr(parameter, "opts", ()), parameter.name or ""]
            known |= {name.lstrip("-").replace("-", "_"): parameter.name or "" for name in names}
        known.pop("config", None)
        defaults = {}
        for key, value in values.items():
            name = known.get(key.replace("-", "_"))
            if name is None:
                raise UsageError(
                    f"--config {path} has the unknown option {key!r}; `rora {self.name} --help` lists them"
                )
            defaults[name] = value
        return defaults


def _config_argument(args: list[str]) -> str | None:
    for i, arg in enumerate(args):
        if arg == "--":
            return None
        if arg == "--config" and i + 1 < len(args):
            return args[i + 1]
        if arg.startswith("--config="):
            return arg.partition("=")[2]
    return None


CONFIG = Annotated[
    Path | None,
    typer.Option(
        "--config", metavar="FILE", help="YAML or TOML file of options; what stands on the command line wins."
    ),
]


def label_map(pairs: list[str] | None) -> dict[str, str] | None:
    """``--label-map DATA=MODEL`` pairs as a mapping, or None where there are none; ``DATA=`` leaves rows out."""
    mapping = {}
    for pair in pairs or ():
        data, equals, model = pair.rpartition("=") if pair.endswith("=") else pair.partition("=")
        if not equals or not data:
            raise UsageError(f"--label-map {pair!r} is not of the form LABEL_IN_THE_DATA=LABEL_OF_THE_MODEL")
        mapping[data] = model
    return mapping or None


def terminal() -> dict[str, Any]:
    """Width and colour for a text report on stdout: the terminal's, at most 100 columns; 80 and none elsewhere."""
    import os
    import shutil
    import sys

    if not sys.stdout.isatty():
        return {"width": 80, "color": False}
    return {"width": min(shutil.get_terminal_size().columns, 100), "color": not os.environ.get("NO_COLOR")}
