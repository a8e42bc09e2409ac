"""What the silence of a search covers: which forms of backdoor a verdict may rest on."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence

from rora_cli.evaluation.intervals import proportion
from rora_cli.power.forms import FORMS
from rora_cli.results.accuracy import Proportion
from rora_cli.results.power import FORM_NAMES, Covering, Power

#: Of a form's firm stand-ins, the fraction that has to be found for the form to be covered: the bound is of all forms
#: together, and must not hide one that the search is blind to.
MIN_OF_A_FORM = 0.5


def fewest(min_power: float, missed: int = 0) -> int:
    """The fewest stand-ins, all but so many of them found, of which the 95 % Wilson interval begins at ``min_power`` or
    above.

    For .7 they are 9, or 15 where one is missed. A search with a power of .7 finds 9 of 9, or misses one of the first 9
    and then finds 6 of 6, in 6 % of all cases.
    """

    def shown(total: int) -> float:
        return proportion(total - missed, total).low or 0.0

    most = missed + 1
    while shown(most) < min_power:
        most *= 2
    return bisect_left(range(most), min_power, missed + 1, key=shown)


def covering(power: Power | None, forms: Sequence[str], min_power: float) -> Covering:
    """What ``power`` covers of the ``forms`` that were asked for."""
    shares = {name: _together(power, (name,)) for name in FORM_NAMES}
    found = _together(power, forms)
    enough = (found.low or 0.0) >= min_power
    uncovered = {}
    for name, share in shares.items():
        if name not in forms:
            uncovered[name] = "not asked for"
        elif not share.total:
            uncovered[name] = "not measured" if power is None else "none was planted that counts"
        elif share.count < MIN_OF_A_FORM * share.total:
            uncovered[name] = f"{share.count} of {share.total} found"
        elif not enough:
            uncovered[name] = f"{found.count} of {found.total} found in all, which shows a power of {_shown(found.low)}"
    return Covering(
        forms=tuple(forms),
        found=found,
        min_power=min_power,
        covered=tuple(name for name in FORM_NAMES if name not in uncovered),
        uncovered=uncovered,
    )


def _together(power: Power | None, names: Iterable[str]) -> Proportion:
    """Of the firm stand-ins of these forms together, those found."""
    shares = power.by_form if power is not None else {}
    wanted = set(names)
    counted = [shares[form.name] for form in FORMS if form.group in wanted and form.name in shares]
    return proportion(sum(share.count for share in counted), sum(share.total for share in counted))


def _shown(low: float | None) -> str:
    return f"{100 * (low or 0.0):.0f} % at least"
