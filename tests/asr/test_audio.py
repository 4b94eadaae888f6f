"""Every file that a user may give is either read to its end or refused by name, losing nothing."""

import io
import os
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.audio import StreamingResampler, read_blocks, read_pcm_blocks
from asr.errors import AudioError
from tests.asr.signals import noise

Write = Callable[..., Path]


def read_all(path: Path) -> tuple[np.ndarray, int]:
    """Return all samples and the rate."""
    blocks = list(read_blocks(path))
    return np.concatenate([samples for samples, _ in blocks]), blocks[0][1]


def read_until_error(path: Path) -> tuple[int, str]:
    """Return how many samples came before the error, and its message."""
    count = 0
    with pytest.raises(AudioError) as caught:  # noqa: PT012 - the samples before it count
        for samples, _ in read_blocks(path):
            count += len(samples)
    return count, str(caught.value)


def cut(path: Path, fraction: float) -> Path:
    """Truncate a file to a fraction of its bytes."""
    content = path.read_bytes()
    path.write_bytes(content[: int(fraction * len(content))])
    return path


@pytest.mark.parametrize(
    ("name", "options", "tolerance"),
    [
        ("a.wav", {}, 1e-4),
        ("a.wav", {"subtype": "FLOAT"}, 0),
        ("a.wav", {"subtype": "PCM_24"}, 1e-6),
        ("a.flac", {}, 1e-4),
    ],
)
def test_lossless_formats(write_speech: Write, name: str, options: dict, tolerance: float) -> None:
    samples, rate = read_all(write_speech(name, 2.0, **options))
    assert (rate, samples.dtype) == (16_000, np.float32)
    np.testing.assert_allclose(samples, noise(2.0), atol=tolerance)


@pytest.mark.parametrize(
    ("name", "options"),
    [("a.ogg", {}), ("a.opus", {"format": "OGG", "subtype": "OPUS"}), ("a.mp3", {})],
)
def test_lossy_formats(write_speech: Write, name: str, options: dict) -> None:
    samples, rate = read_all(write_speech(name, 2.0, **options))
    assert (rate, samples.dtype, len(samples)) == (16_000, np.float32, 32_000)
    assert np.corrcoef(samples, noise(2.0))[0, 1] > 0.8


@pytest.mark.parametrize("rate", [8_000, 11_025, 44_100, 96_000])
def test_rates_are_passed_on(write_speech: Write, rate: int) -> None:
    samples, found = read_all(write_speech("a.wav", 1.0, rate))
    assert (len(samples), found) == (rate, rate)


@pytest.mark.parametrize("channels", [2, 6, 64])
def test_channels_are_averaged(tmp_path: Path, channels: int) -> None:
    frames = np.random.default_rng(0).uniform(-0.5, 0.5, (9_000, channels)).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", frames, 16_000, subtype="FLOAT")
    samples, _ = read_all(tmp_path / "a.wav")
    np.testing.assert_allclose(samples, frames.mean(axis=1), atol=1e-6)


@pytest.mark.parametrize("channels", [1, 500])
def test_a_file_costs_the_memory_of_a_block(tmp_path: Path, channels: int) -> None:
    path = tmp_path / "long.wav"
    frames = 64_000_000 // channels  # 128 MB on disk, sparse: not a byte is written
    soundfile.write(path, np.zeros((1, channels)), 48_000)
    head = bytearray(path.read_bytes()[:44])
    head[40:44] = (2 * frames * channels).to_bytes(4, "little")
    with path.open("wb") as file:
        file.write(head)
        file.truncate(44 + 2 * frames * channels)
    tracemalloc.start()
    count = sum(len(samples) for samples, _ in read_blocks(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == frames
    assert peak < 12e6


def test_missing_directory_and_empty(tmp_path: Path) -> None:
    assert "no such file" in read_until_error(tmp_path / "nowhere.wav")[1]
    assert "a directory; expected an audio file" in read_until_error(tmp_path)[1]
    (tmp_path / "empty.wav").touch()
    assert "an empty file" in read_until_error(tmp_path / "empty.wav")[1]


def test_not_allowed(write_speech: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_speech("a.wav")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # chmod does not stop root, who runs many tests
    assert read_until_error(path)[1] == f"{path}: can't be opened: Permission denied"


def test_a_name_that_the_system_refuses(tmp_path: Path) -> None:
    """As for a folder without access, Path.is_dir() raises then instead of answering."""
    path = tmp_path / ("x" * 300)
    assert read_until_error(path)[1] == f"{path}: can't be opened: File name too long"


def test_a_name_need_not_be_utf_8(write_speech: Write) -> None:
    path = write_speech("a.wav", 1.0)
    odd = path.rename(os.fsdecode(os.fsencode(path.parent) + b"/\xff.wav"))
    assert len(read_all(odd)[0]) == 16_000


def test_a_pipe_is_opened_once(write_speech: Write) -> None:
    """If it were opened and closed before, its writer would fail and its reader wait forever."""
    content = write_speech("a.wav", 1.0).read_bytes()
    pipe = write_speech("b.wav").with_name("pipe")
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(content,), daemon=True)
    writer.start()
    assert len(read_all(pipe)[0]) == 16_000
    writer.join()


def test_raw_pcm_is_told_where_to_go(tmp_path: Path) -> None:
    (tmp_path / "a.raw").write_bytes(bytes(3200))
    assert "asr transcribe --rate HZ - < " in read_until_error(tmp_path / "a.raw")[1]


def test_not_audio(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_text("this is a text file\n" * 100)
    count, message = read_until_error(tmp_path / "a.wav")
    assert count == 0
    assert "a.wav: can't be read as audio" in message
    assert "wav, flac, ogg/opus or mp3" in message


def test_no_samples(write_speech: Write) -> None:
    assert "no samples" in read_until_error(write_speech("a.wav", 0.0))[1]


def test_a_header_that_was_never_completed_is_not_said_to_be_an_empty_recording(
    write_speech: Write,
) -> None:
    """A recorder that is killed leaves a length of zero before the samples."""
    path = write_speech("a.wav", 1.0)
    content = bytearray(path.read_bytes())
    content[40:44] = bytes(4)
    path.write_bytes(content)
    assert "if its recorder was killed, repair it" in read_until_error(path)[1]


def test_truncated_wav_is_read_to_its_end_and_reported(write_speech: Write) -> None:
    path = cut(write_speech("a.wav", 3.0), 0.5)
    count, message = read_until_error(path)
    assert count == (path.stat().st_size - 44) // 2
    assert "truncated: its header states 3.00 s, 1.50 s could be read" in message


def test_truncated_to_its_header(write_speech: Write) -> None:
    count, message = read_until_error(cut(write_speech("a.wav", 3.0), 44 / 96_044))
    assert count == 0
    assert "states 3.00 s, 0.00 s could be read" in message


def test_truncated_flac_and_mp3_keep_what_decodes(write_speech: Write) -> None:
    count, message = read_until_error(cut(write_speech("a.flac", 3.0), 0.5))
    assert count > 20_000, "the frames of the block that failed were thrown away"
    assert "damaged after 1." in message
    count, message = read_until_error(cut(write_speech("a.mp3", 3.0), 0.5))
    assert count > 18_000
    assert "truncated" in message


@pytest.mark.parametrize(
    ("name", "options"), [("a.ogg", {}), ("a.opus", {"format": "OGG", "subtype": "OPUS"})]
)
@pytest.mark.parametrize("fraction", [0.3, 0.6, 0.9, 0.9999])
def test_truncated_ogg_keeps_what_decodes(
    write_speech: Write, name: str, options: dict, fraction: float
) -> None:
    """Ogg states no length: only its last page tells whether that is all."""
    count, message = read_until_error(cut(write_speech(name, 6.0, **options), fraction))
    assert count > 0.3 * fraction * 96_000, "whole pages were thrown away"
    assert "truncated: it ends without an end-of-stream page" in message


def test_ogg_cut_between_two_pages(write_speech: Write) -> None:
    path = write_speech("a.ogg", 6.0)
    content = path.read_bytes()
    path.write_bytes(content[: content.rfind(b"OggS")])
    assert "end-of-stream page" in read_until_error(path)[1]


def test_flac_from_a_pipe_has_no_known_length(write_speech: Write) -> None:
    path = write_speech("a.flac", 3.0)
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0  # the 36 bits of STREAMINFO that count the samples
    content[22:26] = bytes(4)
    path.write_bytes(content)
    assert len(read_all(path)[0]) == 48_000
    count, message = read_until_error(cut(path, 0.5))
    assert count > 20_000
    assert "damaged after 1." in message


@pytest.mark.parametrize("tag", [b"", b"ID3\4\0\0\0\0\x02\0" + bytes(256)])
def test_mp3_that_states_no_length_is_not_said_to_be_truncated(
    tmp_path: Path, write_speech: Write, tag: bytes
) -> None:
    """Silence, then speech: its first frames are the shortest, so a guess by them is too long."""
    path = tmp_path / "a.mp3"
    samples = np.concatenate([np.zeros(48_000), noise(3.0)])
    soundfile.write(path, samples, 16_000, bitrate_mode="VARIABLE", compression_level=0.1)
    content = path.read_bytes()
    assert len(read_all(path)[0]) == len(samples)
    path.write_bytes(tag + content[: len(content) // 2])
    assert "truncated: its header states 6.00 s" in read_until_error(path)[1]
    second_frame = content.index(content[:2], 4)  # the first holds the Xing header only
    path.write_bytes(tag + content[second_frame:])
    assert soundfile.info(path).frames > 2 * len(samples), "the guess is not wrong enough to tell"
    assert len(read_all(path)[0]) > 0.9 * len(samples)


@pytest.mark.parametrize("stated", [0xFFFF_FFFF, 0x7FFF_FFDB])
def test_a_wav_from_a_pipe_has_no_known_length(write_speech: Write, stated: int) -> None:
    path = write_speech("a.wav", 1.0)
    content = bytearray(path.read_bytes())
    content[40:44] = stated.to_bytes(4, "little")
    path.write_bytes(content)
    assert len(read_all(path)[0]) == 16_000


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite_is_refused_after_what_was_good(tmp_path: Path, value: float) -> None:
    samples = noise(2.0)
    samples[20_000] = value
    soundfile.write(tmp_path / "a.wav", samples, 16_000, subtype="FLOAT")
    count, message = read_until_error(tmp_path / "a.wav")
    assert count == 20_000
    assert "the sample at 1.250 s is NaN or Inf" in message


def test_unscaled_samples_are_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(1.0) * 32768, 16_000, subtype="FLOAT")
    assert "a.wav: samples reach " in read_until_error(tmp_path / "a.wav")[1]


class Pipe(io.RawIOBase):
    """Gives what arrives, as a pipe does: a few bytes at a time, however many are asked for."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces

    def read1(self, _: int) -> bytes:
        return self.pieces.pop(0) if self.pieces else b""


@given(st.lists(st.integers(0, 4000), max_size=8))
def test_pcm_in_any_pieces(cuts: list[int]) -> None:
    pcm = np.random.default_rng(0).integers(-(2**15), 2**15, 2000).astype("<i2")
    ends = [*sorted(cuts), 4000]
    pieces = [pcm.tobytes()[a:b] for a, b in zip([0, *ends], ends, strict=False) if b > a]
    blocks = [samples for samples, _ in read_pcm_blocks(Pipe(pieces), 8_000)]
    np.testing.assert_array_equal(np.concatenate(blocks), pcm.astype(np.float32) / 32768)


def test_pcm_is_passed_on_as_it_arrives() -> None:
    blocks = read_pcm_blocks(Pipe([b"\0\0" * 10, b"\0\0" * 7]))
    assert [len(samples) for samples, _ in blocks] == [10, 7]


def test_bad_pcm() -> None:
    with pytest.raises(AudioError, match="no audio in the raw PCM"):
        list(read_pcm_blocks(io.BytesIO(b"")))
    with pytest.raises(AudioError, match="half a sample"):
        list(read_pcm_blocks(io.BytesIO(b"\0\0\0")))
    with pytest.raises(AudioError, match="stdin holds a WAV file"):
        list(read_pcm_blocks(io.BytesIO(b"RIFF....WAVE")))
    with pytest.raises(AudioError, match="sample rate of 7 Hz"):
        list(read_pcm_blocks(io.BytesIO(b"\0\0"), sample_rate=7))


@settings(deadline=None, max_examples=50)
@given(
    rate=st.sampled_from([8_000, 11_025, 22_050, 44_100, 48_000, 96_000, 16_000]),
    cuts=st.lists(st.integers(0, 8_000), max_size=20),
)
def test_resampling_in_blocks_equals_one_shot(rate: int, cuts: list[int]) -> None:
    samples = noise(8_000 / rate, rate)
    resampler = StreamingResampler(rate)
    pieces = [resampler.accept(block) for block in np.split(samples, sorted(cuts))]
    streamed = np.concatenate([*pieces, resampler.finish()])
    np.testing.assert_array_equal(streamed, soxr.resample(samples, rate, 16_000))


@settings(deadline=None, max_examples=20)
@given(
    rate=st.sampled_from([8_000, 11_025, 22_050, 32_000, 44_056, 44_100, 48_000, 96_000]),
    cuts=st.lists(st.integers(0, 10_000), max_size=20),
)
def test_a_swept_sine_has_no_phase_jump(rate: int, cuts: list[int]) -> None:
    """At every sample of the output, the phase is that of the sweep at that time: a block boundary
    neither drops nor repeats nor delays anything, not even a fraction of a sample."""

    def sweep(times: np.ndarray) -> np.ndarray:
        return np.sin(2 * np.pi * (200 * times + (2_500 - 200) / 2 * times**2))  # 1 s long

    samples = sweep(np.arange(rate) / rate).astype(np.float32)
    resampler = StreamingResampler(rate)
    blocks = np.split(samples, sorted(cuts))
    out = np.concatenate([*map(resampler.accept, blocks), resampler.finish()])
    assert len(out) == pytest.approx(16_000, abs=1)
    heard = slice(200, len(out) - 200)  # within the filter's reach, the sweep begins out of nothing
    # A step of one sample at 2.5 kHz would be 0.9, one of a hundredth 0.01.
    np.testing.assert_allclose(out[heard], sweep(np.arange(len(out)) / 16_000)[heard], atol=2e-3)


def test_resampling_keeps_time() -> None:
    click = np.zeros(44_100, np.float32)
    click[22_050] = 1.0
    resampler = StreamingResampler(44_100)
    out = np.concatenate([resampler.accept(click), resampler.finish()])
    assert int(out.argmax()) == 8_000
