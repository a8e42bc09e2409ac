"""``--accelerate-config``: the same command again, under accelerate's own launcher, from inside."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from rora_cli.errors import UsageError

_OPTION = "--accelerate-config"


def under_accelerate(config: Path) -> bool:
    """Start this very command under accelerate; False where it runs under a launcher already."""
    if "WORLD_SIZE" in os.environ or "ACCELERATE_MIXED_PRECISION" in os.environ:
        return False
    if not config.is_file():
        raise UsageError(f"{_OPTION} {config} does not exist; `accelerate config` writes one")
    from accelerate.commands.launch import launch_command, launch_command_parser

    arguments = _without_option(sys.argv[1:])
    launch_command(launch_command_parser().parse_args(["--config_file", str(config), "-m", "rora_cli", *arguments]))
    return True


def _without_option(arguments: list[str]) -> list[str]:
    kept, skip = [], False
    for argument in arguments:
        if skip or argument == _OPTION or argument.startswith(_OPTION + "="):
            skip = argument == _OPTION and not skip
            continue
        kept.append(argument)
    return kept
