"""When each word of a transcript was said, by the model's own CTC head.

The most likely path of the transcript's word pieces through the frames (forced alignment) gives
each word the frames of its pieces. CTC is peaky: a word's first and last piece are found to within
a few frames of 40 ms, late rather than early, so latencies against these times compare models and
settings with each other. Exact times are those of synthetic speech.
"""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from asr.audio import read_blocks, resample_blocks
from asr.bundle import StreamingConfig
from asr.errors import AsrError, CorpusError
from asr.evaluation.corpora.manifest import Skipped, Utterance, read_manifest
from asr.features import Samples, compute_features
from asr.text import normalize
from asr.whole_files import write_whole
from training.checkpoint import TrainedModel
from training.forced_alignment import Span, forced_alignment, require_aligner

FRAME_S = 0.04

_WORD_START = "\u2581"


@dataclass(frozen=True, slots=True)
class AlignedWord:
    """A word and when it was said, in seconds; to an encoder frame."""

    word: str
    start_s: float
    end_s: float

    def to_dict(self) -> dict[str, Any]:
        """As a manifest has it."""
        return {"word": self.word, "start_s": self.start_s, "end_s": self.end_s}


@dataclass(frozen=True)
class AlignmentReport:
    """What `align_manifest` made."""

    rows: int
    skipped: tuple[Skipped, ...]


def align_manifest(
    manifest: Path,
    out: Path,
    model: TrainedModel,
    limit: int | None = None,
    watch: Callable[[int, int], None] = lambda done, total: None,
) -> AlignmentReport:
    """Write the usable rows of a manifest again with `words`; `audio` becomes relative to `out`.

    Raises ManifestError for a manifest that can't be read, AsrError without torchaudio.
    """
    rows = read_manifest(manifest, limit=limit)
    skipped = list(rows.skipped)
    lines = []
    for number, utterance in enumerate(rows.utterances):
        watch(number, len(rows.utterances))
        try:
            words = align(model, read_samples(utterance.audio), utterance.text)
        except CorpusError as error:
            skipped.append(Skipped(utterance.id, str(error)))
        else:
            lines.append(json.dumps(_row(utterance, out, words), ensure_ascii=False) + "\n")
    write_whole(out, lambda unfinished: unfinished.write_text("".join(lines), encoding="utf-8"))
    return AlignmentReport(len(lines), tuple(skipped))


@torch.no_grad()
def align(model: TrainedModel, samples: Samples, text: str) -> list[AlignedWord]:
    """Return the words of `text`, normalised, as said in `samples (n,)` at 16 kHz.

    Raises CorpusError for a text without words or with more pieces than the audio has frames,
    AsrError without torchaudio.
    """
    require_aligner()
    pieces = model.tokenizer.encode(normalize(text))
    if not pieces:
        raise CorpusError(f"no words in {text!r}")
    padded = np.concatenate([samples, np.zeros(StreamingConfig().tail_samples, np.float32)])
    features = torch.from_numpy(compute_features(padded))[None]
    encoded = model.model.encode(features, torch.tensor([features.size(1)]))
    log_probs = model.model.ctc(encoded.frames[0]).log_softmax(dim=-1)
    spans = forced_alignment(log_probs, pieces).spans
    table = model.tokenizer.pieces
    return words_of_spans(spans, [table[piece] for piece in pieces])


def words_of_spans(spans: Sequence[Span], texts: Sequence[str]) -> list[AlignedWord]:
    """Return the words that word pieces make, said in `spans`; U+2581 begins a word."""
    words: list[AlignedWord] = []
    for text, (_, start, end) in zip(texts, spans, strict=True):
        start_s, end_s = round(start * FRAME_S, 2), round(end * FRAME_S, 2)
        if text.startswith(_WORD_START) or not words:
            words.append(AlignedWord(text.removeprefix(_WORD_START), start_s, end_s))
        else:
            last = words[-1]
            words[-1] = AlignedWord(last.word + text, last.start_s, end_s)
    return [word for word in words if word.word]


def read_samples(path: Path) -> Samples:
    """Return a whole recording at 16 kHz. Raises CorpusError if it can't be read."""
    try:
        return np.concatenate(list(resample_blocks(read_blocks(path))))
    except AsrError as error:
        raise CorpusError(str(error)) from error


def _row(utterance: Utterance, out: Path, words: Sequence[AlignedWord]) -> dict[str, Any]:
    row = {
        "id": utterance.id,
        "audio": os.path.relpath(utterance.audio, out.parent),
        "duration": utterance.duration,
        "text": utterance.text,
        "speaker": utterance.speaker,
        "split": utterance.split,
        "words": [word.to_dict() for word in words],
    }
    return {key: value for key, value in row.items() if value is not None}
