"""How many threads torch works with: as many as there are free cores, not as many as there are cores.

A matrix product of several threads ends when the last of them does. Where other programs keep the cores busy, one
always waits for its turn, and the others for it: two threads of a search beside other programs did 36 trials a second,
and 530 alone. So the number is chosen anew whenever a search or a training begins.
"""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

#: Variables by which a user, or a launcher, decides; rora then leaves the threads alone.
DECIDED_BY = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
#: Seconds over which the load of the cores is measured, and for which a choice holds.
WINDOW, HOLDS = 0.25, 20.0
_STATISTICS, _CGROUP = Path("/proc/stat"), Path("/sys/fs/cgroup")


def allowed_cores() -> float:
    """The cores that this process may use: those that it is bound to, or fewer if its control group has a quota."""
    return min(float(len(_bound_to())), *_quotas(), math.inf)


def free_cores(window: float = WINDOW) -> float:
    """The allowed cores less the work of other programs on them [cores], measured over ``window`` seconds.

    The caller itself does nothing meanwhile. Where the system has no statistics of single cores, the load average of
    the last minute is taken, this process's own work included.
    """
    before = _idle_ticks()
    if before is None:
        return max(allowed_cores() - os.getloadavg()[0], 0.0) if hasattr(os, "getloadavg") else allowed_cores()
    time.sleep(window)
    after = _idle_ticks() or before
    shares = []
    for core, (idle, total) in after.items():
        idle_before, total_before = before.get(core, (idle, total))
        passed = total - total_before
        shares.append((idle - idle_before) / passed if passed > 0 else 1.0)
    return min(sum(shares), allowed_cores())


@dataclass
class ThreadChoice:
    """Chooses torch's threads for this process, once it is ``on``.

    Attributes:
        on: the command line switches it on; who calls rora from Python has threads of their own.
        most: torch's own choice, one thread for each physical core; None until torch is asked.
        chosen_at: when the last choice was made [s, monotonic].
    """

    on: bool = False
    most: int | None = None
    chosen_at: float = field(default=-math.inf)

    def switch_on(self) -> None:
        """From now on choose, unless the user or a launcher has decided."""
        self.on = not any(os.environ.get(name) for name in DECIDED_BY)

    def choose(self) -> None:
        """Give torch as many threads as there are free cores, at least one; a recent choice holds.

        Called from the thread that computes: torch keeps the number by thread.
        """
        if not self.on or time.monotonic() - self.chosen_at < HOLDS:
            return
        import torch

        if self.most is None:
            self.most = torch.get_num_threads()
        if self.most > 1:
            torch.set_num_threads(max(1, min(self.most, round(free_cores()))))
        self.chosen_at = time.monotonic()


#: This process's choice.
THREADS = ThreadChoice()


def _bound_to() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def _idle_ticks() -> dict[str, tuple[int, int]] | None:
    """Ticks (idle, all) of each core that this process is bound to since the machine started; None where unknown."""
    try:
        lines = _STATISTICS.read_text().splitlines()
    except OSError:
        return None
    bound, ticks = {f"cpu{core}" for core in _bound_to()}, {}
    for line in lines:
        name, *numbers = line.split()
        if name in bound:
            # user nice system idle iowait irq softirq steal; a guest's time is in user's already.
            counted = [int(number) for number in numbers[:8]]
            ticks[name] = (sum(counted[3:5]), sum(counted))
    return ticks or None


def _quotas() -> list[float]:
    """The quotas [cores] of this process's control group, of both versions, as a container sees them."""
    quotas = []
    for files in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        try:
            words = " ".join((_CGROUP / name).read_text() for name in files).split()
            quota, period = int(words[0]), int(words[1])
        except (OSError, ValueError, IndexError):  # no such file, or "max": no quota
            continue
        if quota > 0 and period > 0:
            quotas.append(quota / period)
    return quotas
