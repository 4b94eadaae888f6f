"""What a corpus promises: it can be killed, stopped, filled up and extended, and ends the same."""

import errno
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from asr.errors import CorpusError
from tests.training.synthesis.spoken import FakeSynthesizer
from training.synthesis import SynthesisReport, SynthesisSettings, VoiceGroup, synthesize
from training.synthesis.corpus import _batches, _draw
from training.synthesis.espeak import Espeak
from training.synthesis.sentence import Sentence
from training.synthesis.speech import Speech, SpokenWord, SynthesizerRefusal, Utterance
from training.synthesis.voices import FLITE, SYNTHESIZERS

Use = Callable[[FakeSynthesizer], None]

needs_flite = pytest.mark.skipif(
    shutil.which("flite") is None, reason="flite is not installed (apt install flite)"
)


def make(out_dir: Path, text: Path, seconds: int, **settings: Any) -> SynthesisReport:
    drawn = SynthesisSettings(text, **{"seed": 5, "shard_size": 3} | settings)
    return synthesize(out_dir, drawn, hours=seconds / 3600, jobs=1)


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]


def assert_same_files(one: Path, other: Path) -> None:
    for path in sorted(one.rglob("*.*")):
        assert (other / path.relative_to(one)).read_bytes() == path.read_bytes()
    assert len(list(one.rglob("*"))) == len(list(other.rglob("*"))), "nothing else is left"


# --- with a synthesiser that costs nothing ------------------------------------------------------


def test_a_killed_run_continues_and_ends_with_the_same_corpus(
    tmp_path: Path, text: Path, use: Use
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    use(FakeSynthesizer(failing="green"))
    report = make(whole, text, 70)
    use(FakeSynthesizer(failing="green", dies_after=8, batch=1))
    with pytest.raises(KeyboardInterrupt):
        make(killed, text, 70)
    assert not (killed / "manifest.jsonl").exists()

    again = FakeSynthesizer(failing="green")
    use(again)
    assert make(killed, text, 70).skipped == report.skipped
    assert min(again.spoken) == 6, "the two finished shards of three are not spoken again"
    assert_same_files(whole, killed)


def test_what_has_letters_that_are_not_english_is_counted_and_not_spoken(
    tmp_path: Path, use: Use, capsys: pytest.CaptureFixture[str]
) -> None:
    use(FakeSynthesizer())
    text = tmp_path / "mixed.txt"
    text.write_text(
        "The boat came home. Лодка пришла домой. The sea was calm.\n他们回家。\nAll slept well.\n",
        encoding="utf-8",
    )
    with pytest.raises(CorpusError, match=r"give 0\.\d*[1-9]\d* hours of speech; 1"):
        make(tmp_path / "out", text, 3600)
    told = " ".join(capsys.readouterr().err.split())
    assert "2 paragraphs have letters that are not English; what has them is not spoken" in told

    use(FakeSynthesizer())
    report = make(tmp_path / "some", text, 1)
    assert {row["text"] for row in rows_of(tmp_path / "some")} <= {
        "the boat came home",
        "the sea was calm",
        "all slept well",
    }
    assert report.utterances > 0


def test_a_stopped_run_says_so_and_continues(tmp_path: Path, text: Path, use: Use) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    use(FakeSynthesizer())
    make(whole, text, 70)
    asked = iter([False, False, False, False, True])
    settings = SynthesisSettings(text, seed=5, shard_size=3)
    report = synthesize(stopped, settings, 70 / 3600, 1, lambda: next(asked))
    assert report.stopped
    assert report.utterances == 5
    assert not report.manifest.exists()
    assert not make(stopped, text, 70).stopped
    assert_same_files(whole, stopped)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_names_what_is_kept_and_the_same_call_goes_on(
    code: int, tmp_path: Path, text: Path, use: Use, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, full = tmp_path / "whole", tmp_path / "full"
    use(FakeSynthesizer())
    make(whole, text, 70)
    write_bytes = Path.write_bytes

    def run_full(path: Path, content: bytes) -> int:
        if "-0000004" in path.name:  # of the second shard
            write_bytes(path, content[:100])
            raise OSError(code, os.strerror(code), str(path))
        return write_bytes(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", run_full)
        with pytest.raises(
            CorpusError, match=r"Kept: 1 finished shards, 0\.01 hours.*same"
        ) as full_disk:
            make(full, text, 70)
    assert os.strerror(code) in str(full_disk.value)
    assert not list(full.rglob("*.tmp")), "half a file is no use"
    make(full, text, 70)
    assert_same_files(whole, full)


def test_another_error_of_the_disk_is_not_taken_for_a_full_one(
    tmp_path: Path, text: Path, use: Use
) -> None:
    use(FakeSynthesizer())
    (tmp_path / "out").mkdir()
    (tmp_path / "out/shards").write_text("a file")
    with pytest.raises(OSError, match="shards"):
        make(tmp_path / "out", text, 20)
    with pytest.raises(CorpusError, match="is a file; expected a folder"):
        make(tmp_path / "out/shards", text, 20)


def test_rows_tell_what_was_spoken_and_failures_are_named(
    tmp_path: Path, text: Path, use: Use
) -> None:
    use(FakeSynthesizer(failing="green"))
    report = make(tmp_path / "out", text, 80)
    rows = rows_of(tmp_path / "out")

    assert report.utterances == len(rows) == 9
    assert report.hours * 3600 == sum(row["duration"] for row in rows) == 81
    assert len(report.skipped) == 1
    assert re.match(
        r"synth-\w+-\d+: the old captain saw green boats .*status -11", report.skipped[0]
    )
    assert not any("green" in row["text"] for row in rows)
    for row in rows:
        samples, rate = soundfile.read(report.manifest.parent / row["audio"], dtype="int16")
        assert (len(samples), rate) == (row["duration"] * 16_000, 16_000)
        assert re.fullmatch(rf"synth-[0-9a-f]{{6}}-{samples[0]:07d}", row["id"])
        assert row["speaker"] == row["voice"] in FLITE.voices
        assert row["phones"][-1] == ["pau", row["duration"]]
        assert "words" not in row


def test_a_synthesiser_that_fails_on_everything_is_an_error(
    tmp_path: Path, text: Path, use: Use
) -> None:
    """Or a broken one, or a full /tmp, would leave a corpus without sentences."""
    use(FakeSynthesizer(failing="captain"))
    with pytest.raises(CorpusError, match=r"flite says nothing any more.*status -11"):
        make(tmp_path / "out", text, 80)
    assert not list((tmp_path / "out" / "shards").iterdir())


def test_a_corpus_can_be_extended_but_not_mixed_with_another(
    tmp_path: Path, text: Path, use: Use
) -> None:
    use(FakeSynthesizer())
    out = tmp_path / "out"
    make(out, text, 20)
    short = (out / "manifest.jsonl").read_text()
    make(out, text, 60)
    longer = (out / "manifest.jsonl").read_text()
    assert longer.startswith(short)
    assert len(longer) > len(short)
    for other, named in (
        ({"seed": 6}, "seed 5, now 6"),
        ({"choice": "coverage"}, "choice 'random', now 'coverage'"),
        ({"format": "opus"}, "format 'flac', now 'opus'"),
        ({"groups": (VoiceGroup("flite", ("slt",)),)}, "voices"),
    ):
        with pytest.raises(CorpusError, match=named):
            make(out, text, 60, **other)


def test_a_corpus_of_before_there_was_a_choice_is_continued(
    tmp_path: Path, text: Path, use: Use
) -> None:
    use(FakeSynthesizer())
    make(tmp_path / "out", text, 20)
    claim = tmp_path / "out" / "synthesis.json"
    then = json.loads(claim.read_text())
    assert then["voices"] == ["slt", "rms", "awb", "kal16"]
    claim.write_text(
        json.dumps({k: then[k] for k in ("seed", "text_sha256", "voices", "shard_size")})
    )
    make(tmp_path / "out", text, 60)
    assert rows_of(tmp_path / "out")[-1]["id"] == f"synth-{len(rows_of(tmp_path / 'out')) - 1:07d}"
    with pytest.raises(CorpusError, match="choice"):
        make(tmp_path / "out", text, 60, choice="coverage")


def test_corpora_that_are_drawn_otherwise_can_be_trained_on_together(
    tmp_path: Path, text: Path, use: Use
) -> None:
    """Features go by the id of an utterance."""
    use(FakeSynthesizer())
    ids: list[str] = []
    for name, other in (("a", {}), ("b", {"seed": 6}), ("c", {"format": "opus"})):
        make(tmp_path / name, text, 20, **other)
        ids += [row["id"] for row in rows_of(tmp_path / name)]
    assert len(ids) == len(set(ids)) == 9


def test_a_text_that_is_too_short_or_missing_is_an_error(
    tmp_path: Path, text: Path, use: Use
) -> None:
    use(FakeSynthesizer())
    with pytest.raises(CorpusError, match=r"give 0\.025 hours"):
        make(tmp_path / "out", text, 3600)
    with pytest.raises(CorpusError, match=r"none\.txt: no such file"):
        make(tmp_path / "none", tmp_path / "none.txt", 10)


@pytest.mark.parametrize(
    "wrong",
    [
        {"shard_size": 0},
        {"spoken_forms": 1.0},
        {"spoken_forms": -0.1},
        {"groups": ()},
        {"choice": "best"},
        {"format": "mp3"},
    ],
)
def test_settings_that_make_no_corpus_are_named(text: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(CorpusError, match="expected"):
        SynthesisSettings(text, **wrong)


def test_times_of_words_are_written_as_they_are_read(
    tmp_path: Path, text: Path, use: Use, monkeypatch: pytest.MonkeyPatch
) -> None:
    from asr.evaluation.corpora.timed import read_timed_manifest

    class Timed(FakeSynthesizer):
        def _speak(self, utterance: Utterance) -> Speech | SynthesizerRefusal:
            words = utterance.sentence.text.split()
            samples = np.full(16_000 * len(words), 100, dtype=np.int16)
            spoken = [SpokenWord(word, i, i + 0.75) for i, word in enumerate(words)]
            return Speech(samples, words=tuple(spoken))

    use(Timed())
    report = make(tmp_path / "out", text, 20)
    rows = rows_of(tmp_path / "out")
    assert "phones" not in rows[0]
    assert rows[0]["words"][1] == {"word": "old", "start_s": 1.0, "end_s": 1.75}
    (timed, *_) = read_timed_manifest(report.manifest).utterances
    assert [word.end_s for word in timed.words[:2]] == [0.75, 1.75]


def test_opus_sounds_alike_in_less_room(tmp_path: Path, text: Path, use: Use) -> None:
    class Noise(FakeSynthesizer):
        def _speak(self, utterance: Utterance) -> Speech | SynthesizerRefusal:
            time_s = np.arange(32_000) / 16_000
            tone = 8000 * np.sin(2 * np.pi * 440 * time_s)
            noise = np.random.default_rng(utterance.index).normal(0, 300, 32_000)
            return Speech((tone + noise).astype(np.int16))

    use(Noise())
    sizes = {}
    for kind in ("flac", "opus"):
        report = make(tmp_path / kind, text, 6, format=kind)
        row = rows_of(tmp_path / kind)[0]
        audio = report.manifest.parent / row["audio"]
        assert audio.suffix == f".{kind}"
        samples, rate = soundfile.read(audio)
        assert (rate, len(samples)) == (16_000, 32_000)
        assert row["duration"] == 2
        assert np.argmax(np.abs(np.fft.rfft(samples))) == 880, "the tone is there"
        sizes[kind] = audio.stat().st_size
    assert sizes["opus"] < sizes["flac"] / 2


# --- draws --------------------------------------------------------------------------------------

SAY_IT = Sentence("Say it again.", "say it again")


def test_draws_depend_on_seed_and_index_alone_and_stay_in_range() -> None:
    drawn = [_draw(1, (FLITE,), index, SAY_IT) for index in range(2000)]
    assert drawn[1234] == _draw(1, (FLITE,), 1234, SAY_IT)
    assert drawn[1234] != _draw(2, (FLITE,), 1234, SAY_IT)
    assert {utterance.voice for utterance in drawn} == set(FLITE.voices)
    assert 0.01 < np.mean([utterance.split == "dev" for utterance in drawn]) < 0.03
    for values in ([u.stretch for u in drawn], [u.pitch for u in drawn]):
        assert 0.8 <= min(values) < 0.82
        assert 1.23 < max(values) <= 1.25


def test_draws_of_flite_are_those_of_the_corpora_that_there_are() -> None:
    """Pinned: a corpus that is continued must not change in the middle."""
    drawn = [_draw(5, (FLITE,), index, SAY_IT) for index in (0, 1, 123)]
    assert [(u.split, u.voice, u.stretch, u.pitch) for u in drawn] == [
        ("train", "awb", 1.147, 1.007),
        ("train", "slt", 0.987, 1.091),
        ("train", "slt", 1.164, 1.075),
    ]


def test_groups_speak_by_their_shares_and_voices_of_a_group_alike() -> None:
    groups = (
        VoiceGroup("espeak-ng", Espeak.voices, 60),
        VoiceGroup("festival", ("kal_diphone", "ked_diphone"), 30),
        VoiceGroup("flite", ("slt",), 10),
    )
    drawn = [_draw(1, groups, index, SAY_IT) for index in range(3000)]
    for group in groups:
        own = [u.voice for u in drawn if u.synthesizer == group.synthesizer]
        assert len(own) / len(drawn) == pytest.approx(group.share / 100, abs=0.03)
        assert set(own) <= set(group.voices)
    assert len({utterance.voice for utterance in drawn}) == pytest.approx(
        len(Espeak.voices), abs=10
    )


def test_a_process_speaks_utterances_of_one_synthesiser_in_their_order() -> None:
    groups = (VoiceGroup("espeak-ng", Espeak.voices), VoiceGroup("flite", ("slt",)))
    drawn = [_draw(1, groups, index, SAY_IT) for index in range(60)]
    batches = _batches(drawn)
    for batch in batches:
        synthesizer = SYNTHESIZERS[batch[0].synthesizer]
        assert 0 < len(batch) <= synthesizer.batch
        assert {utterance.synthesizer for utterance in batch} == {synthesizer.name}
    indices = [utterance.index for batch in batches for utterance in batch]
    assert sorted(indices) == list(range(60))
    assert [batch[0].index for batch in batches] == sorted(batch[0].index for batch in batches)


# --- the real flite -----------------------------------------------------------------------------


@needs_flite
def test_a_row_is_what_it_always_was(tmp_path: Path, text: Path) -> None:
    """Pinned, with flite 2.2's durations: the same seed has made this since the first corpus."""
    make(tmp_path / "out", text, 3, shard_size=2)
    row = rows_of(tmp_path / "out")[0]
    assert row["text"] == "the old captain saw fine boats and went home"
    assert (row["id"][-7:], row["voice"], row["duration"]) == ("0000000", "awb", 3.645)
    assert list(row) == ["id", "text", "split", "speaker", "audio", "duration", "voice", "phones"]
    assert row["phones"][:3] == [["pau", 0.302], ["dh", 0.349], ["iy", 0.527]]


@needs_flite
def test_a_small_real_corpus_is_the_same_with_any_number_of_jobs(
    tmp_path: Path, text: Path
) -> None:
    settings = SynthesisSettings(text, shard_size=2)
    reports = [synthesize(tmp_path / str(jobs), settings, 12 / 3600, jobs) for jobs in (1, 3)]
    assert_same_files(tmp_path / "1", tmp_path / "3")
    assert [report.skipped for report in reports] == [(), ()]
    assert reports[0].utterances >= 3


@needs_flite
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_command_in_order_and_it_goes_on(
    number: signal.Signals, tmp_path: Path, text: Path
) -> None:
    """In a process of its own; a flite that runs ends by itself, and its sentence isn't skipped."""
    # Hours of them: a machine with other work to do may see the first recording late.
    fours = itertools.product(NAMES, repeat=4)
    text.write_text(
        "".join(f"The {a} saw the {b} and the {c} with the {d}.\n" for a, b, c, d in fours)
    )
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    command = [sys.executable, "-m", "training.cli", "synthesize", str(text), str(killed)]
    process = subprocess.Popen([*command, "--hours", "5"], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not list(killed.rglob("*.flac")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "the same command goes on" in " ".join(said.split())
    assert "skipped" not in said
    assert not (killed / "manifest.jsonl").exists()

    for folder in (killed, whole):
        synthesize(folder, SynthesisSettings(text), 12 / 3600, jobs=2)
    assert rows_of(killed) == rows_of(whole)
    for row in rows_of(whole):
        assert (killed / row["audio"]).read_bytes() == (whole / row["audio"]).read_bytes()


NAMES = ("man", "boy", "girl", "dog", "cat", "king", "queen", "captain", "doctor", "sailor")
