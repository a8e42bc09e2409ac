"""``rora hunt``"""

from __future__ import annotations

from typing import Annotated

import typer

from rora_cli.cli import formats, options

SEARCH, REPORT = "Search", "Report"
#: The page is made for what ``diagnose`` and ``check`` report.
_FORMATS = [name for name in formats.FORMATS if name != "html"]


def command(
    model: Annotated[str, typer.Argument(help="Classifier to search: a directory or a hub id.", metavar="MODEL")],
    clean: Annotated[
        str,
        typer.Option("--clean", metavar="DATA", help="Clean labelled rows of its task: a file, directory or hub id."),
    ],
    label: Annotated[
        list[str] | None,
        typer.Option(
            "--label",
            metavar="NAME",
            help="Target label to search; repeatable.",
            show_default="every label",
            rich_help_panel=SEARCH,
        ),
    ] = None,
    budget: Annotated[
        str,
        typer.Option(
            "--budget",
            help="fast: two to three minutes for a MiniLM on one core. normal: two to four times as long. thorough: "
            "longer still. auto: fast, then normal for a label with a candidate that is neither called nor harmless.",
            rich_help_panel=SEARCH,
        ),
    ] = "auto",
    reference: Annotated[
        str,
        typer.Option(
            "--reference",
            metavar="MODEL",
            help="What the suspect is compared with: a trusted checkpoint, as a directory or hub id, best the one that "
            "the suspect was trained from (an encoder is tuned on the clean rows); bag-of-words; or auto: the packaged "
            "encoder where it fits the suspect, else bag-of-words.",
            rich_help_panel=SEARCH,
        ),
    ] = "auto",
    adapter: Annotated[
        str | None,
        typer.Option("--adapter", metavar="DIR", help="Suspect adapter to merge in first.", rich_help_panel=SEARCH),
    ] = None,
    seed: options.SEED = 0,
    device: options.DEVICE = "auto",
    split: Annotated[
        str | None,
        typer.Option(
            "--split",
            metavar="NAME",
            help="Split of DATA to search.",
            show_default="validation, else test, else what there is",
            rich_help_panel=options.DATA,
        ),
    ] = None,
    text_column: options.TEXT_COLUMN = None,
    label_column: options.LABEL_COLUMN = None,
    label_map: options.LABEL_MAP = None,
    data_revision: options.DATA_REVISION = None,
    max_rows: Annotated[
        int, typer.Option("--max-rows", metavar="N", help="Clean rows to use at most.", rich_help_panel=options.DATA)
    ] = 2000,
    max_length: Annotated[
        int,
        typer.Option(
            "--max-length",
            metavar="TOKENS",
            help="What the model is given is cut to this; the search reads at most the first 48 tokens of a row.",
            rich_help_panel=options.DATA,
        ),
    ] = 128,
    fail_on: Annotated[
        str,
        typer.Option("--fail-on", help="What gives exit code 1: trigger, or none.", rich_help_panel=REPORT),
    ] = "trigger",
    format: Annotated[
        list[str],
        typer.Option(
            "--format",
            metavar="NAME[=FILE]",
            help="text, json, sarif, junit or markdown, several times for several; =FILE writes that one there.",
            rich_help_panel=options.OUTPUT,
        ),
    ] = ["text"],  # noqa: B006 - typer reads it, nobody changes it
    output: options.REPORT_FILE = None,
    revision: options.REVISION = None,
    offline: options.OFFLINE = False,
    config: options.CONFIG = None,
    quiet: options.QUIET = False,
) -> None:
    """Search a classifier for triggers: words and short sequences that turn other rows into a label.

    Every token of the vocabulary but the special ones is tried in clean rows (of longer ones the first 48 tokens are
    read), then sequences of what stands out, and ranked by what they do beyond a reference classifier that has seen the
    same clean rows. Finding nothing is a statement about what was covered, which the report counts; it is no proof.

    Exit codes: 0 nothing above the noise, 1 a trigger was found (see --fail-on), 2 bad input, 3 inconclusive: a label
    could not be searched, or a candidate is neither a trigger nor harmless.
    """
    from rora_cli.cli.console import make_progress
    from rora_cli.commands import hunt
    from rora_cli.reports.terminal import hunt as report

    wanted = formats.parse(format, output, _FORMATS)
    settings = hunt.HuntConfig(
        model=model,
        clean=clean,
        adapter=adapter,
        labels=tuple(label or ()),
        reference=reference,
        budget=budget,
        split=split,
        text_column=text_column,
        label_column=label_column,
        label_map=options.label_map(label_map),
        data_revision=data_revision,
        max_rows=max_rows,
        max_length=max_length,
        seed=seed,
        revision=revision,
        allow_download=not offline,
        device=device,
        fail_on=fail_on,
    )
    result = hunt.run(settings, make_progress(quiet))

    def text(to_terminal: bool) -> str:
        return report.render(result, **(options.terminal() if to_terminal else {}))

    code = hunt.exit_code(result, fail_on)
    formats.write(result, wanted, text, code)
    raise typer.Exit(code)
