"""What the processes of a run tell each other, whoever started them, and how they end together."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from rora_cli.errors import RoraError, TrainingError, UsageError
from rora_cli.ranks import rank, world_size

#: Key of the store under which a rank leaves the sentence that says why it ended.
_TOLD = "rora/told/{}"
#: Words of gloo and of NCCL's watchdog when the other side has gone.
_LOST = ("Connection closed", "Connection reset", "Broken pipe", "ncclRemoteError", "remote process", "aborted")
#: Variables of the environment with which `accelerate launch` asks for a parallelism that rora lacks, and its name.
_OTHER_PARALLELISM = {
    "ACCELERATE_USE_DEEPSPEED": "DEEPSPEED",
    "ACCELERATE_USE_MEGATRON_LM": "MEGATRON_LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "parallelism_config",
}


class PeerLost(TrainingError):
    """Another process of this run has ended, which this one sees as a broken connection.

    The message is the other's own, if it left one.
    """


def wait_for_peers() -> None:
    """Let all ranks end together: a launcher takes the first end for a failure, and would end the others."""
    if not _in_group():
        return
    import torch.distributed

    try:
        torch.distributed.barrier()
    except RuntimeError as error:
        # All is written; one that ended in the meantime only waited for that.
        if not is_lost_peer(error):
            raise


def leave() -> None:
    """Leave the process group in good order, if there is one; for a process in which nothing went wrong."""
    if _in_group():
        import torch.distributed

        torch.distributed.destroy_process_group()


def _in_group() -> bool:
    if "torch" not in sys.modules:
        return False
    import torch.distributed

    return torch.distributed.is_available() and torch.distributed.is_initialized()


@contextmanager
def answering_to_peers() -> Iterator[None]:
    """Tell the other ranks why this one cannot go on; replace a broken connection by the reason of the rank that ended.

    Raises:
        PeerLost: another rank has ended.
    """
    try:
        yield
    except RoraError as error:
        _tell(str(error))
        raise
    except RuntimeError as error:
        if not is_lost_peer(error):
            raise
        untold = "another process of this run ended before its work was done; see its messages above"
        raise PeerLost(_told() or untold) from error


def is_lost_peer(error: BaseException) -> bool:
    """Whether a collective failed because another rank ended; the words are those of gloo and of NCCL's watchdog."""
    text = str(error)
    collective = "gloo" in text or type(error).__name__ in ("DistBackendError", "DistNetworkError")
    return world_size() > 1 and collective and any(word in text for word in _LOST)


def _store() -> Any:
    """The store that all ranks can write to and read from; None without a process group."""
    if world_size() == 1 or not _in_group():
        return None
    import torch.distributed

    return torch.distributed.distributed_c10d._get_default_store()


def _tell(sentence: str) -> None:
    with suppress(RuntimeError):  # the process that held the store has gone, and the others with it
        if (store := _store()) is not None:
            store.set(_TOLD.format(rank()), sentence)


def _told() -> str | None:
    """The sentence of the first other rank that told one. Ranks tell before they end: nothing is to be waited for."""
    with suppress(RuntimeError):
        store = _store()
        for other in range(world_size()):
            if store is not None and other != rank() and store.check([_TOLD.format(other)]):
                sentence = store.get(_TOLD.format(other)).decode("utf-8", "replace")
                return f"process {other} of {world_size()} (counted from 0): {sentence}"
    return None


def refuse_other_parallelism() -> None:
    """Raise UsageError if the launcher asks for a parallelism that rora lacks; called before anything is loaded.

    accelerate would go its own way on a GPU, and ignore it on a CPU.
    """
    for variable, name in _OTHER_PARALLELISM.items():
        if _is_on(variable):
            raise UsageError(unsupported("accelerate's launcher", name))
    if launcher_shards() and (version := os.environ.get("FSDP_VERSION", "1")) != "2":
        raise UsageError(unsupported("accelerate's launcher", f"FSDP in version {version}"))


def launcher_shards() -> bool:
    """Whether the launcher asks for a model whose parameters are divided among the processes (FSDP)."""
    return _is_on("ACCELERATE_USE_FSDP")


def _is_on(variable: str) -> bool:
    return os.environ.get(variable, "").lower() in ("1", "true", "yes", "y", "t", "on")


def unsupported(who: str, name: str) -> str:
    """The sentence on a parallelism, ``name``, that ``who`` asks for and rora does not support."""
    return (
        f"{who} asks for {name}, and rora works by data parallelism (distributed_type MULTI_GPU or MULTI_CPU, or "
        "--num-processes), or shards a model by FSDP in version 2 (distributed_type FSDP with fsdp_version 2, or "
        "--shard): use one of these"
    )
