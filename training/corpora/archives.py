"""Archives from the network: fetched in pieces, checked, unpacked all or not at all."""

import hashlib
import http.client
import shutil
import ssl
import tarfile
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from asr.errors import CorpusError
from asr.whole_files import put_in_place

ATTEMPTS = 5
"""Times in a row that a server may fail without sending a byte before it is given up."""

_NETWORK_ERRORS = (
    *(urllib.error.URLError, http.client.HTTPException, ssl.SSLError),
    *(ConnectionError, TimeoutError),
)
"""Not all of OSError: a full disk is no reason to try again."""

_BLOCK_BYTES = 1 << 20
_TIMEOUT_S = 60

Watch = Callable[[int, int | None], object]
"""Is told how many bytes are there, and of how many (None: the server doesn't say)."""


def fetch(url: str, path: Path, md5: str, console: Console, pause_s: float = 1.0) -> None:
    """Download `url` to `path`, unless a file is there already. It must have the MD5 sum `md5`.

    What has come is kept in `path`.part, and the next call goes on with it. pause_s: before the
    second attempt; it doubles with each that brings nothing.

    Raises CorpusError if the server can't be reached or refuses, and for another sum: then the part
    file is removed. OSError, such as for a full disk, leaves it.
    """
    if path.exists():
        return
    part = path.with_name(f"{path.name}.part")
    with _progress(console) as progress:
        task = progress.add_task(path.name, total=None)
        _fetch_rest(url, part, pause_s, lambda n, of: progress.update(task, completed=n, total=of))
    _check_sum(url, part, md5)
    put_in_place(part, path)


def unpack(archive: Path, member: str, target: Path, console: Console) -> None:
    """Unpack the folder `member` of a .tar.gz archive as the folder `target`.

    It appears when it is complete. Nothing can land outside of it (PEP 706).

    Raises CorpusError for a damaged archive, for one with a path that leads out of it, and for one
    without `member`.
    """
    if not hasattr(tarfile, "data_filter"):
        raise CorpusError(
            f"this Python can't unpack {archive} safely; use 3.11.4 or newer, or tar: "
            f"tar -xzf {archive}, and put {member} at {target}"
        )
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a killed run
    try:
        with _progress(console) as progress:
            description = f"unpacking {archive.name}"
            with (
                progress.open(archive, "rb", description=description) as file,
                tarfile.open(fileobj=file, mode="r|gz") as tar,
            ):
                tar.extractall(partial, filter="data")
        if not (partial / member).is_dir():
            raise CorpusError(f"{archive}: no folder {member} in it")
        (partial / member).rename(target)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise CorpusError(f"{archive}: damaged, or not to be trusted ({error})") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _fetch_rest(url: str, part: Path, pause_s: float, watch: Watch) -> None:
    """Append to `part` what it lacks, in as many attempts as bring something."""
    failures = 0
    while True:
        before = _size(part)
        try:
            return _append(url, part, watch)
        except urllib.error.HTTPError as error:
            raise CorpusError(f"{url}: the server says {error.code}, {error.reason}") from error
        except _NETWORK_ERRORS as error:
            failures = 0 if _size(part) > before else failures + 1
            if failures == ATTEMPTS:
                reason = getattr(error, "reason", None) or error
                kept = f"; what has come is in {part}: the same command goes on with it"
                raise CorpusError(
                    f"{url}: can't be fetched ({reason}){kept if _size(part) else ''}"
                ) from error
            time.sleep(pause_s * 2**failures)


def _append(url: str, part: Path, watch: Watch) -> None:
    """Make one request for what `part` lacks. Raises ConnectionError if it ends too early."""
    have = _size(part)
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and have:
            return  # there is no more
        raise
    with response:
        if url.startswith("https:") and not response.url.startswith("https:"):
            raise CorpusError(f"{url}: the server leads to {response.url}, without encryption")
        if response.status != http.client.PARTIAL_CONTENT:
            have = 0  # the server sends it from the start
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        with part.open("ab" if have else "wb") as file:
            while block := response.read(_BLOCK_BYTES):
                file.write(block)
                have += len(block)
                watch(have, total)
    if total is not None and have < total:
        raise ConnectionError(f"the connection ended after {have} of {total} bytes")


def _check_sum(url: str, part: Path, md5: str) -> None:
    with part.open("rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found != md5:
        part.unlink()
        raise CorpusError(
            f"{url}: what came has the MD5 sum {found}; expected {md5}. It was removed: try again"
        )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _progress(console: Console) -> Progress:
    return Progress(
        *(TextColumn("{task.description}"), BarColumn(20), DownloadColumn()),
        *(TransferSpeedColumn(), TimeRemainingColumn()),
        console=console,
    )
