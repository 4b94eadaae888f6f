"""What is known of a model on this machine: `~/.cache/earshot/profile-KEY.json`.

The directory is under `$XDG_CACHE_HOME` where that is set. A profile holds for one bundle, variant,
runtime and machine; it has a section for each thing that was found out (`self_test`,
`calibration`), which whoever found it out reads and writes. A damaged profile is none.
"""

import json
import os
import platform
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from asr.bundle import ONNXRUNTIME, Bundle
from asr.schema import SchemaError, check_keys
from asr.sha256 import sha256
from asr.whole_files import write_whole

PROFILE_VERSION = 4


@dataclass(frozen=True, slots=True)
class ProfileKey:
    """What a profile holds for."""

    bundle: str  # sha256 of its bundle.json, which has those of all its files
    precision: str
    engine: str  # as the bundle names it, such as "onnx"
    threads: int
    runtime: str  # that runs it, with its version
    cpu: str
    cores: int  # that this process may use
    search: str  # of `asr.bundle.SEARCHES`


def profile_key(
    bundle: Bundle,
    precision: str | None,
    threads: int,
    engine: str | None = None,
    search: str | None = None,
) -> ProfileKey:
    """Return what identifies the profile of a variant of a bundle on this machine; None is what
    runs where nothing is named."""
    graphs = bundle.graphs(precision, engine)
    return ProfileKey(
        bundle=bundle.sha256,
        precision=graphs.precision,
        engine=graphs.engine,
        threads=threads,
        runtime=_runtime(graphs.engine),
        cpu=cpu_name(),
        cores=usable_cpus(),
        search=bundle.search(search),
    )


def read_section(key: ProfileKey, name: str) -> Any:
    """Return a section of the profile for `key`, as JSON has it; None if there is none."""
    return _read(key).get(name)


def write_section(key: ProfileKey, name: str, content: Any) -> None:
    """Keep a section of the profile for `key`; the others stay. Raises OSError if that can't be."""
    path = profile_path(key)
    sections = _read(key) | {name: content}
    text = json.dumps({"version": PROFILE_VERSION, "key": asdict(key), **sections}, indent=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda unfinished: unfinished.write_text(text, encoding="utf-8"))


def profile_path(key: ProfileKey) -> Path:
    """Where the profile for `key` is kept."""
    digest = sha256(json.dumps(asdict(key), sort_keys=True).encode()).hexdigest()
    return cache_folder() / f"profile-{digest[:16]}.json"


def cache_folder() -> Path:
    """Where what is known of this machine is kept."""
    try:
        home = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    except RuntimeError:  # a user without a home, as in some containers
        home = tempfile.gettempdir()
    return Path(home) / "earshot"


def usable_cpus() -> int:
    """How many logical CPUs this process may use; a quota of a control group doesn't show."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _read(key: ProfileKey) -> dict[str, Any]:
    try:
        content = json.loads(profile_path(key).read_text(encoding="utf-8"))
        sections = set(content) - {"version", "key"}
        check_keys(content, ["version", "key", *sections], where="")
        if content["version"] != PROFILE_VERSION or content["key"] != asdict(key):
            return {}
    except (OSError, TypeError, ValueError, RecursionError, SchemaError):
        return {}
    return {name: content[name] for name in sections}


def _runtime(engine: str) -> str:
    if engine not in ONNXRUNTIME:
        from importlib.metadata import PackageNotFoundError, version

        try:
            return f"{engine} {version(engine)}"
        except PackageNotFoundError:  # its graphs can't run here, so there is nothing to know
            return engine
    import onnxruntime  # who asks has it loaded; importlib.metadata would cost more

    return f"onnxruntime {onnxruntime.__version__}"


def cpu_name() -> str:
    """Return the processor's name as Linux tells it, else what Python knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    # x86 has a name; Arm has numbers of the maker and the design.
    names = ("model name", "CPU implementer", "CPU part")
    found = {line.partition(":")[0].strip(): line.partition(":")[2].strip() for line in lines}
    known = [found[name] for name in names if name in found]
    return " ".join([platform.machine(), *known])
