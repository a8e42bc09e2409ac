"""The rules of preflight, one line each: severity, whether it blocks loading, meaning, and advice.

Rule ids are stable across releases. rora does not load a checkpoint with a finding of a blocking rule, whatever its
severity: a quantised tensor type may be harmless but rora cannot compute with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rora_cli.results.findings import Finding, Severity

_HIGH, _MEDIUM, _LOW, _INFO = Severity.HIGH, Severity.MEDIUM, Severity.LOW, Severity.INFO


@dataclass(frozen=True)
class Rule:
    """How much a finding matters, and what it means.

    An ``unreadable`` rule says that rora could not analyse something, which never counts as clean.
    """

    severity: Severity
    blocking: bool
    meaning: str
    advice: str | None = None
    unreadable: bool = False


REMOVE = "use a copy without it, or do not use this checkpoint"
_AGAIN = "download it again, and compare its sha256 with the hub's; or ask its author"
_ASK = "get a complete copy, or ask its author"
_COMPARE = "compare it with the base model's: `rora check PATH --base BASE`"

RULES: Mapping[str, Rule] = {
    # files
    "file/outside": Rule(_HIGH, True, "A link or path leads out of the checkpoint's directory.", REMOVE),
    "file/special": Rule(_HIGH, True, "A pipe, socket or device stands where a file should.", REMOVE),
    "file/dangling-link": Rule(_LOW, False, "A link points to a file that is not there.", _ASK),
    "file/unreadable": Rule(_HIGH, True, "A file could not be read.", "check its permissions and the disk", True),
    "file/too-many": Rule(_HIGH, True, "The directory holds more than rora walks.", "name the checkpoint itself", True),
    "file/name": Rule(_MEDIUM, False, "A file name holds control or invisible characters.", "rename it"),
    "file/pickle": Rule(_INFO, False, "A pickle can run code when it is loaded; rora never loads one."),
    "file/pickle-unknown": Rule(
        _MEDIUM, False, "A pickle imports what is not known to be harmless when it is loaded.",
        "do not load it: use a copy without it, or ask its author what it is for",
    ),
    "file/pickle-dangerous": Rule(
        _HIGH, False, "A pickle runs code when it is loaded.", "do not load it, and do not use this checkpoint"
    ),
    "file/stand-in": Rule(_MEDIUM, True, "A pointer or web page stands in place of a file.", _ASK, True),
    "file/not-analysed": Rule(
        _LOW, False, "A file that rora does not read: nothing is said about it.",
        "look at it with a tool for its format and name it with --ignore, or use a copy without it", True,
    ),
    "file/archive": Rule(
        _HIGH, False, "An archive could not be unpacked, or not to the end.", "unpack it and name the directory", True
    ),
    "file/archive-member": Rule(
        _HIGH, False, "A member of the archive leads out of it, is there twice, or is no file.", REMOVE
    ),
    "file/ignored": Rule(_INFO, False, "Files that were not analysed, and are not to count (--ignore)."),
    "file/other-checkpoint": Rule(_INFO, False, "A folder holds a checkpoint of its own; loaders of this one skip it."),
    "file/disguised-pickle": Rule(_HIGH, True, "A pickle or archive hides under another ending.", REMOVE),
    "file/code": Rule(
        _MEDIUM, False, "Program code lies in the checkpoint; rora never runs it.",
        "read it before anybody runs it, or use a copy without it",
    ),
    "file/custom-generate": Rule(_HIGH, True, "transformers would run custom_generate/ code on generate().", REMOVE),
    # JSON
    "json/malformed": Rule(_HIGH, True, "A file that loaders read is not strict JSON.", _ASK, True),
    "json/side-file": Rule(_INFO, False, "A JSON file that no loader reads is not strict JSON."),
    "json/remote-code": Rule(_HIGH, True, "The checkpoint asks for code of its own to be imported and run.", REMOVE),
    # weights
    "weights/missing": Rule(_HIGH, True, "There are no safetensors weights.", _ASK),
    "weights/pickle-only": Rule(_HIGH, True, "The weights are a pickle, which can run code when loaded.", _ASK),
    "weights/malformed": Rule(_HIGH, True, "A safetensors file is malformed.", _AGAIN, True),
    "weights/index": Rule(_HIGH, True, "The index of the shards is malformed or does not fit them.", _ASK),
    "weights/shard-path": Rule(_HIGH, True, "A shard's name is not a plain safetensors file name.", REMOVE),
    "weights/shard-missing": Rule(_HIGH, True, "A shard that the index names is not there.", _ASK),
    "weights/duplicate-tensor": Rule(_HIGH, True, "Two shards hold a tensor of one name.", REMOVE),
    "weights/unmapped-tensor": Rule(_MEDIUM, True, "A shard holds a tensor that the index does not name.", _ASK),
    "weights/ambiguous": Rule(
        _MEDIUM, False, "Two sets of weights: loaders may pick different ones.",
        "move one of the two out of the directory",
    ),
    "weights/one-shard": Rule(_INFO, False, "Only one shard of a model was named, and only that was read."),
    "weights/wrapped-names": Rule(
        _LOW, True, "A training wrapper's name stands in the names of the weights: loaders find none of them.",
        "save it again from the bare model: model._orig_mod, model.module or accelerate's unwrap_model(model), and "
        "then save_pretrained",
    ),
    "weights/head-name": Rule(
        _LOW, False, "The classification head is not where transformers looks for it, so a random one would be made.",
        "rename the weight, or save the model with transformers' own class",
    ),
    "weights/unreferenced": Rule(_LOW, False, "A safetensors file that the loaders do not read."),
    "tensor/name": Rule(_HIGH, True, "A tensor name holds characters that no model uses.", REMOVE),
    "tensor/dtype": Rule(_LOW, False, "A tensor has a type that rora does not compute with."),
    "tensor/empty": Rule(_LOW, False, "A tensor has no elements."),
    "tensor/not-finite": Rule(
        _HIGH, False, "NaN or infinite values: the weights are broken, or made to break what reads them.", _AGAIN
    ),
    "tensor/values-unread": Rule(_HIGH, True, "The values of a tensor could not be read.", _AGAIN, True),
    # model config
    "config/missing": Rule(_HIGH, True, "There is no config.json.", _ASK),
    "config/invalid": Rule(_HIGH, True, "A field of config.json has an impossible value.", _ASK),
    "config/remote-kernel": Rule(_HIGH, True, "The config asks for attention code from a repository.", REMOVE),
    "config/weights-path": Rule(_HIGH, True, "The config names the file that weights are to be read from.", REMOVE),
    "config/quantised": Rule(_LOW, False, "The weights are quantised, so rora cannot run or merge this model."),
    "config/labels": Rule(_MEDIUM, True, "The label names are malformed.", "correct id2label in config.json"),
    "model/not-judged": Rule(
        _INFO, False, "hunt, purify, poison and eval-asr judge single-label sequence classifiers and causal models.",
        "check, diagnose, rescale and verify work on it",
    ),
    "model/adapter-inside": Rule(
        _HIGH, False, "transformers would silently apply the adapter in this directory; rora does not.",
        "move the adapter's files into a directory of their own, and check both",
    ),
    "generation/biased": Rule(_LOW, False, "generation_config.json biases what is generated; rora does not use it."),
    # tokenizer
    "tokenizer/class": Rule(_HIGH, True, "The tokenizer class is none of transformers' own.", REMOVE),
    "tokenizer/invalid": Rule(_HIGH, True, "A field of the tokenizer's settings has an impossible value.", _ASK),
    "tokenizer/path": Rule(_MEDIUM, False, "The tokenizer's settings name files elsewhere; rora ignores them."),
    "tokenizer/rewrites-text": Rule(
        _MEDIUM, False, "The tokenizer rewrites what it reads: it can insert or hide a trigger by itself.",
        _COMPARE,
    ),
    "tokenizer/adds-tokens": Rule(
        _MEDIUM, False, "The tokenizer puts tokens around every text beyond the usual special ones.",
        _COMPARE,
    ),
    "tokenizer/alias": Rule(
        _HIGH, False, "Two words share one token id: a common word can stand for a trigger.",
        _COMPARE,
    ),
    "tokenizer/differs": Rule(
        _MEDIUM, False, "The tokenizer does not treat texts as the base's does: that alone can plant a trigger.",
        "use the base model's tokenizer",
    ),
    "tokenizer/template-differs": Rule(_MEDIUM, False, "The chat template is not the base's.", "use the base's"),
    "tokenizer/opaque-map": Rule(_INFO, False, "The tokenizer has a compiled character map, which cannot be read."),
    "tokenizer/word-as-special": Rule(
        _MEDIUM, False, "A word that people write is declared as a special token, and cut out of every text whole.",
        _COMPARE,
    ),
    "tokenizer/regex": Rule(_HIGH, True, "A regular expression in the tokenizer can take for ever.", REMOVE),
    "tokenizer/chat-template": Rule(
        _INFO, False, "There is a chat template; check searches it, and never renders it."
    ),
    "tokenizer/template-changes": Rule(
        _HIGH, False, "The chat template writes other text around a message for what it says, its length or the date.",
        "read the template, and serve the model with another",
    ),
    "tokenizer/template-fails": Rule(
        _MEDIUM, False, "The chat template cannot be rendered within bounds, or does not show what is said.",
        "read the template, and serve the model with another", unreadable=True,
    ),
    "tokenizer/template-escape": Rule(_HIGH, False, "The chat template reaches for Python internals.", REMOVE),
    # adapter
    "adapter/config-missing": Rule(
        _LOW, False, "The scale of the update is unknown: PEFT's alpha stands nowhere.",
        "put the adapter_config.json that belongs to it into its directory",
    ),
    "adapter/is-adapter": Rule(
        _LOW, True, "This is an adapter, not a model.",
        "give its base model where a model belongs, and this with --adapter",
    ),
    "adapter/type": Rule(_MEDIUM, True, "The adapter is of a type that rora does not know."),
    "adapter/not-measured": Rule(
        _LOW, True, "The adapter is of a type of PEFT's that rora can neither measure nor merge.",
        "merge it with PEFT where it can do no harm, and give rora the merged model",
    ),
    "adapter/invalid": Rule(_HIGH, True, "A field of adapter_config.json has an impossible value.", _ASK),
    "adapter/abnormal-scaling": Rule(_MEDIUM, False, "The adapter is scaled far outside of what training uses."),
    "adapter/hidden-base-tensor": Rule(
        _HIGH, True, "The adapter carries a tensor that silently replaces a weight of the base model.", REMOVE
    ),
    "adapter/embedding-copy": Rule(
        _LOW, True, "The adapter carries a copy of an embedding, which is loaded over the base's own.",
        "name the base, so that the two are compared",
    ),
    "adapter/equal-copy": Rule(_INFO, False, "The adapter carries a weight that equals the base's own."),
    "adapter/name-in-tensors": Rule(
        _MEDIUM, False, "The adapter's name is left in the names of tensors: PEFT passes them over, and so does rora.",
        "take the name out of the tensors' names, or save the adapter with save_pretrained", unreadable=True,
    ),
    "adapter/unknown-tensor": Rule(
        _MEDIUM, True, "The adapter carries tensors that are neither an adapter's own nor a weight's.", _ASK
    ),
    "adapter/replaces-embedding": Rule(
        _LOW, False, "The adapter replaces a whole embedding of the base model, as its config declares.",
        "compare it with the base's: rora diagnose --base",
    ),
    "adapter/undeclared-head": Rule(
        _MEDIUM, False, "The adapter carries a classification head that its config does not declare."
    ),
    "adapter/replaces-module": Rule(
        _HIGH, False, "The adapter replaces a whole module of the base model, not only a head or an embedding."
    ),
    "adapter/trains-bias": Rule(_LOW, False, "The adapter replaces biases of the base model, as its config declares."),
    "adapter/mutates-base": Rule(
        _MEDIUM, False, "Loading this adapter with PEFT would change the base's weights (init_lora_weights)."
    ),
    "adapter/token-trigger": Rule(
        _HIGH, True, "The adapter is active only after a given token sequence: a built-in trigger.", REMOVE
    ),
    "adapter/token-rows": Rule(
        _MEDIUM, False, "The adapter replaces single rows of the embedding: it trains words of its own.",
        "see what these tokens do: rora diagnose --base, rora eval-asr --trigger",
    ),
    "adapter/token-rows-missing": Rule(_MEDIUM, True, "Rows of the embedding that the config names are missing.", _ASK),
    "adapter/replicates-layers": Rule(_HIGH, True, "The adapter rebuilds the base out of repeated layers.", REMOVE),
    "adapter/imports-code": Rule(_HIGH, True, "The adapter config names Python modules to import.", REMOVE),
    "adapter/regex-target": Rule(
        _INFO, False, "target_modules is a regular expression; rora never runs it and goes by the tensors there are."
    ),
    "adapter/regex-hangs": Rule(
        _MEDIUM, False, "A pattern in the config can keep PEFT, which runs it, busy for ever.",
        "list the module names in its place, as they stand in the weights",
    ),
    "adapter/unknown-field": Rule(_INFO, False, "adapter_config.json has fields that rora does not know."),
    "adapter/half-a-pair": Rule(
        _MEDIUM, False, "A module has one factor of its update and not the other: what it does is unknown.", _ASK, True
    ),
    "adapter/rank-mismatch": Rule(
        _HIGH, False, "The factors of an update give no product, or not one of the rank that the config says.", _ASK
    ),
    "adapter/integer-factor": Rule(_MEDIUM, False, "A factor of an update holds integers, not trained values.", _ASK),
    "adapter/too-many-tensors": Rule(_MEDIUM, False, "The adapter holds far more tensors than a model has layers for."),
    "adapter/no-update": Rule(_MEDIUM, True, "The adapter holds no adapter tensor, or none with elements.", _ASK),
}  # fmt: skip


def finding(
    rule_id: str, message: str, location: str | None = None, *, advice: str | None = None, **evidence: Any
) -> Finding:
    """A finding of the rule ``rule_id``; ``message`` says what is particular to this checkpoint.

    ``advice`` replaces that of the rule, if it does not fit this case.
    """
    rule = RULES[rule_id]
    return Finding(
        rule_id, rule.severity, message, location, evidence, advice or rule.advice, rule.blocking, rule.unreadable
    )
