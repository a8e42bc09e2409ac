"""What a defence may say of its result."""

from __future__ import annotations

from dataclasses import dataclass

from rora_cli.results.power import Covering, Power


@dataclass(frozen=True)
class Claim:
    """The verdict (pass, fail or inconclusive), the sentence on it, and the condition of a pass that does not hold.

    ``but_for_power`` is what a pass would say, where the verdict is inconclusive only because nobody knows what the
    last search would have found; else it is empty.
    """

    verdict: str
    reason: str
    unmet: str = ""
    but_for_power: str = ""

    def with_power(self, power: Power | None, covering: Covering) -> Claim:
        """The claim with what is known of the last search."""
        if self.but_for_power:
            known = power.sentence if power is not None else "what this search would have found was not measured"
            if covering.complete:
                return Claim("pass", f"{self.but_for_power}; {known}; {covering.sentence}")
            return Claim("inconclusive", f"{self.reason}; {known}", "covered")
        if self.verdict == "pass" and power is not None:
            return Claim("pass", f"{self.reason}; {covering.sentence}")
        return self
