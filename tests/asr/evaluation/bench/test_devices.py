"""A benchmark on another device: over an adb that is a script, and over a real ssh to this machine.

The devices are folders here, with this Python; what runs there is the whole command."""

import getpass
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from asr.errors import AsrError
from asr.evaluation.bench.devices import (
    AdbTransport,
    SshTransport,
    phone_battery,
    run_on_device,
    stage,
    with_phone_energy,
)
from asr.evaluation.bench.rows import figure, not_available
from asr.evaluation.playback import Recording

Write = Callable[..., Path]

QUICK = ["--repeat", "1", "--warmup", "0", "--growth-minutes", "0"]

FAKE_ADB = """#!/bin/sh
# adb -s SERIAL push FROM TO | shell COMMAND | exec-out COMMAND; the device is the folder $PHONE.
[ "$1" = -s ] && [ "$2" = R58 ] || { echo "error: device '$2' not found" >&2; exit 1; }
shift 2
case "$1" in
    push) cp -r "$2" "$PHONE$3" ;;
    shell | exec-out)
        there="s#/data/local/tmp#$PHONE/data/local/tmp#g; s#/sys/#$PHONE/sys/#g"
        command=$(printf %s "$2" | sed "$there")
        exec sh -c "$command" ;;
    *) exit 2 ;;
esac
"""


@pytest.fixture
def phone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root of an Android device that the adb on the PATH leads to."""
    tools, root = tmp_path / "tools", tmp_path / "phone"
    for folder in (tools, root / "data/local/tmp"):
        folder.mkdir(parents=True)
    adb = tools / "adb"
    adb.write_text(FAKE_ADB)
    adb.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    monkeypatch.setenv("PHONE", str(root))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return root


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, ...]]:
    """The options with which ssh gets into a server on this machine, started for these tests."""
    server = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if server is None or shutil.which("ssh-keygen") is None or shutil.which("ssh") is None:
        pytest.skip("no sshd here; apt install openssh-server")
    folder = tmp_path_factory.mktemp("sshd")
    folder.chmod(0o700)
    for key in ("host", "user"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)]
        subprocess.run(command, check=True)
    shutil.copy(folder / "user.pub", folder / "authorized_keys")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "config").write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {folder}/host\n"
        f"AuthorizedKeysFile {folder}/authorized_keys\nPidFile none\nStrictModes no\n"
        "UsePAM no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where sshd gives up its privileges
    log = (folder / "log").open("w")
    process = subprocess.Popen([server, "-D", "-e", "-f", str(folder / "config")], stderr=log)
    options = ("-p", str(port), "-i", str(folder / "user"), "-F", "none")
    options += ("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null")
    try:
        _wait_for(port, process, folder / "log")
        yield options
    finally:
        process.terminate()
        process.wait()
        log.close()


def _wait_for(port: int, process: subprocess.Popen, log: Path) -> None:
    for _ in range(100):
        if process.poll() is not None:
            pytest.skip(f"sshd doesn't run here: {log.read_text().strip()}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.1)
    pytest.skip("sshd doesn't answer")


def test_a_phone_runs_the_same_command_and_is_left_as_it_was(
    phone: Path, tiny_bundle: Path, write_speech: Write
) -> None:
    recordings = [Recording(write_speech("speech.wav", 2.0), "so to me")]
    content = run_on_device(AdbTransport("R58"), tiny_bundle, recordings, QUICK, sys.executable)
    assert (content["device"], content["kind"]) == ("adb R58", "bench")
    assert content["rows"]["rtf"]["value"] > 0
    assert content["rows"]["words"]["value"] == 3
    assert content["sources"] == ["recordings/manifest.jsonl"]
    assert list((phone / "data/local/tmp").iterdir()) == []


def test_a_board_over_ssh(
    sshd: tuple[str, ...], tiny_bundle: Path, write_speech: Write, tmp_path: Path
) -> None:
    recordings = [Recording(write_speech("speech.wav", 2.0))]
    transport = SshTransport(
        f"{getpass.getuser()}@127.0.0.1", sshd, folder=str(tmp_path / "a board")
    )
    content = run_on_device(transport, tiny_bundle, recordings, QUICK, sys.executable)
    assert content["device"] == transport.name
    assert content["rows"]["rtf"]["value"] > 0
    assert content["rows"]["wer"]["value"] is None  # its text isn't known
    assert not (tmp_path / "a board").exists()


@pytest.mark.parametrize(
    ("serial", "python", "message"),
    [
        ("R99", sys.executable, "adb R99: error: device 'R99' not found"),
        ("R58", "no-such-python", r"adb R58: .*no-such-python"),
    ],
)
def test_a_device_that_can_not_run_it_says_so(
    phone: Path, tiny_bundle: Path, write_speech: Write, serial: str, python: str, message: str
) -> None:
    recordings = [Recording(write_speech("speech.wav", 1.0))]
    with pytest.raises(AsrError, match=message):
        run_on_device(AdbTransport(serial), tiny_bundle, recordings, QUICK, python)
    assert list((phone / "data/local/tmp").iterdir()) == []


def test_an_error_of_the_run_there_is_told_here(
    phone: Path, tiny_bundle: Path, write_speech: Write
) -> None:
    recordings = [Recording(write_speech("speech.wav", 1.0))]
    with pytest.raises(AsrError, match=r"adb R58: .*no precision 'fp32'"):
        run_on_device(
            AdbTransport("R58"), tiny_bundle, recordings, ["--precision", "fp32"], sys.executable
        )


def test_a_tool_that_is_not_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AsrError, match="adb R58: adb is not here; install it"):
        AdbTransport("R58").run("true")


def test_what_is_pushed_is_small_and_whole(
    tmp_path: Path, tiny_bundle: Path, write_speech: Write
) -> None:
    known = [
        Recording(write_speech("a.wav", 0.5), "one"),
        Recording(write_speech("b.wav", 0.5), "two"),
    ]
    assert stage(tmp_path / "s", tiny_bundle, known) == ["recordings/manifest.jsonl"]
    names = {str(path.relative_to(tmp_path / "s")) for path in (tmp_path / "s").rglob("*")}
    assert {
        "asr/stream.py",
        f"bundle/{tiny_bundle.name}/bundle.json",
        "recordings/0001.wav",
    } <= names
    assert not [name for name in names if "asr/models" in name or "__pycache__" in name]
    mixed = [known[0], Recording(known[1].path)]
    assert stage(tmp_path / "t", tiny_bundle, mixed) == [
        "recordings/0000.wav",
        "recordings/0001.wav",
    ]


def _battery(phone: Path) -> Path:
    battery = phone / "sys/class/power_supply/battery"
    battery.mkdir(parents=True)
    for name, value in {"current_now": -250_000, "voltage_now": 4_000_000}.items():
        (battery / name).write_text(f"{value}\n")
    (battery / "status").write_text("Discharging\n")
    return battery


def test_a_long_run_on_a_phone_is_measured_by_its_battery(phone: Path) -> None:
    """1 W in the run, and 1 W before it: nothing is its own. A run too short for the gauge, and a
    phone on its charger, have no figure."""
    battery, clock = _battery(phone), iter(range(0, 10_000_000, 1000))
    unknown = {"energy_mj_per_audio_s": not_available("mJ/s of audio", "no counter").to_dict()}
    report = {"audio_s": 100.0, "rows": unknown}

    def run(clock: Callable[[], float]) -> dict:
        found = with_phone_energy(
            AdbTransport("R58"), lambda: report, sleep=lambda seconds: None, clock=clock
        )
        return found["rows"]

    rows = run(lambda: float(next(clock)))
    assert rows["energy_raw_mj_per_audio_s"]["value"] > 1000
    assert rows["energy_mj_per_audio_s"]["value"] == pytest.approx(0)
    assert rows["energy_mj_per_audio_s"]["source"] == "measured: battery over adb R58"
    assert "too short" in run(time.monotonic)["energy_mj_per_audio_s"]["reason"]
    (battery / "status").write_text("Full\n")
    assert "the phone is full" in run(time.monotonic)["energy_mj_per_audio_s"]["reason"]


def test_a_device_that_measures_itself_is_believed(phone: Path) -> None:
    rows = {"energy_mj_per_audio_s": figure(3.0, "mJ/s of audio", "its own").to_dict()}
    report = {"audio_s": 100.0, "rows": rows}
    found = with_phone_energy(AdbTransport("R58"), lambda: report, sleep=lambda seconds: None)
    assert found["rows"] == rows


def test_the_battery_of_a_phone(phone: Path) -> None:
    battery = _battery(phone)
    (battery / "status").write_text("Charging\n")
    with pytest.raises(LookupError, match="the phone is charging: unplug it"):
        phone_battery(AdbTransport("R58"))
    (battery / "status").write_text("Discharging\n")
    source = phone_battery(AdbTransport("R58"))
    source.joules(0.0)
    assert source.joules(10.0) == {"battery": pytest.approx(10.0)}
    assert source.volts() == pytest.approx(4.0)
    shutil.rmtree(battery)
    with pytest.raises(OSError, match="can't be read"):
        source.joules(11.0)
    with pytest.raises(LookupError, match="no battery can be read"):
        phone_battery(AdbTransport("R58"))
