"""Speech in lhotse's Shar format: a few large files in place of millions of small ones.

A shard is two files: `cuts.000000.jsonl.gz` has the ids, texts and durations, and
`recording.000000.tar` the recordings, as they were. Shards lie in a folder or behind a URL that
lhotse can open; `cuts.index.json` names them there, because what is behind a URL can't be listed.
(lhotse takes the first part of each name in the folder for a field: hence an index of "cuts".)

Nothing in them is unpickled, and nothing is unpacked under a name that stands in them.
"""

import functools
import gzip
import io
import json
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

import soundfile
from lhotse import CutSet, MonoCut, Recording
from lhotse.audio import AudioSource
from lhotse.serialization import deserialize_item, open_best
from lhotse.utils import SmartOpen, fastcopy, is_valid_url

from asr.errors import CorpusError
from asr.features import SAMPLE_RATE
from asr.text import normalize
from asr.whole_files import write_whole
from training.corpus import (
    MAX_DURATION_S,
    MIN_DURATION_S,
    Rejections,
    as_cut,
    numbered_lines,
    row_fault,
)

INDEX = "cuts.index.json"
_UNFINISHED = {"unfinished": True}

TIMEOUT_S = 60.0
"""How long a web server may say nothing."""

DAMAGED = "shard that is damaged"
"""Why an utterance is left out whose recording can't be reached in its shard."""

_DAMAGES = (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile)


@dataclass(frozen=True)
class Shard:
    """Paths or URLs of the two files of a shard."""

    cuts: str
    recording: str
    utterances: int | None = None  # None: there is no index that says it


class DamagedShard(CorpusError):
    """A shard whose content ends early or makes no sense; what came before is good."""


def write_shards(
    manifests: Iterable[Path], out: Path, utterances: int, rejections: Rejections
) -> list[Shard]:
    """Write what the manifests speak of as shards of so many utterances; return the shards.

    Recordings are stored as they are, byte by byte, texts as they are written. What can't be read
    goes to `rejections`. Every file appears whole, and until all are there the index says so:
    interrupted, start it again. Raises CorpusError if `out` has shards, or nothing could be read.
    """
    if (out / INDEX).exists() and "shards" in (out / INDEX).read_text(encoding="utf-8"):
        raise CorpusError(f"{out} holds shards already; give another folder, or remove it")
    out.mkdir(parents=True, exist_ok=True)
    _write_index(out, _UNFINISHED)
    cuts = _storable(manifests, rejections)
    shards: list[Shard] = []
    while part := list(islice(cuts, utterances)):
        number = len(shards)
        shard = Shard(f"cuts.{number:06}.jsonl.gz", f"recording.{number:06}.tar", len(part))
        write_whole(out / shard.recording, functools.partial(_write_tar, part=part))
        write_whole(out / shard.cuts, functools.partial(_write_cuts, part=part))
        shards.append(shard)
    if not shards:
        (out / INDEX).unlink()
        raise CorpusError("nothing to write: " + ("; ".join(rejections.lines()) or "no rows"))
    _write_index(out, {"shards": [vars(shard) for shard in shards]})
    return shards


def _write_index(folder: Path, index: dict[str, Any]) -> None:
    content = json.dumps(index, indent=1) + "\n"
    write_whole(folder / INDEX, lambda path: path.write_text(content, encoding="utf-8"))


def read_shards(
    root: Path,
    location: str,
    split: str,
    rejections: Rejections,
    min_duration: float = MIN_DURATION_S,
    max_duration: float = MAX_DURATION_S,
) -> CutSet:
    """Read the cuts of all shards at `location`: a URL, or a folder relative to `root`.

    As `training.corpus.read_cuts` does, but for the recordings: those stay where they are. The
    source of each is the tar file that it is in. Raises CorpusError also if a file can't be opened.
    """
    cuts = []
    for shard in _find(root, location):
        count = 0
        try:
            for count, line in enumerate(_lines(shard.cuts), 1):
                cut = _usable(line, shard, count, split, rejections, (min_duration, max_duration))
                if cut is not None:
                    cuts.append(cut)
        except DamagedShard as error:
            rejections.add(DAMAGED, f"all of {shard.cuts} after line {count} ({error})")
        else:
            if shard.utterances is not None and count < shard.utterances:
                lost = f"{shard.utterances - count} of {shard.cuts}, which its index speaks of"
                rejections.add(DAMAGED, lost)
    if not cuts:
        raise CorpusError(
            f"no usable utterance of split {split!r} in the shards of {location}: "
            + ("; ".join(rejections.lines()) or "the split is empty")
        )
    return CutSet.from_cuts(cuts)


def audio_bytes(cut: MonoCut) -> int | None:
    """Return the size of the recording of a cut in a shard; None if its shard doesn't say it."""
    size = (cut.custom or {}).get("audio_bytes")
    return size if isinstance(size, int) else None


def read_recordings(tar: str) -> Iterator[tuple[str, str, bytes]]:
    """Yield id, file name and content of each recording in the tar file of a shard.

    Raises CorpusError if it can't be opened or the connection breaks; DamagedShard, after all that
    could be read, if it is cut short or spoiled.
    """
    with _open(tar) as file:
        try:
            with tarfile.open(fileobj=file, mode="r|") as members:
                for member in members:
                    identifier, _, suffix = member.name.rpartition(".")
                    content = members.extractfile(member) if member.isfile() else None
                    if content is not None and suffix not in ("json", "nodata", "nometa"):
                        yield identifier, member.name, content.read()
        except _DAMAGES as error:
            raise DamagedShard(str(error)) from error
        except OSError as error:
            raise _broken(tar, error) from error


def _find(root: Path, location: str) -> list[Shard]:
    """Return what the index names; without one, all pairs in the folder."""
    base = location.rstrip("/") if is_valid_url(location) else str(root / location)
    if not is_valid_url(location) and not Path(base, INDEX).exists():
        return _pairs(Path(base))
    with _open(f"{base}/{INDEX}") as file:
        try:
            index = json.loads(file.read())
            if index == _UNFINISHED:
                raise CorpusError(
                    f"{base}: not all of its shards are there, for asr-train shard did not come "
                    "to its end; start it again with the same arguments"
                )
            return [
                Shard(f"{base}/{row['cuts']}", f"{base}/{row['recording']}", row["utterances"])
                for row in index["shards"]
            ]
        except (ValueError, KeyError, TypeError) as error:
            raise CorpusError(
                f"{base}/{INDEX}: not an index of shards ({type(error).__name__} {error}); "
                "asr-train shard writes one"
            ) from error
        except OSError as error:
            raise _broken(f"{base}/{INDEX}", error) from error


def _pairs(folder: Path) -> list[Shard]:
    shards = [
        Shard(
            str(cuts),
            str(folder / cuts.name.replace("cuts", "recording")).replace(".jsonl.gz", ".tar"),
        )
        for cuts in sorted(folder.glob("cuts.*.jsonl.gz"))
    ]
    if not shards:
        raise CorpusError(
            f"no shards in {folder}: neither {INDEX} nor cuts.*.jsonl.gz; give the folder that "
            "asr-train shard wrote, relative to --data, or a URL"
        )
    return shards


def _open(location: str) -> IO[bytes]:
    try:
        if location.startswith(("http://", "https://")):
            file = SmartOpen.open(location, "rb", transport_params={"timeout": TIMEOUT_S})
        else:
            file = open_best(location, "rb")
    except (OSError, ImportError, ValueError, NotImplementedError) as error:
        raise _broken(location, error.__context__ or error) from error
    opened: IO[bytes] = file
    return opened


def _broken(location: str, error: BaseException) -> CorpusError:
    advice = "check the path and start again; what was computed is kept"
    if is_valid_url(location):
        advice = (
            "check the address, the network and your credentials, and start again: what was "
            "computed is kept (s3:// needs pip install 'smart_open[s3]', gs:// 'smart_open[gcs]')"
        )
    return CorpusError(f"{location}: can't be read ({error}); {advice}")


def _lines(cuts: str) -> Iterator[bytes]:
    with _open(cuts) as file:
        try:
            yield from file
        except _DAMAGES as error:
            raise DamagedShard(str(error)) from error
        except OSError as error:
            raise _broken(cuts, error) from error


def _usable(
    line: bytes,
    shard: Shard,
    number: int,
    split: str,
    rejections: Rejections,
    durations: tuple[float, float],
) -> MonoCut | None:
    try:
        cut = deserialize_item(json.loads(line))
        if not isinstance(cut, MonoCut):
            raise TypeError(f"a {type(cut).__name__}; expected a MonoCut")
        if (cut.custom or {}).get("split", split) != split:
            return None
        (supervision,) = cut.supervisions
        text = normalize(supervision.text)
        reason = row_fault(supervision.text, text, None, cut.duration, *durations)
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
        name = f"{shard.cuts}:{number}"
        rejections.add(f"malformed row: {type(error).__name__} {error}", name)
        return None
    if reason:
        rejections.add(reason, cut.id)
        return None
    recording = _recording(cut.id, SAMPLE_RATE, cut.duration, shard.recording)
    return fastcopy(cut, recording=recording, supervisions=[fastcopy(supervision, text=text)])


def _recording(identifier: str, rate: int, duration: float, source: str) -> Recording:
    return Recording(
        id=identifier,
        sources=[AudioSource(type="shar", channels=[0], source=source)],
        sampling_rate=rate,
        num_samples=round(duration * rate),
        duration=duration,
    )


def _storable(manifests: Iterable[Path], rejections: Rejections) -> Iterator[tuple[MonoCut, Path]]:
    """Yield the rows of manifests as cuts, with the files of their recordings."""
    seen: set[str] = set()
    for manifest in manifests:
        for number, line in numbered_lines(manifest):
            try:
                row = json.loads(line)
                identifier, audio = str(row["id"]), manifest.parent / row["audio"]
                cut = as_cut(row, identifier, audio, float(row["duration"]), str(row["text"]))
                rate = soundfile.info(audio).samplerate
                custom: dict[str, Any] = {"audio_bytes": audio.stat().st_size}
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                name = f"{manifest.parent.name}/{manifest.name}:{number}"
                rejections.add(f"malformed row: {type(error).__name__} {error}", name)
            except (soundfile.SoundFileError, OSError) as error:
                rejections.add("audio that can't be opened", f"{identifier} ({error})")
            else:
                if identifier in seen:
                    rejections.add("id that another recording has", identifier)
                    continue
                seen.add(identifier)
                if "split" in row:
                    custom["split"] = row["split"]
                recording = _recording(identifier, rate, cut.duration, "")
                yield fastcopy(cut, recording=recording, custom=custom), audio


def _write_tar(path: Path, part: list[tuple[MonoCut, Path]]) -> None:
    with tarfile.open(path, "w") as tar:
        for cut, audio in part:
            for suffix, content in (
                (audio.suffix or ".audio", audio.read_bytes()),
                (".json", json.dumps(cut.recording.to_dict()).encode()),
            ):
                member = tarfile.TarInfo(cut.id + suffix)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


def _write_cuts(path: Path, part: list[tuple[MonoCut, Path]]) -> None:
    with path.open("wb") as raw, gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as file:
        for cut, _ in part:
            file.write((json.dumps(cut.to_dict(), ensure_ascii=False) + "\n").encode())
