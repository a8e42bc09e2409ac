"""The values of ``purify.html.j2``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rora_cli.reports import in_words
from rora_cli.reports.html.plots import spectra_plot
from rora_cli.reports.html.power import power_section
from rora_cli.reports.terminal.cleansed_replies import change_rows
from rora_cli.reports.terminal.cleansed_triggers import whose_weights
from rora_cli.reports.terminal.purify import describe
from rora_cli.results.purify import PurifyResult, StageRecord


def values(result: PurifyResult) -> dict[str, Any]:
    """What was measured before and after, what was found, the update's spectra, and the stages."""
    after, earlier = result.update_after, {spectrum.name: spectrum for spectrum in result.update_before}
    # An update that was given up has spectra before Pt and none after: what was written does not hold it.
    before = tuple(earlier.get(spectrum.name, spectrum) for spectrum in after)
    groups = [("base", after), *([("earlier", before)] if before != after else []), ("update", after)]
    return {
        "said": in_words.of_purify(result),
        "weights": whose_weights(result).removeprefix("weights: "),
        "changes": list(change_rows(result.utility)) if result.utility is not None else [],
        "spectra": spectra_plot(groups) if after else None,
        "modules": list(zip(before, after, strict=True)),
        "stages": list(_stages(result)),
        "power": power_section(result.power),
        "seconds": sum(stage.seconds for stage in result.stages),
    }


def _stages(result: PurifyResult) -> Iterator[tuple[StageRecord, float, float, str]]:
    """Each stage, where it began and ended as fractions of the whole time, and what it did, where that is known."""
    total, began = sum(stage.seconds for stage in result.stages) or 1.0, 0.0
    for stage in result.stages:
        ended = began + stage.seconds
        told = stage.epochs or stage.details or stage.rescaling
        yield stage, began / total, ended / total, describe(stage) if told else ""
        began = ended
