"""Which commands there are, in the order in which ``rora --help`` lists them: a file a command in this room."""

from __future__ import annotations

import importlib
from collections.abc import Callable

#: Command name -> module in this room with its function ``command``, and its line in the list.
COMMANDS = {
    "purify": ("purify", "Cleanse a suspect model of a backdoor, on clean data, without knowing the trigger."),
    "hunt": ("hunt", "Search a model for triggers: words and sequences that turn rows into a label, or replies alike."),
    "diagnose": ("diagnose", "Report an adapter's spectra, strength and alignment, from its weights alone."),
    "eval-asr": ("eval_asr", "Measure how often a trigger turns rows to a label, or replies to a behaviour."),
    "rescale": ("rescale", "Pt on its own: make a trained adapter as strong as its base (Eq. 12)."),
    "check": ("check", "Inspect checkpoints without loading them: files, JSON, safetensors headers."),
    "rules": ("rules", "List the rules that findings name: what each means, and what to do."),
    "behaviours": ("behaviours", "List what a causal model's replies are judged for, phrase by phrase."),
    "schema": ("schema", "Print the JSON Schema of a command's report, or list the schemas."),
    "verify": ("verify", "Check a directory that rora wrote against its sha256 manifest."),
    "poison": ("poison", "Build a backdoored classifier or causal model on purpose, to test defences on."),
    "demo": ("demo", "See the whole loop in 5 to 20 minutes, on a backdoored MiniLM."),
}

#: Those that share their work with other processes, where a launcher has started several.
IN_SEVERAL_PROCESSES = ("purify", "hunt", "eval-asr")


def command(name: str) -> Callable[..., int]:
    """The function of the command ``name``, imported."""
    function: Callable[..., int] = importlib.import_module(f"rora_cli.cli.{COMMANDS[name][0]}").command
    return function
