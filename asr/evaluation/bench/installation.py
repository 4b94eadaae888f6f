"""What a plain install of the runtime brings along: distributions and megabytes."""

import re
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import asr
from asr.errors import AsrError

DISTRIBUTION = "earshot-asr"

_NAME = re.compile(r"^[A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class Installation:
    """The plain runtime, without extras."""

    dependencies: tuple[str, ...]  # distributions that it needs, and those that they need
    megabytes: float  # of all their files and of the runtime itself


def describe_installation(name: str = DISTRIBUTION) -> Installation:
    """Return what is installed here of `pip install NAME` without extras.

    A distribution that is required but absent (another system's) counts for nothing.

    Raises AsrError where the package itself is not installed, such as in a copied source tree.
    """
    try:
        own = metadata.distribution(name)
    except metadata.PackageNotFoundError as error:
        raise AsrError(f"{name} is not installed here, only copied; pip install it") from error
    found = {_normalized(name): own}
    waiting = [own]
    while waiting:
        for requirement in waiting.pop().requires or []:
            needed = _needed(requirement)
            if needed is None or needed in found:
                continue
            try:
                found[needed] = metadata.distribution(needed)
            except metadata.PackageNotFoundError:
                continue
            waiting.append(found[needed])
    megabytes = sum(_megabytes(distribution) for distribution in found.values())
    if _is_editable(own):
        megabytes += folder_mb(Path(asr.__file__).parent)
    return Installation(tuple(sorted(found.keys() - {_normalized(name)})), megabytes)


def folder_mb(folder: Path) -> float:
    """Return the size of the files below a folder in MB, without compiled bytecode."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return sum(path.stat().st_size for path in files) / 1e6


def _needed(requirement: str) -> str | None:
    """Return the name that a requirement asks for on any system, None if it is of an extra."""
    asked, _, condition = requirement.partition(";")
    if "extra" in condition:
        return None
    match = _NAME.match(asked.strip())
    return _normalized(match.group()) if match else None


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()  # PEP 503


def _is_editable(distribution: metadata.Distribution) -> bool:
    return not any(str(file) == "asr/__init__.py" for file in distribution.files or [])


def _megabytes(distribution: metadata.Distribution) -> float:
    paths = [Path(str(file.locate())) for file in distribution.files or []]
    return sum(path.stat().st_size for path in paths if path.is_file()) / 1e6
