"""``--config FILE``: options from a YAML or TOML file; what stands on the command line wins over the file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rora_cli.errors import UsageError
from rora_cli.options import OptionField


def default_values(arguments: Sequence[str], fields: Sequence[OptionField], command: str) -> dict[str, Any] | None:
    """The values of the file that ``--config`` names, by field; None without that option.

    Keys are names of options with or without dashes (``learning-rate`` or ``learning_rate``). Raises UsageError for a
    file that cannot be read, and for an option that ``command`` does not have.
    """
    path = _config_argument(arguments)
    if path is None:
        return None
    known: dict[str, OptionField] = {}
    for field in fields:
        names = [name for pair in field.option.names for name in pair.split("/")]
        known |= {name.lstrip("-").replace("-", "_"): field for name in (*names, field.name)}
    known.pop("config", None)
    values = {}
    for key, value in read_config(Path(path)).items():
        name = key.replace("-", "_")
        if name not in known:
            raise UsageError(f"--config {path} has the unknown option {key!r}; `rora {command} --help` lists them")
        values[known[name].name] = _as_on_the_command_line(value, known[name])
    return values


def read_config(path: Path) -> Mapping[str, Any]:
    """A YAML or TOML file of option names and values. Raises UsageError where it is not one flat mapping."""
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".toml":
            import tomllib

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


def _as_on_the_command_line(value: Any, field: OptionField) -> Any:
    """A list for an option that may stand several times, one text with commas, ``DATA=MODEL`` pairs for a mapping."""
    if isinstance(value, Mapping):
        return [f"{key}={other}" for key, other in value.items()]
    if field.one_text:
        return ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return [value] if field.several and not isinstance(value, list) else value


def _config_argument(arguments: Sequence[str]) -> str | None:
    for i, argument in enumerate(arguments):
        if argument == "--":
            return None
        if argument == "--config" and i + 1 < len(arguments):
            return arguments[i + 1]
        if argument.startswith("--config="):
            return argument.partition("=")[2]
    return None
