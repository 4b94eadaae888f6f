"""Utterances recognised by several processes at once, with the results of one.

Each process has a recogniser and a thread, and takes an utterance when it has done one, so a slow
one holds up nobody. What is recognised doesn't depend on the process or the order: a stream knows
nothing of others. What comes back says which utterance it is of.
"""

import multiprocessing
import signal
from collections.abc import Generator, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from asr.errors import AsrError
from asr.evaluation.corpora.manifest import Skipped, Utterance
from asr.evaluation.corpora.recordings import read_utterance
from asr.evaluation.recognition import Outcome, ReadUtterance, recognize

_READY = "ready"


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """The arguments of `asr.load`, but for the threads: each process has one."""

    path: Path | None
    precision: str
    engine: str | None
    chunk_ms: int | None
    search: str | None = None


def recognize_in_processes(
    options: LoadOptions,
    utterances: Iterable[tuple[int, Utterance]],
    jobs: int,
    read: ReadUtterance = read_utterance,
) -> Generator[tuple[int, Outcome], None, None]:
    """Recognise numbered utterances in `jobs` processes; yield each number with its outcome, as
    soon as it is known. `read` gives the audio of an utterance, and goes to each process.

    A recording that can't be used costs itself, and so does one at which its process is killed, as
    by the system when memory runs out: another process goes on. However the iteration ends, all
    processes end with it.

    Raises AsrError if a process can't load the model.
    """
    waiting = list(utterances)[::-1]
    workers: dict[Connection, _Worker] = {}
    try:
        for _ in range(min(jobs, len(waiting))):
            _start(options, read, workers)
        while workers:
            for connection in wait(list(workers)):
                assert isinstance(connection, Connection)
                worker = workers[connection]
                message = worker.receive()
                if message is None:
                    del workers[connection]
                    yield worker.position, worker.why_it_died()
                    if waiting:
                        _start(options, read, workers)
                    continue
                position = worker.position if message != _READY else None
                if waiting:
                    worker.give(*waiting.pop())
                else:
                    workers.pop(connection).stop()
                if position is not None:
                    yield position, message
    finally:
        for worker in workers.values():
            worker.stop()


class _Worker:
    """A process that recognises one utterance at a time, seen from outside."""

    def __init__(self, process: BaseProcess, connection: Connection) -> None:
        self._process = process
        self._connection = connection
        self._current: tuple[int, Utterance] | None = None  # None: it still loads the model

    @property
    def position(self) -> int:
        """The number of what it recognises. Raises AsrError if it died before it had anything."""
        if self._current is None:
            raise AsrError(f"a job could not load the model: {self._death()}; try fewer --jobs")
        return self._current[0]

    def give(self, position: int, utterance: Utterance) -> None:
        """Have it recognise an utterance. If it is dead by now, `receive` will tell."""
        self._current = position, utterance
        with suppress(BrokenPipeError):
            self._connection.send(utterance)

    def receive(self) -> Any:
        """Return `_READY` or an outcome; None if it is dead. Raises the AsrError that it sent."""
        try:
            message = self._connection.recv()
        except (EOFError, OSError):
            self._connection.close()
            self._process.join()
            return None
        if isinstance(message, AsrError):
            raise message
        return message

    def why_it_died(self) -> Skipped:
        """Say so of the utterance that it had. Raises RuntimeError if it wasn't killed but failed:
        that is a defect here, and not a broken recording."""
        assert self._current is not None
        if (self._process.exitcode or 0) >= 0:
            raise RuntimeError(f"a job ended at {self._current[1].id}: {self._death()}")
        return Skipped(self._current[1].id, f"its process died: {self._death()}")

    def stop(self) -> None:
        """End it, whatever it does."""
        self._process.terminate()
        self._process.join()
        self._connection.close()

    def _death(self) -> str:
        code = self._process.exitcode or 0
        if code >= 0:
            return f"exit code {code}, see its message above"
        return f"killed by {signal.Signals(-code).name}"


def _start(options: LoadOptions, read: ReadUtterance, workers: dict[Connection, _Worker]) -> None:
    # A fresh process: a fork would have the parent's memory, and its threads' locks.
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, options, read), daemon=True)
    # A terminal sends these to all of its processes, and they are for the one that waits. What is
    # blocked here stays so in the new one; the tracker would unblock it, if that came up with it.
    resource_tracker.ensure_running()
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    theirs.close()  # the process has its own; when that one closes, the process has ended
    workers[ours] = _Worker(process, ours)


def _work(connection: Connection, options: LoadOptions, read: ReadUtterance) -> None:
    from asr.recognizer import load  # here: the process that waits has no use for an engine

    try:
        recognizer = load(**asdict(options))
    except AsrError as error:
        connection.send(error)
        return
    connection.send(_READY)
    while True:
        try:
            utterance: Utterance = connection.recv()
        except EOFError:  # nobody waits any more
            return
        try:
            outcome: Outcome = recognize(recognizer, utterance, read=read)
        except AsrError as error:
            outcome = Skipped(utterance.id, str(error))
        with suppress(BrokenPipeError):  # the same: the next `recv` will tell
            connection.send(outcome)
