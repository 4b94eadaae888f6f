"""What an audio file says of its own length, read past the decoder.

libsndfile corrects the length of a truncated WAV or Ogg file without a word, and guesses that of an
MP3 file that does not state it. These functions look for themselves, at regular files only.
"""

import struct
from pathlib import Path

_STREAMED_WAV = 0x7FFF_0000  # bytes; a writer to a pipe states this or more: the length is unknown

_OGG_PAGE_BYTES = 27 + 255 + 255 * 255
"""The longest page: its header, its table of segments, its segments."""
_OGG_END_OF_STREAM = 4

_MP3_LENGTH_TAGS = (b"Xing", b"Info", b"VBRI")
_MP3_HEAD_BYTES = 4096  # the tag stands in the first frame, of at most 1441 bytes


def wav_length_s(path: Path) -> float:
    """Return the seconds that a WAV header states, 0 for another format or an unknown length."""
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] != b"RIFF" or head[8:] != b"WAVE":
            return 0.0
        block_align, rate = 0, 0
        while len(head := file.read(8)) == 8:
            chunk, size = struct.unpack("<4sI", head)
            if chunk == b"data":
                known = block_align and rate and size < _STREAMED_WAV
                return size // block_align / rate if known else 0.0
            body = file.tell()
            if chunk == b"fmt ":
                rate, _, block_align = struct.unpack("<4xIIH", file.read(14).ljust(14, b"\0"))
            file.seek(body + size + size % 2)
    return 0.0


def ogg_is_complete(path: Path) -> bool:
    """Whether the last page of an Ogg file is whole and says that its stream ends (RFC 3533)."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - _OGG_PAGE_BYTES))
        tail = file.read()
    page = tail.rfind(b"OggS")
    if page < 0 or len(tail) < page + 27:
        return False
    segments = tail[page + 26]
    body = page + 27 + segments
    whole = len(tail) >= body + sum(tail[page + 27 : body])
    return whole and bool(tail[page + 5] & _OGG_END_OF_STREAM)


def mp3_states_length(path: Path) -> bool:
    """Whether an MP3 file has a Xing, Info or VBRI header, which gives its number of frames."""
    with path.open("rb") as file:
        head = file.read(10)
        if head[:3] == b"ID3":  # a tag before the audio; its size has 7 bits a byte
            size = 0
            for byte in head[6:]:
                size = size << 7 | byte
            file.seek(10 + size)
        else:
            file.seek(0)
        audio = file.read(_MP3_HEAD_BYTES)
    return any(tag in audio for tag in _MP3_LENGTH_TAGS)
