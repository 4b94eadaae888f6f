"""Two runs that share a work folder add to its files one after the other."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from training.locking import exclusive

HOLDER = """
    import sys
    from pathlib import Path
    from training.locking import exclusive
    with exclusive(Path(sys.argv[1])):
        print("held", flush=True)
        sys.stdin.readline()
        Path(sys.argv[2]).write_text("done")
"""


def start_holder(lock: Path, result: Path) -> subprocess.Popen:
    command = [sys.executable, "-c", textwrap.dedent(HOLDER), str(lock), str(result)]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_the_second_waits_and_says_so(tmp_path: Path) -> None:
    lock, result = tmp_path / "features" / "lock", tmp_path / "result"
    with exclusive(lock):
        process = start_holder(lock, result)
        assert process.stderr is not None
        assert "waiting for another run" in process.stderr.readline()
        assert not result.exists()
    output, _ = process.communicate("\n", timeout=30)
    assert (output, result.read_text()) == ("held\n", "done")


def test_a_killed_run_holds_nothing_back(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    process = start_holder(tmp_path / "lock", tmp_path / "result")
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    process.kill()
    process.communicate()
    with exclusive(tmp_path / "lock"):
        assert not capsys.readouterr().err
