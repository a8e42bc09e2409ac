"""``rora diagnose``: the spectra of an adapter's updates, or of a model's against its base, and what stands out."""

from __future__ import annotations

from rora_cli.commands.diagnose.config import DiagnoseConfig
from rora_cli.commands.diagnose.run import exit_code, run

__all__ = ["DiagnoseConfig", "exit_code", "run"]
