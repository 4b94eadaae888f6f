"""CPU hogs run while they should and never longer, however their parent ends."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asr.errors import AsrError
from asr.evaluation.under_load import hogs
from asr.evaluation.under_load.hogs import Hogs

_PATIENCE_S = 20.0


def lives(pid: int) -> bool:
    """Whether a process runs: a zombie, which only waits to be reaped, doesn't."""
    done = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return bool(done.stdout.strip()) and not done.stdout.startswith("Z")


def comes_true(condition: Callable[[], bool]) -> bool:
    until = time.monotonic() + _PATIENCE_S
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def test_hogs_run_inside_the_block_only() -> None:
    with Hogs(2) as running:
        pids = running.pids
        assert len(set(pids)) == 2
        assert all(map(lives, pids))
    assert running.pids == ()
    assert not any(map(lives, pids))


def test_hogs_compute() -> None:
    def cpu_s(pid: int) -> float:
        done = subprocess.run(["ps", "-o", "cputimes=", "-p", str(pid)], capture_output=True)
        return float(done.stdout)

    with Hogs(1) as running:
        (pid,) = running.pids
        assert comes_true(lambda: cpu_s(pid) >= 1)


def test_hogs_end_with_an_error_in_the_block() -> None:
    pids: list[int] = []

    def fail(running: Hogs) -> None:
        pids.extend(running.pids)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), Hogs(1) as running:
        fail(running)
    assert len(pids) == 1
    assert not lives(pids[0])


def test_a_hog_that_died_is_not_counted() -> None:
    with Hogs(2) as running:
        victim, survivor = running.pids
        subprocess.run(["kill", "-9", str(victim)], check=True)
        assert comes_true(lambda: running.pids == (survivor,))


def test_orphans_end_although_their_parent_was_killed() -> None:
    """SIGKILL leaves the parent no time to end them."""
    code = (
        "import time\n"
        "from asr.evaluation.under_load.hogs import Hogs\n"
        "with Hogs(2) as hogs:\n"
        "    print(*hogs.pids, flush=True)\n"
        "    time.sleep(600)\n"
    )
    command = [sys.executable, "-c", code]
    root = Path(hogs.__file__).parents[3]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2
        assert all(map(lives, pids))
        parent.kill()
    assert comes_true(lambda: not any(map(lives, pids)))


def test_those_that_started_end_when_another_can_not(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def start(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        if started:
            raise BlockingIOError("too many processes")
        started.append(popen(*arguments, **options))
        return started[0]

    monkeypatch.setattr(hogs.subprocess, "Popen", start)
    with pytest.raises(BlockingIOError), Hogs(2):
        pass
    assert started[0].returncode is not None


def test_none_is_allowed_and_fewer_are_not() -> None:
    with Hogs(0) as running:
        assert running.pids == ()
    with pytest.raises(AsrError, match="-1 CPU hogs; expected 0 or more"):
        Hogs(-1)
