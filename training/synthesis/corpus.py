"""A corpus of synthetic speech: a folder with `manifest.jsonl` and recordings, made in shards.

It can be stopped or killed and made again by the same call, which goes on where it was; what an
utterance says and how is a function of the settings and its place alone.

A row has `phones`, [phone, end in s], where the synthesiser's phones are those of
`training.synthesis.phones`, and `words`, with `start_s` and `end_s`, where all times are known.
"""

import hashlib
import math
import tempfile
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from asr.errors import CorpusError
from asr.features import SAMPLE_RATE
from training.corpus_folder import FORMATS, CorpusFolder, Row, encode
from training.synthesis.script import count_unspeakable, script
from training.synthesis.sentence import Sentence, as_spoken
from training.synthesis.speech import Speech, SynthesizerRefusal, Utterance
from training.synthesis.voices import FLITE, SYNTHESIZERS, VoiceGroup, describe, require

_DEV_SHARE = 0.02
_LOWEST, _HIGHEST = 0.8, 1.25  # of duration stretch and pitch

_PROBE = as_spoken("The old captain saw many boats, and went home.")


@dataclass(frozen=True)
class SynthesisSettings:
    """All that decides what a corpus holds, but for its length."""

    text: Path  # a text, or a manifest (.jsonl) whose transcripts are spoken
    seed: int = 1
    groups: tuple[VoiceGroup, ...] = (FLITE,)  # who speaks
    choice: str = "random"  # of sentences, or coverage: see `script`
    spoken_forms: float = 0.0  # the share of utterances that are digits, dates, spelled words ...
    format: str = "flac"  # or opus
    shard_size: int = 500  # utterances that are recorded as made together

    def __post_init__(self) -> None:
        if not (self.shard_size > 0 and 0 <= self.spoken_forms < 1 and self.groups):
            raise CorpusError(
                f"got {self.shard_size} utterances a shard, {self.spoken_forms} of spoken forms, "
                f"voices {self.groups!r}; expected a number above 0, a share from 0 to below 1, "
                "and at least one voice"
            )
        if self.choice not in ("random", "coverage") or self.format not in FORMATS:
            raise CorpusError(
                f"got choice {self.choice!r} and format {self.format!r}; expected random or "
                f"coverage, and {' or '.join(FORMATS)}"
            )

    def claim(self) -> Row:
        """What the corpus remembers, to be continued with the same settings only."""
        return {
            "seed": self.seed,
            "text_sha256": hashlib.sha256(self.text.read_bytes()).hexdigest(),
            "voices": describe(self.groups),
            "shard_size": self.shard_size,
            "choice": self.choice,
            "spoken_forms": self.spoken_forms,
            "format": self.format,
        }


# Of a corpus that was begun before there were others than flite's.
_UNCLAIMED = {"choice": "random", "spoken_forms": 0.0, "format": "flac", "ids": "synth"}


@dataclass(frozen=True)
class SynthesisReport:
    """What `synthesize` made."""

    manifest: Path  # the manifest.jsonl; not there, or not renewed, if it was stopped
    utterances: int  # rows in the manifest
    hours: float  # hours of audio in them
    skipped: tuple[str, ...]  # "id: sentence: reason" for each sentence that could not be said
    stopped: bool = False  # before the hours were reached


def synthesize(
    out_dir: Path,
    settings: SynthesisSettings,
    hours: float,
    jobs: int,
    stopped: Callable[[], bool] = lambda: False,
) -> SynthesisReport:
    """Speak sentences until there are `hours` of audio in `out_dir`.

    A finished shard is recorded in `out_dir/shards` and not done again, so a run that was stopped
    (as soon as `stopped()`, or killed, or by a full disk) continues, and ends with the manifest
    that it would have had. A larger `hours` extends a corpus. `jobs` synthesisers run at a time.
    While another run adds to `out_dir` this one waits.

    Raises CorpusError if a synthesiser or a voice is missing, if `out_dir` holds a corpus drawn
    otherwise, if the text has too few sentences, or if the disk is full.
    """
    if not (hours > 0 and jobs > 0):
        raise CorpusError(f"got {hours} hours, {jobs} jobs; expected numbers above 0")
    require(settings.groups)
    if not settings.text.is_file():
        raise CorpusError(
            f"{settings.text}: no such file; expected a text, plain or .xz, or a manifest"
        )
    folder = CorpusFolder(out_dir, "synthesis")
    with folder.exclusively():
        ids = folder.claim(settings.claim(), "synth", _UNCLAIMED)
        return _make(folder, settings, ids, hours, jobs, stopped)


def _make(
    folder: CorpusFolder,
    settings: SynthesisSettings,
    ids: str,
    hours: float,
    jobs: int,
    stopped: Callable[[], bool],
) -> SynthesisReport:
    rows: list[Row] = []
    skipped: list[str] = []
    wanted_s, spoken_s = hours * 3600, 0.0
    said = enumerate(script(settings.text, settings.seed, settings.choice, settings.spoken_forms))
    with _progress() as progress, ThreadPoolExecutor(jobs) as pool:
        if unspeakable := count_unspeakable(settings.text):
            progress.console.print(
                f"{settings.text}: {unspeakable} paragraphs have letters that are not English; "
                "what has them is not spoken",
                markup=False,
                soft_wrap=True,
            )
        task = progress.add_task("synthesis", total=math.ceil(wanted_s))
        shard = 0
        while spoken_s < wanted_s:
            drawn = [
                _draw(settings.seed, settings.groups, index, sentence)
                for index, sentence in islice(said, settings.shard_size)
            ]
            if not drawn:
                raise CorpusError(
                    f"{settings.text}: its sentences give {spoken_s / 3600:.3g} hours of speech; "
                    f"{hours} were asked for; give more text or fewer hours"
                )
            names = _Names(ids, f"audio/{shard:05d}", settings.format)
            with closing(_shard_rows(folder, shard, drawn, names, pool)) as shard_rows:
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
                    if stopped():
                        made = len(rows), spoken_s / 3600, tuple(skipped)
                        return SynthesisReport(folder.manifest, *made, stopped=True)
            shard += 1
    folder.write_manifest(rows)
    return SynthesisReport(folder.manifest, len(rows), spoken_s / 3600, tuple(skipped))


def _draw(seed: int, groups: Sequence[VoiceGroup], index: int, sentence: Sentence) -> Utterance:
    """How sentence `index` is spoken: a function of (seed, index) and the groups alone."""
    generator = np.random.default_rng((seed, index))
    group = groups[0]
    if len(groups) > 1:  # a group that is alone is not drawn, as when there was no other
        shares = np.array([group.share for group in groups])
        group = groups[int(generator.choice(len(groups), p=shares / shares.sum()))]
    voice = group.voices[int(generator.integers(len(group.voices)))]
    stretch, pitch = np.exp(generator.uniform(math.log(_LOWEST), math.log(_HIGHEST), size=2))
    return Utterance(
        index=index,
        sentence=sentence,
        split="dev" if generator.random() < _DEV_SHARE else "train",
        synthesizer=group.synthesizer,
        voice=voice,
        stretch=round(float(stretch), 3),
        pitch=round(float(pitch), 3),
    )


@dataclass(frozen=True)
class _Names:
    """How the utterances of a shard and their files are called."""

    ids: str
    folder: str
    format: str

    def identifier(self, utterance: Utterance) -> str:
        return f"{self.ids}-{utterance.index:07d}"

    def audio(self, utterance: Utterance) -> str:
        return f"{self.folder}/{self.identifier(utterance)}.{self.format}"


def _shard_rows(
    folder: CorpusFolder,
    shard: int,
    utterances: Sequence[Utterance],
    names: _Names,
    pool: ThreadPoolExecutor,
) -> Generator[Row, None, None]:
    """The rows of one shard in order: from its record if it is finished, else spoken now.

    The record is written after the last row, so a shard that its reader leaves early has none.
    """
    finished = folder.finished(f"{shard:05d}")
    if finished is not None:
        yield from finished
        return
    made: dict[int, Future[dict[int, tuple[Row, bytes]]]] = {}  # the batch of each utterance
    for batch in _batches(utterances):
        future = pool.submit(_make_rows, batch, names)
        made |= {utterance.index: future for utterance in batch}
    rows = []
    try:
        for utterance in utterances:
            row, encoded = made.pop(utterance.index).result()[utterance.index]
            if "skipped" not in row:
                folder.write_audio(row["audio"], encoded)
            rows.append(row)
            yield row
    finally:
        for future in made.values():
            future.cancel()
    folder.finish(f"{shard:05d}", rows)


def _batches(utterances: Sequence[Utterance]) -> list[list[Utterance]]:
    """Utterances that one process speaks, in the order in which their first ones are needed."""
    batches: list[list[Utterance]] = []
    open_batches: dict[str, list[Utterance]] = {}  # by synthesiser
    for utterance in utterances:
        name = utterance.synthesizer
        batch = open_batches.get(name)
        if batch is None or len(batch) == SYNTHESIZERS[name].batch:
            batch = open_batches[name] = []
            batches.append(batch)
        batch.append(utterance)
    return batches


def _make_rows(utterances: Sequence[Utterance], names: _Names) -> dict[int, tuple[Row, bytes]]:
    """Speak a batch: by index the manifest row and the bytes of the file that it names.

    If an utterance can't be said, its row has only `id`, `text` and the reason, as `skipped`.
    """
    synthesizer = SYNTHESIZERS[utterances[0].synthesizer]
    made = {}
    for utterance, speech in zip(utterances, synthesizer.speak(utterances), strict=True):
        row: Row = {"id": names.identifier(utterance), "text": utterance.sentence.text}
        if isinstance(speech, SynthesizerRefusal):
            _require_speech(utterance, speech)
            made[utterance.index] = row | {"skipped": str(speech)}, b""
        else:
            row |= _describe(utterance, speech, names.audio(utterance))
            made[utterance.index] = row, encode(speech.samples, names.format)
    return made


def _require_speech(utterance: Utterance, refusal: SynthesizerRefusal) -> None:
    """Raise CorpusError if it is the synthesiser that fails, and not only on this sentence."""
    probe = Utterance(**{**vars(utterance), "sentence": _PROBE})
    if isinstance(SYNTHESIZERS[utterance.synthesizer].speak([probe])[0], SynthesizerRefusal):
        raise CorpusError(
            f"{utterance.synthesizer} says nothing any more, with the voice {utterance.voice}: "
            f"{refusal}; it needs some room for temporary files in {tempfile.gettempdir()}"
        ) from refusal


def _describe(utterance: Utterance, speech: Speech, audio: str) -> Row:
    row: Row = {
        "split": utterance.split,
        "speaker": utterance.voice,
        "audio": audio,
        "duration": round(len(speech.samples) / SAMPLE_RATE, 4),
        "voice": utterance.voice,
    }
    if speech.phones is not None:
        row["phones"] = speech.phones
    if speech.words is not None:
        row["words"] = [word.to_dict() for word in speech.words]
    return row


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f} of {task.total:.0f} s of speech"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
