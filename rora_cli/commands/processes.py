"""Commands whose work several processes share: started here, or by somebody else's launcher."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rora_cli.errors import UsageError
from rora_cli.progress import Progress
from rora_cli.ranks import ALONE, Share, world_size


def check_processes(config: Any, *, shard: bool | None = None) -> None:
    """Raise UsageError if processes cannot work as a launcher or the config asks.

    ``shard`` says whether the model is to be divided among them; None where the command cannot do that.
    """
    from rora_cli.training.peers import launcher_shards, refuse_other_parallelism

    refuse_other_parallelism()
    if shard is None and launcher_shards():
        raise UsageError(
            "accelerate's launcher asks for FSDP, and only `rora purify` divides a model among processes; start this "
            "command with distributed_type MULTI_GPU or MULTI_CPU, or --num-processes"
        )
    if shard and max(config.num_processes, world_size()) == 1:
        raise UsageError("--shard divides the model among processes, and this is one; add --num-processes 2 or more")
    if world_size() > 1 and config.num_processes not in (1, world_size()):
        raise UsageError(
            f"--num-processes is {config.num_processes}, but a launcher has started {world_size()} processes "
            "already; leave the option out, or start rora without the launcher"
        )


def in_processes(work: Callable[[Any, Progress], Any], config: Any, progress: Progress) -> Any:
    """``work(config, progress)`` in as many processes as the config asks for; returns the main one's result."""
    if config.num_processes > 1 and world_size() == 1:
        from rora_cli.training.launch import launch

        return launch(work, config, config.num_processes, progress)
    return work(config, progress)


def device_and_share(device: str) -> tuple[str, Share]:
    """The device that this process measures on, of the one that the user named, and its place among the others.

    Raises:
        UsageError: torch does not know the device, does not see it, or has not one for each process.
    """
    from rora_cli.evaluation.inference import choose_device
    from rora_cli.training.run import Run, make_accelerator

    chosen = choose_device(device)
    if world_size() == 1:
        return chosen, ALONE
    run = Run(make_accelerator("fp32", device))
    return str(run.device), run.share
