"""Python on emulated processors, a 64-bit Arm and an x86 without VNNI: proves results, not speed.

`python -m tests.emulation` fetches what it takes into `.emulation/` (180 MB, once): qemu, which
needs no root, Debian's arm64 packages of Python and the C libraries, unpacked, and the aarch64
wheels of the runtime. onnxruntime is 1.23.2 there: the oldest that the project supports, and newer
ones crash in this emulator when they are imported (1.31.1 did).
"""

import os
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
PLACE = ROOT / ".emulation"
ONNXRUNTIME = "1.23.2"

_DEBS = (
    "python3.11-minimal libpython3.11-minimal libpython3.11-stdlib libc6 libstdc++6 libgcc-s1 "
    "zlib1g libexpat1 libssl3 libffi8 libbz2-1.0 liblzma5 libuuid1 libcrypt1"
).split()
_WHEELS = [
    *"numpy kaldi-native-fbank soxr soundfile cffi pycparser typing-extensions".split(),
    f"onnxruntime=={ONNXRUNTIME}",
]
_PLATFORMS = [f"manylinux_2_{minor}_aarch64" for minor in (28, 27, 26, 17)]
_EMULATORS = ("qemu-aarch64-static", "qemu-x86_64-static")  # of the package's 300 MB


class EmulationError(Exception):
    """It can't be set up here. The message says why."""


def prepare() -> None:
    """Fetch what is not there yet. Raises EmulationError."""
    if (PLACE / "complete").exists():
        return
    if shutil.which("apt-get") is None or platform.machine() != "x86_64":
        raise EmulationError("emulated processors are set up on Debian on x86-64 only")
    shutil.rmtree(PLACE, ignore_errors=True)
    try:
        _fetch_packages()
        _fetch_wheels()
    except (OSError, subprocess.SubprocessError) as error:
        detail = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[-1:]
        raise EmulationError(f"no emulated processor: {' '.join(detail)}") from error
    (PLACE / "complete").touch()


def run_arm64(*arguments: str) -> str:
    """Run Python on the emulated Arm, from the root of the checkout; return what it printed."""
    python = PLACE / "root/usr/bin/python3.11"
    site = f"PYTHONPATH={PLACE / 'site'}:{ROOT}"
    home = f"PYTHONHOME={PLACE / 'root/usr'}"
    qemu = ["qemu-aarch64-static", "-cpu", "cortex-a76", "-L", PLACE / "root"]
    return _run_python([*qemu, "-E", home, "-E", site, python, *arguments])


def run_haswell(*arguments: str) -> str:
    """The same with this Python on an emulated x86 of 2013, which has AVX2 and no VNNI."""
    qemu = ["qemu-x86_64-static", "-cpu", "Haswell", "-E", f"PYTHONPATH={ROOT}"]
    return _run_python([*qemu, sys.executable, *arguments])


def _run_python(command: Sequence[object]) -> str:
    emulator, *arguments = map(str, command)
    with tempfile.TemporaryDirectory() as cache:  # so that the self-test runs there, too
        environment = {**os.environ, "XDG_CACHE_HOME": cache, "OPENBLAS_NUM_THREADS": "1"}
        done = subprocess.run(
            [str(PLACE / "host/usr/bin" / emulator), *arguments],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
        )
    if done.returncode:
        raise EmulationError(f"exit code {done.returncode}: {done.stderr.strip()[-2000:]}")
    return done.stdout


def _fetch_packages() -> None:
    """Debian's own tools check the signatures. Their state is kept apart from this machine's."""
    apt = PLACE / "apt"
    for folder in ("lists/partial", "archives/partial", "debs"):
        (apt / folder).mkdir(parents=True)
    options = {
        "Dir::State": apt,
        "Dir::State::lists": apt / "lists",
        "Dir::State::status": "/dev/null",
        "Dir::Cache": apt,
        "APT::Architecture": "arm64",
        "APT::Architectures": "arm64",
    }
    arm = ["apt-get", "-q", *(f"-o{key}={value}" for key, value in options.items())]
    _run([*arm, "update"], apt)
    _run([*arm, "download", *_DEBS], apt / "debs")
    _unpack(apt / "debs", PLACE / "root")
    (apt / "host").mkdir()
    _run(["apt-get", "-q", "download", "qemu-user-static"], apt / "host")
    _unpack(apt / "host", PLACE / "host")
    for emulator in (PLACE / "host/usr/bin").iterdir():
        if emulator.name not in _EMULATORS:
            emulator.unlink()
    shutil.rmtree(apt)


def _fetch_wheels() -> None:
    wheels = PLACE / "wheels"
    platforms = [f"--platform={name}" for name in [*_PLATFORMS, "any"]]
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:"]
    _run([*pip, "--python-version=3.11", *platforms, f"--dest={wheels}", *_WHEELS], PLACE)
    for wheel in wheels.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(PLACE / "site")
    shutil.rmtree(wheels)


def _unpack(debs: Path, root: Path) -> None:
    for deb in debs.glob("*.deb"):
        _run(["dpkg", "-x", str(deb), str(root)], debs)


def _run(command: list[str], folder: Path) -> None:
    subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=600)


if __name__ == "__main__":
    try:
        prepare()
    except EmulationError as problem:
        sys.exit(str(problem))
    print(run_arm64("-c", "import platform; print(platform.machine())"), end="")
