"""Several processes that train together, as torchrun starts them; one alone needs none of this."""

import os
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

import torch

from asr.errors import AsrError

PREPARATION_TIMEOUT = timedelta(hours=24)
"""How long the other processes wait for the features of a large corpus."""

TRAINING_TIMEOUT = timedelta(minutes=30)
"""How long a process waits for the others in a step: one that hangs shall not hold them a day."""

Result = TypeVar("Result")


def world_size() -> int:
    """Processes that train together; torchrun says how many it started."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Whether this process is the one that writes what all of them have."""
    return int(os.environ.get("RANK", "0")) == 0


def first_alone(make: Callable[[], Result], find: Callable[[], Result]) -> Result:
    """Let the first process `make` something, then the others `find` what it has made.

    Raises AsrError in the first process if it fails, SystemExit in the others.
    """
    if world_size() == 1:
        return make()
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    torch.distributed.init_process_group(backend, timeout=TRAINING_TIMEOUT)
    patient = torch.distributed.new_group(backend="gloo", timeout=PREPARATION_TIMEOUT)
    fault: AsrError | None = None
    if is_first():
        try:
            made = make()
        except AsrError as error:
            fault = error
    failed = [fault is not None]
    torch.distributed.broadcast_object_list(failed, group=patient)
    torch.distributed.destroy_process_group(patient)
    if fault:
        raise fault
    if failed[0]:
        raise SystemExit(2)  # the first process says why
    return made if is_first() else find()
