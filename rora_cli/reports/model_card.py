"""The model card of a purified model: what rora did to it, for people who find it on a hub."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Any

import yaml

from rora_cli.files import MANIFEST_NAME, REPORT_NAME
from rora_cli.kinds import named
from rora_cli.reports.terminal.cleansed_replies import change_rows, removed_rows
from rora_cli.reports.terminal.cleansed_triggers import HEADINGS, trigger_rows, whose_weights
from rora_cli.reports.text import markdown, markdown_code, percent, proportion
from rora_cli.reports.verdicts import in_plain_words, still_good, what_is_unmet
from rora_cli.results.accuracy import CleanAccuracy
from rora_cli.results.purify import PurifyResult

_PAPER = "https://arxiv.org/abs/2601.06305"


def front_matter(facts: Mapping[str, Any]) -> str:
    """The YAML block at the head of a card."""
    return f"---\n{yaml.safe_dump(dict(facts), sort_keys=False, allow_unicode=True)}---\n"


def render_purified(result: PurifyResult) -> str:
    """The card of a purified model, in Markdown. Untrusted names are escaped and stand in code spans."""
    auto_class = named(result.kind).auto_class
    lines = [
        front_matter(_facts(result)),
        f"# {markdown_code(PurePath(result.output or 'purified').name)}",
        "",
        f"{markdown_code(_public(result.model))}, fine-tuned on clean data by rora "
        f"{result.provenance.versions['rora']} to cleanse it of a possible backdoor (recipe `{result.recipe}`, seed "
        f"{result.provenance.seed}).",
        "",
        f"**Verdict: {result.verdict}.** {markdown(result.reason)}",
        "",
        " ".join(filter(None, (*in_plain_words(result), still_good(result), what_is_unmet(result)))),
        "",
        *_silence(result),
        *_table(result),
        "",
        f"{whose_weights(result).capitalize()}.",
        "",
        f"Clean data: {markdown_code(_public(str(result.data.get('origin', ''))))}"
        + (f" at revision {markdown_code(result.data['revision'])}" if result.data.get("revision") else "")
        + ".",
        "",
        "## Use",
        "",
        "```python",
        f"from transformers import {auto_class}, AutoTokenizer",
        "",
        f'model = {auto_class}.from_pretrained("path/to/this/directory")',
        'tokenizer = AutoTokenizer.from_pretrained("path/to/this/directory")',
        "```",
        "",
        "The directory `adapter/`, where there is one, holds the update alone; `PeftModel.from_pretrained` puts it on",
        "the model that was purified.",
        "",
        "## Check",
        "",
        f"`rora verify` checks every file against `{MANIFEST_NAME}`. `{REPORT_NAME}` holds the resolved",
        "configuration, versions, seeds, sha256 of every input and output, accuracies and spectra. A verdict speaks",
        "of the triggers that were searched for, never of all there could be; `rora eval-asr` measures one you know.",
        "",
        f"Method: regularized low-rank adaptation (RoRA), [arXiv:2601.06305]({_PAPER}); not the LoRA scaling factor of",
        "the same name (arXiv:2501.04315).",
    ]
    return "\n".join(lines) + "\n"


def render_adapter(result: PurifyResult) -> str:
    """The card of the update alone, in Markdown."""
    facts = {"library_name": "peft", **_origin(result, "adapter"), "tags": ["rora", "lora", _tag(result)]}
    lines = [
        front_matter(facts),
        "# The update that cleanses " + markdown_code(_public(result.model)),
        "",
        f"An adapter that rora {result.provenance.versions['rora']} trained on clean data (recipe `{result.recipe}`, "
        f"seed {result.provenance.seed}). It belongs on exactly that model: `PeftModel.from_pretrained(model, "
        "this_directory)`.",
        "",
        f"**Verdict: {result.verdict}.** {markdown(result.reason)}",
        "",
        " ".join(in_plain_words(result)),
        "",
        "The directory above, where there is one, holds the merged model and the whole report.",
    ]
    return "\n".join(lines) + "\n"


def _facts(result: PurifyResult) -> dict[str, Any]:
    return {
        "library_name": "transformers",
        "pipeline_tag": named(result.kind).card_tag,
        **_origin(result, "finetune"),
        "tags": ["rora", _tag(result)],
        "model-index": [{"name": _plain(PurePath(result.output or "purified").name), "results": [_measured(result)]}],
    }


def _silence(result: PurifyResult) -> list[str]:
    """What the last search would have found of backdoors that were planted to see that, and what it covers."""
    if result.power is None or result.covering is None:
        return []
    said = f"The last search of this model: {result.power.sentence}. {result.covering.sentence.capitalize()}."
    return [markdown(said), ""]


def _tag(result: PurifyResult) -> str:
    """The verdict where people search and filter."""
    return f"rora-{result.verdict.replace(' ', '-')}"


def _origin(result: PurifyResult, relation: str) -> dict[str, Any]:
    """Licence and languages of the suspect, and its hub id where it came from the hub."""
    facts = dict(result.suspects_card)
    if result.provenance.config.get("model_commit"):
        facts |= {"base_model": result.model, "base_model_relation": relation}
    return facts


def _measured(result: PurifyResult) -> dict[str, Any]:
    """Clean accuracy as the hub's ``model-index`` has it."""
    dataset = _plain(_public(str(result.data.get("origin") or "clean data")))
    metric: dict[str, Any] = {"type": "accuracy", "value": result.accuracy_after.overall.value}
    if result.utility is not None and result.utility.after.perplexity is not None:
        metric = {"type": "perplexity", "value": result.utility.after.perplexity}
    elif result.utility is not None and result.utility.divergence is not None:
        metric = {"type": "kl_divergence", "value": result.utility.divergence.mean}
    return {
        "task": {"type": named(result.kind).card_tag},
        "dataset": {"type": dataset, "name": f"{dataset}, held-out rows"},
        "metrics": [metric],
    }


def _public(name: str) -> str:
    """A hub id as it is, of a path on this machine the last part: cards are for others."""
    path = PurePath(name)
    return path.name if path.is_absolute() or name.startswith((".", "~")) else name


def _table(result: PurifyResult) -> list[str]:
    """What the model was good for before and after, and what became of its triggers."""
    if result.utility is None:
        before, after = result.accuracy_before, result.accuracy_after
        return [
            "| clean accuracy, held out | before | after |",
            "|---|---|---|",
            f"| overall | {proportion(before.overall)} | {proportion(after.overall)} |",
            *(_class_row(name, before, after) for name in before.per_class),
            *(_markdown_table(HEADINGS, 2, trigger_rows(result.triggers)) if result.triggers else ()),
        ]
    lines = ["| replies to clean prompts, held out | before | after |", "|---|---|---|"]
    lines += [f"| {' | '.join(map(markdown, row))} |" for row in change_rows(result.utility)]
    if result.removed:
        headings = ("trigger", "place", "replies opened with", "before", "after")
        lines += _markdown_table(headings, 3, removed_rows(result.removed))
    return lines


def _markdown_table(headings: tuple[str, ...], names: int, rows: Iterable[tuple[str, ...]]) -> list[str]:
    """A table, an empty line before it, of which so many columns are ``names`` from the suspect or the data."""
    lines = ["", f"| {' | '.join(headings)} |", "|" + "---|" * len(headings)]
    for row in rows:
        lines.append(f"| {' | '.join([*map(markdown_code, row[:names]), *map(markdown, row[names:])])} |")
    return lines


def _plain(name: str) -> str:
    """A name without what somebody's page or YAML reader could take for more than a name."""
    return re.sub(r"[^\w./:@ -]+", "_", name, flags=re.ASCII)[:100]


def _class_row(name: str, before: CleanAccuracy, after: CleanAccuracy) -> str:
    return (
        f"| {markdown_code(name)} | {percent(before.per_class[name].value)} | {percent(after.per_class[name].value)} |"
    )
