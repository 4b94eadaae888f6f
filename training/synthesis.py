"""Synthetic speech with exact phone times, to get a transducer off its all-blank plateau.

From scratch, a transducer sees many hours of speech before it emits anything. An encoder that was
first taught frame-wise phone classification starts at once, and a synthesiser knows where each of
its phones ends. The synthesiser is flite (Black and Lenzo, "Flite: a small fast run-time synthesis
engine", 2001; https://github.com/festvox/flite): about 80 times faster than real time on one core.

`synthesize` makes a corpus (a directory with `manifest.jsonl` and FLAC files) and can be killed and
run again; `frame_labels` turns a row's phones into targets for the encoder's frames; `pronounce`
gives the phones of any transcript, for phone targets on real speech.

FLAC rather than Opus: encoding Opus takes longer than the synthesis itself (28 against 80 times
real time; FLAC 2000), and every epoch decodes the files again.
"""

import hashlib
import io
import json
import math
import os
import subprocess
import tempfile
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from asr.errors import CorpusError
from asr.features import SAMPLE_RATE
from asr.text import normalize
from training.sentences import sentences

SILENCE = "pau"

# The phones of flite's US English front end (CMU lexicon), silence first.
PHONES: tuple[str, ...] = (
    SILENCE,
    *("aa", "ae", "ah", "ao", "aw", "ax", "ay", "b", "ch", "d", "dh", "eh", "er", "ey", "f"),
    *("g", "hh", "ih", "iy", "jh", "k", "l", "m", "n", "ng", "ow", "oy", "p", "r", "s", "sh"),
    *("t", "th", "uh", "uw", "v", "w", "y", "z", "zh"),
)

VOICES = ("slt", "rms", "awb", "kal16")

Phones = list[tuple[str, float]]  # (phone, end time in s), in order


@dataclass(frozen=True)
class Utterance:
    """What is drawn for one utterance, before it is spoken."""

    index: int  # place in the corpus; (seed, index) draws all the rest
    sentence: str  # with its punctuation, which places the pauses
    split: str  # "train" or "dev"
    voice: str  # flite's name of the voice
    stretch: float  # phone durations are multiplied by this
    pitch: float  # the fundamental frequency is multiplied by this


@dataclass(frozen=True)
class SynthesisReport:
    """What `synthesize` made."""

    manifest: Path  # the manifest.jsonl
    utterances: int  # rows in the manifest
    hours: float  # hours of audio in them
    skipped: tuple[str, ...]  # "id: sentence: reason" for each sentence that flite failed on


# --- flite -------------------------------------------------------------------------------------

_FLITE_TIMEOUT_S = 60


class FliteRefusal(CorpusError):
    """flite is there, but failed on what it was asked."""


def _flite(*arguments: str) -> str:
    """flite's standard output; CorpusError if it is missing, FliteRefusal if it fails."""
    try:
        result = subprocess.run(
            ["flite", *arguments],
            check=False,
            capture_output=True,
            text=True,
            timeout=_FLITE_TIMEOUT_S,
        )
    except FileNotFoundError as error:
        raise CorpusError(
            "the speech synthesiser `flite` was not found; install it: `apt install flite` "
            "(Debian, Ubuntu), or from https://github.com/festvox/flite"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise FliteRefusal(f"flite took more than {_FLITE_TIMEOUT_S} s") from error
    if result.returncode != 0:
        raise FliteRefusal(f"flite failed with status {result.returncode}: {result.stderr.strip()}")
    return result.stdout


def _require_voices(voices: Sequence[str]) -> None:
    """Raise CorpusError unless flite is installed and has all of `voices`.

    Given a voice that it doesn't have, flite speaks with its default one and says nothing.
    """
    available = _flite("-lv").partition(":")[2].split()
    if unknown := [voice for voice in voices if voice not in available]:
        raise CorpusError(f"flite has no voice {unknown}; it has {', '.join(available)}")


def pronounce(text: str) -> list[str]:
    """The phones of `text` by flite's front end, with "pau" at both ends and where it pauses.

    About 10 ms a sentence, most of it starting the process: call it from threads for many, and keep
    the result. Raises CorpusError if flite is missing, FliteRefusal if it fails on this text.
    """
    # kal16 is the fastest voice; the front end is the same for all.
    return _flite("-voice", "kal16", "-ps", "-t", text, "-o", "none").split()


def _parse_durations(output: str) -> Phones:
    """`pau:0.164 hh:0.255 ...`, as printed by `flite -psdur`, to phones with end times in s."""
    phones: Phones = []
    for item in output.split():
        phone, _, end = item.partition(":")
        if phone not in PHONES:
            raise CorpusError(f"flite printed {item!r}; expected one of its phones, `:`, a time")
        phones.append((phone, float(end)))
    return phones


def _speak(utterance: Utterance) -> tuple[NDArray[np.int16], Phones]:
    """Samples (n,) at 16 kHz and the phones that cover them; CorpusError if flite fails."""
    with tempfile.TemporaryDirectory(prefix="synthesis-") as scratch:
        wav = os.path.join(scratch, "utterance.wav")
        output = _flite(
            *("-voice", utterance.voice, "-psdur"),
            *("--setf", f"duration_stretch={utterance.stretch}"),
            # Measured with flite 2.2: slt, awb and kal16 follow it, rms keeps its own pitch.
            *("--setf", f"f0_shift={utterance.pitch}"),
            *("-t", utterance.sentence, "-o", wav),
        )
        samples, sample_rate = soundfile.read(wav, dtype="int16")
    if sample_rate != SAMPLE_RATE or samples.ndim != 1:
        raise CorpusError(
            f"voice {utterance.voice} speaks {samples.ndim} channels at {sample_rate} Hz; "
            f"expected one at {SAMPLE_RATE} Hz"
        )
    phones = _parse_durations(output)
    return samples, _end_with_audio(phones, len(samples) / SAMPLE_RATE)


def _end_with_audio(phones: Phones, duration: float) -> Phones:
    """The phones with the last end set to `duration` (s); CorpusError if they don't fit it.

    kal16 joins halves of phones and so speaks only half of the last silence.
    """
    if len(phones) < 3 or not phones[-2][1] < duration < phones[-1][1] + 0.05:
        times = ", ".join(f"{end:.3f}" for _, end in phones[-2:])
        raise CorpusError(f"the last phones end at {times} s but the audio at {duration:.3f} s")
    return [*phones[:-1], (phones[-1][0], round(duration, 4))]


# --- corpus ------------------------------------------------------------------------------------

_DEV_SHARE = 0.02
_LOWEST, _HIGHEST = 0.8, 1.25  # of duration stretch and pitch


def _draw(seed: int, voices: Sequence[str], indexed_sentence: tuple[int, str]) -> Utterance:
    """How sentence `index` is spoken: a function of (seed, index) alone."""
    index, sentence = indexed_sentence
    generator = np.random.default_rng((seed, index))
    voice = voices[int(generator.integers(len(voices)))]
    stretch, pitch = np.exp(generator.uniform(math.log(_LOWEST), math.log(_HIGHEST), size=2))
    return Utterance(
        index=index,
        sentence=sentence,
        split="dev" if generator.random() < _DEV_SHARE else "train",
        voice=voice,
        stretch=round(float(stretch), 3),
        pitch=round(float(pitch), 3),
    )


def _make_row(utterance: Utterance, audio: str) -> tuple[dict[str, Any], bytes]:
    """Speak one utterance: its manifest row, which names the file `audio`, and that file's bytes.

    If flite fails on the sentence, the row has only `id`, `text` and the reason, as `skipped`.
    """
    row: dict[str, Any] = {"id": Path(audio).stem, "text": normalize(utterance.sentence)}
    try:
        samples, phones = _speak(utterance)
    except CorpusError as error:
        return row | {"skipped": str(error)}, b""
    encoded = io.BytesIO()
    soundfile.write(encoded, samples, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    row |= {
        "split": utterance.split,
        "speaker": utterance.voice,
        "audio": audio,
        "duration": round(len(samples) / SAMPLE_RATE, 4),
        "voice": utterance.voice,
        "phones": phones,
    }
    return row, encoded.getvalue()


def _shard_rows(
    out_dir: Path, shard: int, utterances: Sequence[Utterance], pool: ThreadPoolExecutor
) -> Generator[dict[str, Any], None, None]:
    """The rows of one shard in order: from its record if it is finished, else spoken now.

    The record is written after the last row, so a shard that its reader leaves early has none.
    """
    record = out_dir / "shards" / f"{shard:05d}.jsonl"
    if record.exists():
        yield from map(json.loads, record.read_text(encoding="utf-8").splitlines())
        return
    folder = f"audio/{shard:05d}"
    (out_dir / folder).mkdir(parents=True, exist_ok=True)
    names = [f"{folder}/synth-{utterance.index:07d}.flac" for utterance in utterances]
    rows = []
    # Closing the generator closes `made`, which cancels what has not been started.
    made = pool.map(_make_row, utterances, names)
    for name, (row, encoded) in zip(names, made, strict=True):
        if "skipped" not in row:
            _write(out_dir / name, encoded)
        rows.append(row)
        yield row
    _write_rows(record, rows)


def synthesize(
    out_dir: Path,
    text_path: Path,
    hours: float,
    seed: int,
    jobs: int,
    voices: Sequence[str] = VOICES,
    shard_size: int = 500,
) -> SynthesisReport:
    """Speak sentences of `text_path` until there are `hours` of audio in `out_dir`.

    Works in shards of `shard_size` utterances. A finished shard is recorded in `out_dir/shards` and
    not done again, so a run that was killed continues, and ends with the manifest that it would
    have had. A larger `hours` extends a corpus. `jobs` flite processes run at a time.

    Raises CorpusError if flite or a voice is missing, if `out_dir` holds a corpus drawn otherwise
    (seed, text, voices, shard size), or if the text has too few sentences.
    """
    if not (hours > 0 and jobs > 0 and shard_size > 0 and voices):
        raise CorpusError(
            f"got {hours} hours, {jobs} jobs, {shard_size} utterances a shard, voices {voices!r}; "
            "expected numbers above 0 and at least one voice"
        )
    _require_voices(voices)
    _claim(out_dir, text_path, seed, voices, shard_size)
    rows: list[dict[str, Any]] = []
    skipped: list[str] = []
    wanted_s, spoken_s = hours * 3600, 0.0
    drawn = enumerate(sentences(text_path, seed))
    with _progress() as progress, ThreadPoolExecutor(jobs) as pool:
        task = progress.add_task("synthesis", total=math.ceil(wanted_s))
        shard = 0
        while spoken_s < wanted_s:
            utterances = [_draw(seed, voices, item) for item in islice(drawn, shard_size)]
            if not utterances:
                raise CorpusError(
                    f"{text_path}: its sentences give {spoken_s / 3600:.2f} hours of speech; "
                    f"{hours} were asked for; give more text or fewer hours"
                )
            with closing(_shard_rows(out_dir, shard, utterances, pool)) as shard_rows:
                for row in shard_rows:
                    if "skipped" in row:
                        skipped.append(f"{row['id']}: {row['text']}: {row['skipped']}")
                        progress.console.print(f"skipped {skipped[-1]}", markup=False)
                        continue
                    rows.append(row)
                    spoken_s += row["duration"]
                    progress.update(task, completed=min(spoken_s, wanted_s))
                    if spoken_s >= wanted_s:
                        break
            shard += 1
    manifest = out_dir / "manifest.jsonl"
    _write_rows(manifest, rows)
    return SynthesisReport(manifest, len(rows), spoken_s / 3600, tuple(skipped))


def _claim(
    out_dir: Path, text_path: Path, seed: int, voices: Sequence[str], shard_size: int
) -> None:
    """Record how the corpus is drawn, or raise CorpusError if `out_dir` was drawn otherwise."""
    if not text_path.is_file():
        raise CorpusError(f"{text_path}: no such file; expected a text, plain or .xz")
    drawn = {
        "seed": seed,
        "text_sha256": hashlib.sha256(text_path.read_bytes()).hexdigest(),
        "voices": list(voices),
        "shard_size": shard_size,
    }
    claim = out_dir / "synthesis.json"
    if claim.exists():
        found = json.loads(claim.read_text(encoding="utf-8"))
        if changed := [key for key in drawn if found.get(key) != drawn[key]]:
            was = ", ".join(f"{key} {found.get(key)!r}, now {drawn[key]!r}" for key in changed)
            raise CorpusError(
                f"{out_dir} has a corpus drawn with {was}; give another directory, or the same "
                "settings to continue it"
            )
    (out_dir / "shards").mkdir(parents=True, exist_ok=True)
    _write(claim, (json.dumps(drawn, indent=2) + "\n").encode())


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f} of {task.total:.0f} s of speech"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )


def _write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    _write(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())


def _write(path: Path, content: bytes) -> None:
    """All or nothing: a killed run leaves no half file under its final name."""
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)


# --- labels ------------------------------------------------------------------------------------

_FIRST_CENTRE_S = 0.035  # encoder frame 0 sees feature frames 0..6, each of 10 ms


def frame_labels(
    phones: Sequence[tuple[str, float]],
    num_frames: int,
    frame_s: float = 0.04,
    inventory: Sequence[str] = PHONES,
) -> NDArray[np.int64]:
    """The phone at the centre of each encoder frame, as its index in `inventory`: (num_frames,).

    `phones`: (phone, end time in s), in order, as in a manifest row. Encoder frame t sees feature
    frames 4t..4t+6, whose centre is (4t + 3.5) * 10 ms. After the last phone there is silence.
    Raises CorpusError for a phone that is not in the inventory.
    """
    indices = {phone: index for index, phone in enumerate(inventory)}
    if unknown := sorted({phone for phone, _ in phones} - indices.keys()):
        raise CorpusError(f"phones {unknown} are not among the {len(inventory)} of the inventory")
    labels = np.array([indices[phone] for phone, _ in phones] + [indices[SILENCE]], dtype=np.int64)
    ends = np.array([end for _, end in phones], dtype=np.float64)
    # Rounded, so that a centre that is exactly a phone's end is so in binary fractions too.
    centres = np.round(np.arange(num_frames) * frame_s + _FIRST_CENTRE_S, 6)
    return labels[np.searchsorted(ends, centres, side="right")]
