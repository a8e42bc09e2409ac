"""``rora schema``"""

from __future__ import annotations

from rora_cli.cli.shell import Shell
from rora_cli.commands.schema import SchemaConfig
from rora_cli.errors import ExitCode


def command(config: SchemaConfig, shell: Shell) -> int:
    """Print the JSON Schema (draft 2020-12) of what a command prints with --format json, or list the schemas.

    The report's schema_version says which version it is. It rises where a field goes or means something else; new
    fields come without, so validate a report with the schema of the rora that wrote it.

    [bold]rora schema[/] purify
    """
    from rora_cli.cli.console import print_result
    from rora_cli.commands.schema import run

    print_result(run(config))
    return ExitCode.OK
