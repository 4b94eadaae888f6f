"""Recordings cut and joined: on words that are tones, so that what is heard can be told."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from asr.errors import CorpusError, ManifestError
from asr.evaluation.corpora.timed import TimedWord, read_timed_manifest
from training import splicing
from training.cli import app
from training.splicing import _FADE, SplicingSettings, _joined, _pieces, cut_points, splice

RATE = 16_000
WORD_S, PAUSE_S = 0.4, 0.1

VOICES = {"ada": 0, "ben": 1}
WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def pitch_hz(speaker: str, word: str) -> float:
    """Each word of each speaker is a tone of its own."""
    return 300.0 + 500 * WORDS.index(word) + 250 * VOICES[speaker]


def say(speaker: str, words: Sequence[str], pause_s: float = PAUSE_S) -> np.ndarray:
    """Each word with half a pause on both sides."""
    time = np.arange(round(WORD_S * RATE)) / RATE
    pause = np.zeros(round(pause_s / 2 * RATE))
    tones = [np.sin(2 * np.pi * pitch_hz(speaker, word) * time) / 2 for word in words]
    return np.concatenate([part for tone in tones for part in (pause, tone, pause)])


def heard(samples: np.ndarray) -> list[tuple[str, str]]:
    """The speaker and the word of each tone, in their order."""
    found: list[tuple[str, str]] = []
    window = round(0.05 * RATE)
    silent = True
    for start in range(0, len(samples) - window, window // 5):
        part = samples[start : start + window]
        if np.sqrt(np.mean(part**2)) < 0.3:
            silent = True
        elif silent:
            hz = np.abs(np.fft.rfft(part * np.hanning(window), RATE)).argmax()
            found.append(
                min(
                    ((speaker, word) for speaker in VOICES for word in WORDS),
                    key=lambda said: abs(pitch_hz(*said) - hz),
                )
            )
            silent = False
    return found


def timed(words: Sequence[str], step_s: float = WORD_S + PAUSE_S) -> list[dict]:
    starts = [PAUSE_S / 2 + step_s * number for number in range(len(words))]
    return [
        {"word": word, "start_s": round(start, 3), "end_s": round(start + WORD_S, 3)}
        for word, start in zip(words, starts, strict=True)
    ]


Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write recordings `(speaker, words)` and their manifest."""

    def write(*said: tuple[str | None, Sequence[str]], name: str = "aligned", **more: str) -> Path:
        rows = []
        for number, (speaker, words) in enumerate(said):
            audio = tmp_path / f"{name}-{number}.wav"
            samples = say(speaker or "ada", words)
            soundfile.write(audio, samples, RATE, subtype="FLOAT")
            row = {
                "id": f"{name}-{number:02d}",
                "audio": audio.name,
                "duration": len(samples) / RATE,
                "text": " ".join(words),
                "words": timed(words),
                **more,
            }
            rows.append(row | ({"speaker": speaker} if speaker else {}))
        manifest = tmp_path / f"{name}.jsonl"
        manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return manifest

    return write


def counting() -> Iterator[str]:
    while True:
        yield from WORDS


def sentences(speaker: str, count: int, length: int = 6) -> list[tuple[str, list[str]]]:
    words = counting()
    return [(speaker, [next(words) for _ in range(length)]) for _ in range(count)]


def rows_of(manifest: Path) -> list[dict]:
    return [json.loads(line) for line in manifest.read_text().splitlines()]


def test_the_voice_is_cut_where_it_pauses_and_nowhere_else() -> None:
    words = [TimedWord(one["word"], one["start_s"], one["end_s"]) for one in timed(WORDS[:3])]
    samples = say("ada", WORDS[:3]).astype(np.float32)
    for number, point in enumerate(cut_points(samples, words), start=1):
        assert point == pytest.approx(number * (WORD_S + PAUSE_S) * RATE, abs=PAUSE_S / 2 * RATE)
    on_and_on = say("ada", ["one"] * 4, pause_s=0.0).astype(np.float32)
    tight = [TimedWord("one", WORD_S * number, WORD_S * (number + 1)) for number in range(4)]
    assert cut_points(on_and_on, tight) == [None, None, None]


def test_words_that_lie_behind_the_end_are_not_cut() -> None:
    words = [TimedWord("one", 5.0, 5.4), TimedWord("two", 5.5, 5.9)]
    assert cut_points(say("ada", ["one"]).astype(np.float32), words) == [None]


def test_what_is_written_is_what_is_heard_and_of_one_speaker(write: Write, tmp_path: Path) -> None:
    manifest = write(*sentences("ada", 8), *sentences("ben", 5))
    report = splice(tmp_path / "out", SplicingSettings((manifest,)), jobs=1)
    rows = rows_of(report.manifest)
    assert report.utterances == len(rows) > 3
    said = {"ada": Counter[str](), "ben": Counter[str]()}
    for row in rows:
        samples, rate = soundfile.read(report.manifest.parent / row["audio"])
        assert rate == RATE
        assert len(samples) / RATE == pytest.approx(row["duration"], abs=1e-3)
        assert heard(samples) == [(row["speaker"], word) for word in row["text"].split()]
        said[row["speaker"]].update(row["text"].split())
    # All that was said is said once, and in sentences that were not there.
    for speaker, count in (("ada", 8), ("ben", 5)):
        before = [" ".join(words) for _, words in sentences(speaker, count)]
        assert said[speaker] == Counter(" ".join(before).split())
        assert not any(row["text"] in before for row in rows)


def test_recordings_alone_are_joined_with_no_other(write: Write, tmp_path: Path) -> None:
    one, two = WORDS[:5], WORDS[5:]
    nobody = write((None, one), (None, two), name="nobody")
    somebody = write(("ada", one), ("ada", two), name="somebody")
    alone = SplicingSettings((somebody,), rounds=4, alone=True)
    for out, settings in (("a", SplicingSettings((nobody,), rounds=4)), ("b", alone)):
        for row in rows_of(splice(tmp_path / out, settings, jobs=1).manifest):
            assert sorted(row["text"].split()) in (sorted(one), sorted(two))
            assert row["text"].split() not in (list(one), list(two))


def test_each_round_is_another_and_more_rounds_extend(write: Write, tmp_path: Path) -> None:
    manifest = write(*sentences("ada", 6))
    once = rows_of(splice(tmp_path / "out", SplicingSettings((manifest,)), jobs=1).manifest)
    report = splice(tmp_path / "out", SplicingSettings((manifest,), rounds=2), jobs=1)
    twice = rows_of(report.manifest)
    assert twice[: len(once)] == once
    texts = {row["text"] for row in once}
    assert not texts & {row["text"] for row in twice[len(once) :]}


def test_rows_for_development_are_left_alone(write: Write, tmp_path: Path) -> None:
    train, dev = write(*sentences("ada", 3)), write(*sentences("ben", 3), name="dev", split="dev")
    report = splice(tmp_path / "out", SplicingSettings((train, dev)), jobs=1)
    assert {row["speaker"] for row in rows_of(report.manifest)} == {"ada"}
    with pytest.raises(CorpusError, match=r"no recording .* \(none is to train on\)"):
        splice(tmp_path / "none", SplicingSettings((dev,)), jobs=1)


def test_stopped_it_goes_on_and_any_number_of_jobs_makes_the_same(
    write: Write, tmp_path: Path
) -> None:
    manifest = write(*sentences("ada", 4), *sentences("ben", 4))
    settings = SplicingSettings((manifest,), rounds=3)
    whole = splice(tmp_path / "whole", settings, jobs=2)
    asked = iter([False, False, *[True] * 9])
    part = splice(tmp_path / "part", settings, jobs=1, stopped=lambda: next(asked))
    assert part.stopped
    assert not part.manifest.exists()
    assert 0 < part.utterances < whole.utterances
    (record,) = (tmp_path / "part/shards").iterdir()
    made_at = record.stat().st_mtime_ns
    rest = splice(tmp_path / "part", settings, jobs=1)
    assert not rest.stopped
    assert record.stat().st_mtime_ns == made_at, "what is finished is not made again"
    assert rest.manifest.read_bytes() == whole.manifest.read_bytes()
    for row in rows_of(whole.manifest):
        audio = [(tmp_path / out / row["audio"]).read_bytes() for out in ("whole", "part")]
        assert audio[0] == audio[1]


@pytest.mark.parametrize("changed", ["seed", "alone", "recordings"])
def test_a_corpus_made_otherwise_is_not_continued(
    changed: str, write: Write, tmp_path: Path
) -> None:
    manifest = write(*sentences("ada", 3))
    splice(tmp_path / "out", SplicingSettings((manifest,)), jobs=1)
    if changed == "recordings":
        (tmp_path / "aligned-1.wav").unlink()  # its row is not usable any more
    other = SplicingSettings((manifest,), seed=1 + (changed == "seed"), alone=changed == "alone")
    with pytest.raises(CorpusError, match=f"drawn with {changed} .*, now "):
        splice(tmp_path / "out", other, jobs=1)


def test_nothing_else_is_overwritten(write: Write, tmp_path: Path) -> None:
    manifest = write(*sentences("ada", 3))
    own = tmp_path / "manifest.jsonl"
    own.write_bytes(manifest.read_bytes())
    with pytest.raises(CorpusError, match="is there already"):
        splice(tmp_path, SplicingSettings((own,)), jobs=1)
    assert own.read_bytes() == manifest.read_bytes()
    with pytest.raises(CorpusError, match="is a file"):
        splice(own, SplicingSettings((manifest,)), jobs=1)


def test_what_can_not_be_used_is_named(write: Write, tmp_path: Path) -> None:
    manifest = write(*sentences("ada", 4), ("ben", WORDS[:1]), (None, WORDS[:5]))
    (tmp_path / "aligned-2.wav").write_bytes(b"RIFF")
    rows = rows_of(manifest)
    del rows[3]["words"]
    late = timed(WORDS[:2])
    late[1] |= {"start_s": 9.0, "end_s": 9.4}
    rows[5]["words"] = late
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    twice = (manifest, manifest)
    report = splice(tmp_path / "out", SplicingSettings(twice, rounds=2), jobs=1)
    names = dict(report.rejections.names)
    (unreadable,) = names.pop("audio that can't be read")
    assert unreadable.startswith("aligned-02 (")
    assert {reason: sorted(which) for reason, which in names.items()} == {
        "it doesn't say when its words were said": ["aligned-03"],
        "an earlier manifest has its id": [f"aligned-{n:02d}" for n in (0, 1, 2, 4, 5)],
        "one piece, and no other recording of its speaker": ["aligned-04"],
        "words behind the end of the audio": ["aligned-05"],
    }
    assert report.utterances > 0
    lonely = SplicingSettings((write(("ben", WORDS[:1]), name="lonely"),))
    with pytest.raises(CorpusError, match=r"nothing could be joined: skipped 1 \(one piece"):
        splice(tmp_path / "lonely", lonely, jobs=1)


def test_speech_without_a_pause_is_left_out_if_it_is_long(write: Write, tmp_path: Path) -> None:
    manifest = write(*sentences("ada", 4), ("ada", ["one"]))
    rows = rows_of(manifest)
    on_and_on = say("ada", ["ten"] * 40, pause_s=0.0)
    soundfile.write(tmp_path / "aligned-4.wav", on_and_on, RATE, subtype="FLOAT")
    rows[4] |= {"duration": len(on_and_on) / RATE, "words": timed(["ten"] * 40, step_s=WORD_S)}
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = splice(tmp_path / "out", SplicingSettings((manifest,)), jobs=1)
    assert list(report.rejections.lines()) == [
        "skipped 1 (over 12 s without a moment in which to cut), such as aligned-04"
    ]
    said = " ".join(row["text"] for row in rows_of(report.manifest)).split()
    assert len(said) == 4 * 6


def test_who_has_said_much_is_joined_in_parts(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(splicing, "_COMPANY_S", 10.0)  # of 36 s
    manifest = write(*sentences("ada", 12))
    rows = rows_of(splice(tmp_path / "out", SplicingSettings((manifest,)), jobs=1).manifest)
    assert len({row["audio"].split("/")[1] for row in rows}) == 3
    said = Counter(word for row in rows for word in row["text"].split())
    assert said == Counter(word for _, words in sentences("ada", 12) for word in words)


def test_pieces_are_of_one_to_five_words_and_fade_into_each_other(write: Write) -> None:
    generator = np.random.default_rng(0)
    manifest = write(("ada", list(WORDS)))
    (recording,) = read_timed_manifest(manifest).utterances
    drawn = [list(_pieces(recording, generator, [])) for _ in range(50)]
    lengths = {len(piece.text.split()) for pieces in drawn for piece in pieces}
    assert lengths == {1, 2, 3, 4, 5}
    for pieces in drawn:
        assert " ".join(piece.text for piece in pieces) == " ".join(WORDS)
    joined = _joined([np.ones(1000, np.float32)] * 3)
    assert len(joined) == 3000 - 2 * _FADE
    np.testing.assert_allclose(joined, 1.0, atol=1e-6)


def test_the_cut_is_at_the_quietest_moment() -> None:
    samples = say("ada", WORDS[:2], pause_s=0.2)
    hiss = 0.01 * np.random.default_rng(0).standard_normal(len(samples))
    quiet_from, quiet_to = round(0.61 * RATE), round(0.64 * RATE)
    hiss[quiet_from:quiet_to] = 0
    words = [TimedWord("one", 0.1, 0.5), TimedWord("two", 0.7, 1.1)]
    (point,) = cut_points((samples + hiss).astype(np.float32), words)
    assert point is not None
    assert quiet_from <= point <= quiet_to


def test_a_manifest_without_times(tmp_path: Path, write: Write) -> None:
    manifest = write(*sentences("ada", 2))
    rows = [{**row, "words": [{"word": "one"}]} for row in rows_of(manifest)]
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ManifestError, match="word, start_s and end_s"):
        splice(tmp_path / "out", SplicingSettings((manifest,)), jobs=1)


def test_the_command(write: Write, tmp_path: Path) -> None:
    manifest = write(*sentences("ada", 4))
    done = CliRunner().invoke(
        app, ["splice", str(manifest), str(tmp_path / "out"), "--rounds", "2", "--jobs", "1"]
    )
    assert done.exit_code == 0
    assert "utterances" in done.output
    assert len(rows_of(tmp_path / "out/manifest.jsonl")) > 1
