"""From a config's fields to a command: the options are those that stand beside the fields.

A command of this room is a function ``command(config, shell)`` that returns an exit code. Its annotations name two
classes of options: the config, which the work needs, and the shell, which says how the result is shown.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, get_type_hints

import typer

from rora_cli.cli.files import default_values
from rora_cli.errors import Interrupted
from rora_cli.options import OptionField, options_of

#: What Ctrl-C leaves of a command that keeps nothing.
NOTHING_LEFT = "nothing half-written was left behind"


def add(app: typer.Typer, name: str, function: Callable[..., int], arguments: Sequence[str]) -> None:
    """Register ``function`` as the command ``name``; a ``--config FILE`` in ``arguments`` gives its defaults."""
    settings: dict[str, Any] = {"help_option_names": ["-h", "--help"]}
    fields = fields_of(function)
    if (values := default_values(arguments, list(fields.values()), name)) is not None:
        settings["default_map"] = values
    app.command(name, help=_flowing(inspect.getdoc(function) or ""), context_settings=settings)(_called(function))


def fields_of(function: Callable[..., int]) -> dict[str, OptionField]:
    """Every option of a command by the name of its field: the config's, then the shell's."""
    config, shell = classes_of(function)
    return {**options_of(config), **options_of(shell)}


def classes_of(function: Callable[..., int]) -> tuple[Any, Any]:
    """The config and the shell of a command."""
    hints = get_type_hints(function)
    return hints["config"], hints["shell"]


def _called(function: Callable[..., int]) -> Callable[..., None]:
    """What typer calls: it makes config and shell of the options, and ends with the command's exit code."""
    config, shell = classes_of(function)
    wants_given = "given" in inspect.signature(function).parameters

    def call(ctx: typer.Context, **values: Any) -> None:
        made = [kind(**_values(options_of(kind), values)) for kind in (config, shell)]
        sources = {name: ctx.get_parameter_source(name) for name in values}
        given = {name for name, source in sources.items() if source is not None and source.name != "DEFAULT"}
        try:
            code = function(*made, **({"given": frozenset(given)} if wants_given else {}))
        except KeyboardInterrupt as stop:  # typer would end without a word
            raise Interrupted(f"interrupted; {str(stop) or NOTHING_LEFT}") from stop
        raise typer.Exit(int(code))

    parameters = [_parameter(field, in_words(config, field)) for field in fields_of(function).values()]
    parameters.sort(key=lambda parameter: parameter.default is not inspect.Parameter.empty)
    context = inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    call.__signature__ = inspect.Signature([context, *parameters])  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in (context, *parameters)}
    return call


def _values(fields: Mapping[str, OptionField], values: Mapping[str, Any]) -> dict[str, Any]:
    """What was said of each field, as the field has it; nothing of the others."""
    said = {}
    for name, field in fields.items():
        value = values.get(name)
        if value is None or (value == [] and not field.required):
            continue
        if field.option.read is not None:
            value = field.option.read(value)
        said[name] = tuple(value) if isinstance(value, list) else value
    return said


def _parameter(field: OptionField, shown: str | None) -> inspect.Parameter:
    option = field.option
    several = field.several and not field.one_text
    kind: Any = str if option.read is not None else field.kind
    kind = list[kind] if several else kind
    default: Any = inspect.Parameter.empty
    if not field.required:
        default = None if field.default in (None, ()) or option.read is not None else field.default
        default = list(default) if isinstance(default, tuple) else default
        kind = kind | None if default is None else kind
    info: Any
    if option.argument:
        info = typer.Argument(help=_escaped(option.text), metavar=option.metavar)
    else:
        info = typer.Option(
            *option.names,
            help=_escaped(option.text),
            metavar=option.metavar,
            show_default=shown or True,
            rich_help_panel=field.heading or None,
            is_eager=option.eager is not None,
            callback=option.eager,
        )
    return inspect.Parameter(
        field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, info]
    )


def in_words(config: Any, field: OptionField) -> str | None:
    """The default as the help page says it, where the field's own value does not tell; a config may know more of it."""
    said: str | None = getattr(config, "default_in_words", lambda name: None)(field.name)
    return said or field.option.shown


def _escaped(text: str) -> str:
    """Brackets that are no markup of ours are escaped, so that rich shows the shape ``[r, d_in]``."""
    return re.sub(r"\[(?!bold\]|/\])", r"\\[", text)


def _flowing(text: str) -> str:
    """Docstring paragraphs as one line each: typer would keep the source's line breaks."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))
