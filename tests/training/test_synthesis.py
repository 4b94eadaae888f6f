"""What the synthetic corpus promises: exact phone times, and a run that can be killed."""

import json
import re
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.errors import CorpusError
from training import synthesis
from training.synthesis import (
    PHONES,
    SILENCE,
    VOICES,
    Phones,
    Utterance,
    frame_labels,
    pronounce,
    synthesize,
)

needs_flite = pytest.mark.skipif(
    shutil.which("flite") is None, reason="flite is not installed (apt install flite)"
)

ALL_PHONES_TEXT = (
    "The boy's azure toy, which you judge; the good father thinks of owning a huge house. "
    "Zebras pay for singing cheaply. At her age, should she look up at the blue sky? "
    "Measure how many cows they bought."
)
NOVEL = [
    f"The old captain saw {word} boats, and went home."
    for word in ("red", "blue", "green", "black", "white", "many", "small", "fine", "grey", "old")
]


def write_text(path: Path, *paragraphs: str) -> Path:
    path.write_text("\n".join(paragraphs) + "\n", encoding="utf-8")
    return path


# --- labels ------------------------------------------------------------------------------------


def test_a_frame_is_labelled_by_the_phone_at_its_centre() -> None:
    # Centres at 35, 75, 115, 155 and 195 ms; a phone owns [its start, its end).
    phones = [("pau", 0.035), ("hh", 0.08), ("ay", 0.155), ("pau", 0.16)]
    assert [PHONES[i] for i in frame_labels(phones, 5)] == ["hh", "hh", "ay", "pau", "pau"]


@settings(deadline=None)
@given(
    lengths_ms=st.lists(st.integers(1, 300), min_size=1, max_size=30),
    num_frames=st.integers(0, 100),
    data=st.data(),
)
def test_labels_equal_a_search_phone_by_phone(
    lengths_ms: list[int], num_frames: int, data: st.DataObject
) -> None:
    names = data.draw(
        st.lists(st.sampled_from(PHONES), min_size=len(lengths_ms), max_size=len(lengths_ms))
    )
    ends_ms = np.cumsum(lengths_ms)
    phones = [(name, end / 1000) for name, end in zip(names, ends_ms, strict=True)]

    def slow(centre_ms: int) -> str:
        for name, end in zip(names, ends_ms, strict=True):
            if centre_ms < end:
                return name
        return SILENCE

    labels = frame_labels(phones, num_frames)
    assert labels.shape == (num_frames,)
    assert labels.dtype == np.int64
    assert [PHONES[i] for i in labels] == [slow(40 * t + 35) for t in range(num_frames)]


def test_a_phone_outside_the_inventory_is_named() -> None:
    with pytest.raises(CorpusError, match="qq"):
        frame_labels([("pau", 0.1), ("qq", 0.2)], 5)


# --- flite's output ----------------------------------------------------------------------------


def test_durations_as_flite_prints_them() -> None:
    assert synthesis._parse_durations("pau:0.164 hh:0.255 \n") == [("pau", 0.164), ("hh", 0.255)]
    with pytest.raises(CorpusError, match="xx:1"):
        synthesis._parse_durations("pau:0.1 xx:1.0")


def test_phones_must_end_where_the_audio_ends() -> None:
    phones = [("pau", 0.1), ("ay", 0.4), ("pau", 0.6)]
    assert synthesis._end_with_audio(phones, 0.5)[-1] == ("pau", 0.5)
    for duration in (0.3, 0.9):
        with pytest.raises(CorpusError, match="audio"):
            synthesis._end_with_audio(phones, duration)


# --- corpus, with a synthesiser that costs nothing ----------------------------------------------


class FakeFlite:
    """Speaks one second a word; fails on sentences with `failing`; dies after `dies_after`."""

    def __init__(self, failing: str = "nothing", dies_after: int = 10**9) -> None:
        self.failing = failing
        self.dies_after = dies_after
        self.spoken: list[int] = []

    def __call__(self, utterance: Utterance) -> tuple[np.ndarray, Phones]:
        if len(self.spoken) == self.dies_after:
            raise KeyboardInterrupt
        self.spoken.append(utterance.index)
        if self.failing in utterance.sentence:
            raise CorpusError("flite failed with status -11")
        duration = len(utterance.sentence.split())
        samples = np.full(16_000 * duration, utterance.index, dtype=np.int16)
        return samples, [("pau", 0.5), ("ay", 0.9), ("pau", float(duration))]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    return write_text(tmp_path / "novel.txt", *NOVEL)


def fake_corpus(
    monkeypatch: pytest.MonkeyPatch, flite: FakeFlite, out_dir: Path, text: Path, seconds: int
) -> synthesis.SynthesisReport:
    monkeypatch.setattr(synthesis, "_require_voices", lambda voices: None)
    monkeypatch.setattr(synthesis, "_speak", flite)
    return synthesize(out_dir, text, hours=seconds / 3600, seed=5, jobs=1, shard_size=3)


def test_a_killed_run_continues_and_ends_with_the_same_corpus(
    tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    report = fake_corpus(monkeypatch, FakeFlite(failing="green"), whole, text, 70)
    with pytest.raises(KeyboardInterrupt):
        fake_corpus(monkeypatch, FakeFlite(failing="green", dies_after=7), killed, text, 70)
    assert not (killed / "manifest.jsonl").exists()

    again = FakeFlite(failing="green")
    report_again = fake_corpus(monkeypatch, again, killed, text, 70)
    assert min(again.spoken) == 6, "the two finished shards of three are not spoken again"
    assert report_again.skipped == report.skipped
    for path in sorted(whole.rglob("*.*")):
        assert (killed / path.relative_to(whole)).read_bytes() == path.read_bytes()


def test_rows_tell_what_was_spoken_and_failures_are_named(
    tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = fake_corpus(monkeypatch, FakeFlite(failing="green"), tmp_path / "out", text, 80)
    rows = [json.loads(line) for line in report.manifest.read_text().splitlines()]

    assert report.utterances == len(rows) == 9
    assert report.hours * 3600 == sum(row["duration"] for row in rows) == 81
    assert len(report.skipped) == 1
    assert re.match(r"synth-\d+: the old captain saw green boats .*status -11", report.skipped[0])
    assert not any("green" in row["text"] for row in rows)
    for row in rows:
        samples, rate = soundfile.read(report.manifest.parent / row["audio"], dtype="int16")
        assert (len(samples), rate) == (row["duration"] * 16_000, 16_000)
        assert row["id"] == f"synth-{samples[0]:07d}"
        assert row["speaker"] == row["voice"] in VOICES
        assert row["phones"][-1] == ["pau", row["duration"]]


def test_a_corpus_can_be_extended_but_not_mixed_with_another(
    tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    short = fake_corpus(monkeypatch, FakeFlite(), out, text, 20).manifest.read_text()
    longer = fake_corpus(monkeypatch, FakeFlite(), out, text, 60).manifest.read_text()
    assert longer.startswith(short)
    assert len(longer) > len(short)
    with pytest.raises(CorpusError, match="seed 5, now 6"):
        synthesize(out, text, hours=0.01, seed=6, jobs=1, shard_size=3)


def test_a_text_that_is_too_short_is_an_error(
    tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CorpusError, match=r"give 0\.03 hours"):
        fake_corpus(monkeypatch, FakeFlite(), tmp_path / "out", text, 3600)


def test_draws_depend_on_seed_and_index_alone_and_stay_in_range() -> None:
    drawn = [synthesis._draw(1, VOICES, (index, "Say it again.")) for index in range(2000)]
    assert drawn[1234] == synthesis._draw(1, VOICES, (1234, "Say it again."))
    assert drawn[1234] != synthesis._draw(2, VOICES, (1234, "Say it again."))
    assert {utterance.voice for utterance in drawn} == set(VOICES)
    assert 0.01 < np.mean([utterance.split == "dev" for utterance in drawn]) < 0.03
    for values in ([u.stretch for u in drawn], [u.pitch for u in drawn]):
        assert 0.8 <= min(values) < 0.82
        assert 1.23 < max(values) <= 1.25


def test_a_missing_flite_says_how_to_install_it(
    tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CorpusError, match="apt install flite"):
        synthesize(tmp_path / "out", text, hours=0.01, seed=1, jobs=1)
    with pytest.raises(CorpusError, match="apt install flite"):
        pronounce("hello there")


# --- the real flite -----------------------------------------------------------------------------


@needs_flite
def test_the_inventory_is_all_that_flite_speaks() -> None:
    assert set(pronounce(ALL_PHONES_TEXT)) == set(PHONES)
    assert len(PHONES) == len(set(PHONES)) == 41


@needs_flite
def test_pronounce_gives_the_phones_of_the_words() -> None:
    assert pronounce("hello, you") == ["pau", "hh", "ax", "l", "ow", "pau", "y", "uw", "pau"]


@needs_flite
def test_an_unknown_voice_is_an_error_because_flite_would_use_another(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="nobody"):
        synthesize(tmp_path, tmp_path / "none.txt", 0.01, seed=1, jobs=1, voices=("nobody",))


@needs_flite
@pytest.mark.parametrize("voice", VOICES)
def test_phone_times_follow_the_audio(voice: str) -> None:
    """The times stay true with a stretch: where a vowel is labelled, the audio is loudest."""
    vowels = {"aa", "ae", "ah", "ao", "aw", "ax", "ay", "eh", "er", "ey"}
    vowels |= {"ih", "iy", "ow", "oy", "uh", "uw"}
    lengths = {}
    for stretch in (0.8, 1.25):
        samples, phones = synthesis._speak(
            Utterance(0, "I saw six people, and then they stopped.", "train", voice, stretch, 1.0)
        )
        lengths[stretch] = len(samples)
        assert all(earlier < later for (_, earlier), (_, later) in pairwise(phones))
        assert phones[-1][1] == pytest.approx(len(samples) / 16_000, abs=1e-3)

        num_frames = len(samples) // 640 - 1
        labels = [PHONES[i] for i in frame_labels(phones, num_frames)]
        power = [
            np.mean(samples[640 * t + 400 : 640 * t + 720].astype(float) ** 2) + 1
            for t in range(num_frames)
        ]  # the 20 ms around each frame's centre
        level_db = 10 * np.log10(power)
        vowel = np.isin(labels, list(vowels))
        silence = np.array([label == SILENCE for label in labels])
        assert level_db[vowel].mean() > level_db[~vowel & ~silence].mean() + 3
        assert level_db[~vowel & ~silence].mean() > level_db[silence].mean() + 10
    assert lengths[1.25] / lengths[0.8] == pytest.approx(1.25 / 0.8, rel=0.05)


@needs_flite
@pytest.mark.parametrize("voice", ["slt", "awb", "kal16"])
def test_pitch_changes_the_voice_and_not_the_times(voice: str) -> None:
    low, high = (
        synthesis._speak(Utterance(0, "We are all here now.", "train", voice, 1.0, pitch))
        for pitch in (0.8, 1.25)
    )
    assert [phone for phone, _ in low[1]] == [phone for phone, _ in high[1]]
    assert low[1][-2] == high[1][-2]
    assert fundamental_hz(high[0]) / fundamental_hz(low[0]) == pytest.approx(1.56, rel=0.15)


def fundamental_hz(samples: np.ndarray) -> float:
    """Median over loud frames of the strongest autocorrelation between 60 and 350 Hz."""
    estimates = []
    for start in range(0, len(samples) - 1024, 320):
        frame = samples[start : start + 1024].astype(float) * np.hanning(1024)
        if np.mean(frame**2) > 1e5:
            correlation = np.correlate(frame, frame, "full")[1023:]
            shortest = 16_000 // 350
            estimates.append(16_000 / (shortest + correlation[shortest : 16_000 // 60].argmax()))
    return float(np.median(estimates))


@needs_flite
def test_a_small_real_corpus_is_the_same_with_any_number_of_jobs(tmp_path: Path) -> None:
    text = write_text(tmp_path / "novel.txt", *NOVEL)
    manifests = [
        synthesize(tmp_path / str(jobs), text, hours=12 / 3600, seed=1, jobs=jobs, shard_size=2)
        for jobs in (1, 3)
    ]
    one, three = (report.manifest.read_bytes() for report in manifests)
    assert one == three
    assert [report.skipped for report in manifests] == [(), ()]
    assert manifests[0].utterances >= 3
