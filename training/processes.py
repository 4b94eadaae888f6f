"""Several processes that train together, as torchrun starts them; one alone needs none of this.

They may be on several nodes, and the nodes may share the work folder or have one each. What a run
writes (checkpoints, journal, models) is written by the first process.
"""

import os
import re
import socket
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed

from asr.errors import AsrError
from asr.whole_files import write_whole

PREPARATION_TIMEOUT = timedelta(hours=24)
"""How long the other processes wait for the features of a large corpus."""

TRAINING_TIMEOUT = timedelta(minutes=30)
"""How long a process waits for the others in a step: one that hangs shall not hold them a day."""

_LOST = re.compile(
    "connection (was )?(closed|reset|refused)|broken pipe|timed out|socket timeout|remote process",
    re.IGNORECASE,
)
"""What gloo and NCCL say when another process is gone."""

Result = TypeVar("Result")
Group = Any  # torch's type of a process group isn't there in every build of it


def world_size() -> int:
    """Processes that train together; torchrun says how many it started."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Return the number of this process among all, from 0."""
    return int(os.environ.get("RANK", "0"))


def is_first() -> bool:
    """Whether this process is the one that writes what all of them have."""
    return rank() == 0


def join() -> None:
    """Connect this process with the others: gloo on a CPU, NCCL between GPUs.

    Done before anything can fail: a process that ends is noticed by those it is connected to.
    Raises AsrError if there are more processes on this node than GPUs.
    """
    if world_size() == 1 or torch.distributed.is_initialized():
        return
    local, gpus = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), torch.cuda.device_count()
    if 0 < gpus < local:
        raise AsrError(
            f"{local} processes on {socket.gethostname()}, which has {gpus} GPUs; give torchrun "
            f"--nproc-per-node {gpus}"
        )
    backend = "cpu:gloo,cuda:nccl" if gpus else "gloo"
    torch.distributed.init_process_group(backend, timeout=TRAINING_TIMEOUT)


def one_per_file_system(
    make: Callable[[], Result], find: Callable[[], Result], folder: Path
) -> Result:
    """Let one process of those that share `folder` `make` something in it, the others `find` it.

    If one fails, all end: those that failed and the first process with an AsrError that says why,
    the others with SystemExit.
    """
    if world_size() == 1:
        return make()
    join()
    with _patient_group() as group:
        leads = _leads(folder, group)
        fault: AsrError | OSError | None = None
        for making in (True, False):
            if leads is making:
                try:
                    result = make() if making else find()
                except (AsrError, OSError) as error:
                    fault = error
            _end_together(fault, group)
    return result


def agree(facts: dict[str, str]) -> None:
    """Check that all processes have the same `facts`: else each would train something else.

    If not, all end: those that differ and the first process with an AsrError, the others with
    SystemExit.
    """
    if world_size() == 1:
        return
    with _patient_group() as group:
        firsts = [facts]
        torch.distributed.broadcast_object_list(firsts, group=group)
        differing = [
            f"{name}: {value}, but {firsts[0].get(name)} in the first process"
            for name, value in facts.items()
            if value != firsts[0].get(name)
        ]
        fault = None
        if differing:
            fault = AsrError(
                "; ".join(differing) + "; every node needs the same recipe, corpora and version "
                "(and no folder of another run of this name under its --work)"
            )
        _end_together(fault, group)


def spread_newest(path: Path) -> None:
    """Bring the newest `path` of any node to those that have an older one or none.

    For what only the first process writes and every process reads when a run goes on: nodes
    without a common file system need it too, and after a restart another may be the first.
    """
    if world_size() == 1:
        return
    with _patient_group() as group:
        times = [0] * world_size()
        own = path.stat().st_mtime_ns if path.exists() else 0
        torch.distributed.all_gather_object(times, own, group=group)
        newest = max(times)
        if min(times) == newest:
            return
        source = times.index(newest)
        content = [path.read_bytes() if rank() == source else b""]
        torch.distributed.broadcast_object_list(content, src=source, group=group)
        if own < newest:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, lambda partial: partial.write_bytes(content[0]))
            os.utime(path, ns=(newest, newest))
        torch.distributed.barrier(group)


@contextmanager
def naming_lost_processes() -> Iterator[None]:
    """Raise AsrError, in place of what gloo or NCCL say, when another process has ended."""
    try:
        yield
    except RuntimeError as error:
        if world_size() == 1 or not _LOST.search(str(error)):
            raise
        reason = str(error).strip().splitlines()[0]
        raise AsrError(
            f"another process of this run ended, or can't be reached ({reason}); what it said is "
            "above, or on its node. Started again, the run goes on from its last checkpoint"
        ) from error


@contextmanager
def _patient_group() -> Iterator[Group]:
    """A group of all processes, beside that of the steps, in which they wait long."""
    group = torch.distributed.new_group(backend="gloo", timeout=PREPARATION_TIMEOUT)
    yield group
    torch.distributed.destroy_process_group(group)


def _leads(folder: Path, group: Group) -> bool:
    """Whether this is the first of the processes that see the same `folder`."""
    token = [uuid.uuid4().hex]
    torch.distributed.broadcast_object_list(token, group=group)
    marks = [folder / f".process-{number}-{token[0]}" for number in range(world_size())]
    folder.mkdir(parents=True, exist_ok=True)
    marks[rank()].touch()
    torch.distributed.barrier(group)
    visible = [mark.exists() for mark in marks]
    torch.distributed.barrier(group)
    marks[rank()].unlink()
    return visible.index(True) == rank()


def _end_together(fault: AsrError | OSError | None, group: Group) -> None:
    faults: list[str | None] = [None] * world_size()
    named = f"{socket.gethostname()}, process {rank()}: {fault}" if fault else None
    torch.distributed.all_gather_object(faults, named, group=group)
    if fault:
        raise fault
    others = [text for text in faults if text]
    if others and is_first():
        raise AsrError(others[0])
    if others:
        raise SystemExit(2)  # the first process says why
