"""Folders laid out as LibriSpeech's: SPEAKER/CHAPTER/SPEAKER-CHAPTER.trans.txt and .flac files.

LibriTTS and Multilingual LibriSpeech have other layouts. https://www.openslr.org/12
"""

from collections.abc import Iterator
from pathlib import Path

from asr.errors import ManifestError
from asr.evaluation.corpora.manifest import Row, Utterance, read_lines

_TRANSCRIPTS = "*.trans.txt"


def read_librispeech_rows(folder: Path) -> Iterator[Row]:
    """Yield what the transcripts below `folder` have, in the order of their names.

    The split of an utterance is the folder of its speakers, such as `dev-clean`; `chapter` is a
    field. How long it is, LibriSpeech doesn't say.

    Raises ManifestError if there is no transcript, or one can't be read.
    """
    # Resolved: the name of "." is that of the folder.
    transcripts = sorted(folder.resolve().rglob(_TRANSCRIPTS))
    if not transcripts:
        raise ManifestError(
            f"{folder}: a folder without {_TRANSCRIPTS}; expected one of LibriSpeech, or the name "
            "of a manifest"
        )
    for transcript in transcripts:
        chapter, speaker = transcript.parent, transcript.parent.parent
        for where, line, fault in read_lines(transcript):
            name, _, text = line.strip().partition(" ")
            utterance = Utterance(
                id=name,
                audio=chapter / f"{name}.flac",
                text=text,
                duration=None,
                speaker=speaker.name,
                split=speaker.parent.name,
                fields={"chapter": chapter.name},
            )
            yield Row(where, utterance, fault)
