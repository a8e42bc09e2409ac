"""What ``rora hunt --dry-run`` and ``rora purify --dry-run`` expect of a run."""

from __future__ import annotations

from dataclasses import dataclass

from rora_cli.results.provenance import Provenance

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class StagePlan:
    """One stage of a run.

    Attributes:
        name: as a user calls it.
        memory: bytes at its peak on the device, weights included.
        tokens: tokens that go forward, at least and at most.
        seconds: time, at least and at most; None where no batch was timed.
        only_if: when it is done, as a clause; empty for what every run does.
    """

    name: str
    memory: int
    tokens: tuple[int, int] = (0, 0)
    seconds: tuple[float, float] | None = None
    only_if: str = ""


@dataclass(frozen=True)
class WayToFit:
    """Options that make a run need less, and the bytes that it needs then.

    Attributes:
        options: to add.
        memory: bytes at the run's peak with them.
        fits: whether that is within the free memory.
    """

    options: str
    memory: int
    fits: bool


@dataclass(frozen=True)
class RunPlan:
    """What a run will take, and whether it fits.

    Attributes:
        command: hunt or purify.
        parameters, trained: numbers in the model, and those that a training of the recipe changes.
        trained_what: what these are, in words; empty for a command that trains nothing.
        weights: bytes of the model as it is loaded.
        device: cpu, cuda, ...
        total, free: bytes of the device's memory; None where nothing tells.
        stages: in the order in which they are done.
        ways: options that would help, where it does not fit.
        timed: how the time was found, or why there is none.
        notes: what else the user should know.
        model: what the run would be about.
    """

    command: str
    model: str
    parameters: int
    trained: int
    trained_what: str
    weights: int
    device: str
    total: int | None
    free: int | None
    stages: tuple[StagePlan, ...]
    ways: tuple[WayToFit, ...]
    timed: str
    provenance: Provenance
    notes: tuple[str, ...] = ()
    schema_version: int = SCHEMA_VERSION

    @property
    def memory(self) -> int:
        """Bytes at the peak of all stages."""
        return max((stage.memory for stage in self.stages), default=self.weights)

    @property
    def fits(self) -> bool | None:
        """Whether the estimate is within the free memory; None where nothing tells."""
        return None if self.free is None else self.memory <= self.free

    @property
    def cannot_fit(self) -> bool:
        """Whether the weights alone are more than the device has in all: then no estimate can be wrong about it."""
        return self.total is not None and self.weights > self.total

    @property
    def tokens(self) -> tuple[int, int]:
        """Tokens that go forward in the whole run, at least and at most."""
        least = sum(stage.tokens[0] for stage in self.stages if not stage.only_if)
        return least, sum(stage.tokens[1] for stage in self.stages)

    @property
    def seconds(self) -> tuple[float, float] | None:
        """Time of the whole run, at least and at most; None where no batch was timed."""
        timed = [(stage, stage.seconds) for stage in self.stages if stage.seconds is not None]
        if not timed:
            return None
        return sum(s[0] for stage, s in timed if not stage.only_if), sum(s[1] for _, s in timed)
