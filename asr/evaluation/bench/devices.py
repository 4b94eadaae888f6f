"""The same benchmark on another device: an Android phone over adb, a Linux board over ssh.

The sources of `asr`, the bundle and the recordings are pushed to a folder of their own there,
`python -m asr bench` runs, its JSON is brought back, and the folder is removed. What the device
needs beforehand is a Python with the runtime's dependencies; nothing is installed there.

On Android that is one which the shell of adb may run, such as a build for Android below
/data/local/tmp: Termux keeps its own to itself, and is reached over its sshd (`--ssh-options "-p
8022"`). Tested against an adb that is a script and a real ssh to the same machine; no phone was at
hand.
"""

import json
import os
import shlex
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import soundfile

import asr
from asr.errors import AsrError
from asr.evaluation.bench.rows import all_not_available, rows_to_dict
from asr.evaluation.cost.energy import (
    MEASURED_ROWS,
    MIN_BATTERY_S,
    EnergyMeter,
    PowerRails,
    energy_rows,
)
from asr.evaluation.playback import Recording

ADB_FOLDER = "/data/local/tmp/earshot-bench"
SSH_FOLDER = ".cache/earshot-bench"
"""Below the home directory."""

_CONNECT_TIMEOUT_S = 10
_BATTERY = "/sys/class/power_supply/battery"
_BATTERY_SAMPLE_S = 5.0  # a reading is a process here and one there
_PHONE_IDLE_S = 60.0


class Transport(Protocol):
    """A way to a device. All methods raise AsrError where it fails."""

    @property
    def name(self) -> str:
        """What it leads to."""
        ...

    @property
    def folder(self) -> str:
        """Where things are put there."""
        ...

    def push(self, folder: Path) -> None:
        """Make `self.folder` there a copy of what is in a folder here."""
        ...

    def run(self, command: str) -> str:
        """Run a shell command there; return what it prints."""
        ...

    def pull(self, file: str) -> bytes:
        """Return the content of a file in `self.folder`."""
        ...


@dataclass(frozen=True, slots=True)
class AdbTransport:
    """An Android device; `adb` must be on the PATH here."""

    serial: str
    folder: str = ADB_FOLDER

    @property
    def name(self) -> str:
        """See `Transport`."""
        return f"adb {self.serial}"

    def push(self, folder: Path) -> None:
        """See `Transport`."""
        self.run(f"rm -rf {self.folder} && mkdir -p {self.folder}")
        self._adb("push", f"{folder}/.", self.folder)

    def run(self, command: str) -> str:
        """See `Transport`."""
        return self._adb("shell", command).decode(errors="replace")

    def pull(self, file: str) -> bytes:
        """See `Transport`."""
        return self._adb("exec-out", f"cat {self.folder}/{file}")

    def _adb(self, *arguments: str) -> bytes:
        return _call(["adb", "-s", self.serial, *arguments], self.name, "adb")


@dataclass(frozen=True, slots=True)
class SshTransport:
    """A Linux machine that ssh gets into without a question, with tar."""

    host: str
    options: tuple[str, ...] = ()  # for ssh, such as ("-p", "2222")
    folder: str = SSH_FOLDER

    @property
    def name(self) -> str:
        """See `Transport`."""
        return f"ssh {self.host}"

    def push(self, folder: Path) -> None:
        """See `Transport`."""
        with tempfile.TemporaryFile() as archive:
            with tarfile.open(fileobj=archive, mode="w") as tar:
                tar.add(folder, arcname=".")
            archive.seek(0)
            there = shlex.quote(self.folder)
            self._ssh(f"rm -rf {there} && mkdir -p {there} && tar -xf - -C {there}", archive)

    def run(self, command: str) -> str:
        """See `Transport`."""
        return self._ssh(command).decode(errors="replace")

    def pull(self, file: str) -> bytes:
        """See `Transport`."""
        return self._ssh(f"cat {shlex.quote(f'{self.folder}/{file}')}")

    def _ssh(self, command: str, stdin: Any = subprocess.DEVNULL) -> bytes:
        options = ["-o", "BatchMode=yes", "-o", f"ConnectTimeout={_CONNECT_TIMEOUT_S}"]
        return _call(["ssh", *options, *self.options, self.host, command], self.name, "ssh", stdin)


def run_on_device(
    transport: Transport,
    bundle: Path,
    recordings: Sequence[Recording],
    arguments: Sequence[str],
    python: str = "python3",
    watch: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Run `asr bench` with `arguments` there; return its JSON, with `device` added.

    Raises AsrError if the device can't be reached, or the run fails there.
    """
    with tempfile.TemporaryDirectory(prefix="earshot-device-") as scratch:
        sources = stage(Path(scratch), bundle, recordings)
        watch(f"pushing to {transport.name}")
        transport.push(Path(scratch))
    try:
        watch(f"running on {transport.name}")
        command = [python, "-m", "asr", "bench", *sources]
        command += ["--model", f"bundle/{bundle.name}", "--report", "report.json", *arguments]
        there = shlex.quote(transport.folder)
        transport.run(f"cd {there} && PYTHONPATH=. {shlex.join(command)}")
        content: dict[str, Any] = json.loads(transport.pull("report.json"))
    except ValueError as error:
        raise AsrError(f"{transport.name}: its report can't be read: {error}") from error
    finally:
        transport.run(f"rm -rf {shlex.quote(transport.folder)}")
    return {**content, "device": transport.name}


def stage(folder: Path, bundle: Path, recordings: Sequence[Recording]) -> list[str]:
    """Put into `folder` what a device needs: `asr/`, `bundle/NAME` and `recordings/`. Return the
    recordings to name there: a manifest where all texts are known, else each of them."""
    ignored = shutil.ignore_patterns("__pycache__", "models", "web")
    shutil.copytree(Path(asr.__file__).parent, folder / "asr", ignore=ignored)
    (folder / "bundle").mkdir()
    if bundle.is_dir():
        shutil.copytree(bundle, folder / "bundle" / bundle.name)
    else:
        shutil.copy(bundle, folder / "bundle")
    (folder / "recordings").mkdir()
    rows, names = [], []
    for number, recording in enumerate(recordings):
        name = f"{number:04d}{recording.path.suffix}"
        shutil.copy(recording.path, folder / "recordings" / name)
        names.append(f"recordings/{name}")
        if recording.text is not None:
            duration_s = soundfile.info(os.fsencode(recording.path)).duration
            row = {"id": name, "audio": name, "duration": duration_s, "text": recording.text}
            rows.append(json.dumps(row) + "\n")
    if len(rows) < len(names):
        return names
    (folder / "recordings/manifest.jsonl").write_text("".join(rows), encoding="utf-8")
    return ["recordings/manifest.jsonl"]


def with_phone_energy(
    transport: Transport,
    run: Callable[[], dict[str, Any]],
    *,
    sleep: Callable[[float], object] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, Any]:
    """Run a sustained benchmark on a phone, and read its battery meanwhile; return the JSON, with
    rows of energy where the phone could not measure it itself.

    Pushing, loading and pulling are in the figure: seconds in a run of many minutes.
    """
    try:
        source = phone_battery(transport)
    except LookupError as reason:
        content = run()
        rows = all_not_available(MEASURED_ROWS, str(reason))
    else:
        with EnergyMeter(source, clock, _BATTERY_SAMPLE_S) as idle:
            sleep(_PHONE_IDLE_S)
        with EnergyMeter(source, clock, _BATTERY_SAMPLE_S) as meter:
            content = run()
        rows = energy_rows(source, idle.use, meter.use, content["audio_s"])
    if content["rows"]["energy_mj_per_audio_s"]["value"] is not None:
        return content
    return {**content, "rows": content["rows"] | rows_to_dict(rows)}


def phone_battery(transport: Transport) -> PowerRails:
    """Return the battery of a phone as a source of energy, read from here.

    Raises LookupError if it can't be read, or the phone is on its charger.
    """
    try:
        status = transport.run(f"cat {_BATTERY}/status").strip()
        transport.run(f"cat {_BATTERY}/current_now {_BATTERY}/voltage_now")
    except AsrError as error:
        raise LookupError(f"no battery can be read over {transport.name}: {error}") from error
    if status != "Discharging":
        raise LookupError(f"the phone is {status.lower()}: unplug it, and connect over Wi-Fi")

    def read() -> tuple[float, float]:
        try:
            current, volts = transport.run(
                f"cat {_BATTERY}/current_now {_BATTERY}/voltage_now"
            ).split()
        except (AsrError, ValueError) as error:
            raise OSError(f"the battery of {transport.name} can't be read") from error
        return abs(float(current)) * 1e-6, float(volts) * 1e-6

    def watts() -> float:
        current, volts = read()
        return current * volts

    name = f"battery over {transport.name}"
    return PowerRails(name, {"battery": watts}, volts=lambda: read()[1], min_s=MIN_BATTERY_S)


def _call(command: Sequence[str], device: str, tool: str, stdin: Any = subprocess.DEVNULL) -> bytes:
    try:
        done = subprocess.run(command, stdin=stdin, capture_output=True, check=True)
    except FileNotFoundError as error:
        raise AsrError(f"{device}: {tool} is not here; install it") from error
    except subprocess.CalledProcessError as error:
        lines = error.stderr.decode(errors="replace").strip().splitlines()
        said = lines[-1] if lines else f"exit code {error.returncode}"
        raise AsrError(f"{device}: {said}") from error
    return done.stdout
