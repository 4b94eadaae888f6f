"""Word times: of flite's phones where it is here, and of manifests."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.errors import AsrError, ManifestError
from asr.evaluation.bench import emission
from asr.evaluation.bench.latency import TimedWord


def test_words_end_with_their_last_phone_and_pauses_are_nobodys() -> None:
    phones = emission.parse_phones("pau:0.2 dh:0.25 ax:0.3 pau:0.5 ow:0.6 l:0.7 d:0.8 pau:1.0")
    assert emission.word_times(["the", "old"], phones, [2, 3]) == (
        TimedWord("the", 0.2, 0.3),
        TimedWord("old", 0.5, 0.8),
    )


@pytest.mark.parametrize("counts", [[2, 2], [5, 0]])
def test_phones_that_do_not_add_up_give_no_times(counts: list[int]) -> None:
    phones = emission.parse_phones("pau:0.2 dh:0.25 ax:0.3 ow:0.6 l:0.7 d:0.8 pau:1.0")
    assert emission.word_times(["the", "old"], phones, counts) == ()


@pytest.mark.skipif(shutil.which("flite") is None, reason="flite is not here")
def test_the_sentences_are_spoken_with_the_times_of_all_their_words(tmp_path: Path) -> None:
    spoken = emission.synthesize(tmp_path, emission.SENTENCES[:2])
    assert [len(item.words) for item in spoken] == [10, 7]
    for item, sentence in zip(spoken, emission.SENTENCES, strict=False):
        assert [word.text for word in item.words] == sentence.split()
        ends = [word.end_s for word in item.words]
        assert ends == sorted(ends)
        assert ends[-1] < soundfile.info(item.audio).duration


def test_without_flite_the_reason_says_what_would_help(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AsrError, match="apt install flite"):
        emission.timed_speech([], (), tmp_path)


def _manifest(folder: Path, words: object) -> Path:
    soundfile.write(folder / "a.wav", np.zeros(1600), 16_000)
    rows = [
        {"id": "a", "audio": "a.wav", "duration": 0.1, "text": "So it is", "words": words},
        {"id": "b", "audio": "a.wav", "duration": 0.1, "text": "no times"},
        {"id": "a", "audio": "a.wav", "duration": 0.1, "text": "again", "words": "of no row"},
    ]
    path = folder / "m.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"words": oops\n')
    return path


def test_a_manifest_states_word_times(tmp_path: Path) -> None:
    words = [{"word": "So", "start_s": 0, "end_s": 0.1}, {"word": "21", "start_s": 1, "end_s": 2}]
    manifest = _manifest(tmp_path, words)
    speech, source = emission.timed_speech([manifest], {tmp_path / "a.wav"}, tmp_path)
    assert source == "word times of the manifest"
    (item,) = speech
    assert item.audio == tmp_path / "a.wav"
    assert item.words == (
        TimedWord("so", 0.0, 0.1),
        TimedWord("twenty", 1.0, 2.0),
        TimedWord("one", 1.0, 2.0),
    )


@pytest.mark.parametrize(
    "words",
    [
        "so it is",
        [{"word": "so", "start_s": 0}],
        [{"word": "so", "start_s": 2, "end_s": 1}],
        [{"word": 1, "start_s": 0, "end_s": 1}],
        [{"word": "it", "start_s": 2, "end_s": 3}, {"word": "is", "start_s": 1, "end_s": 2}],
    ],
)
def test_word_times_that_can_not_be_are_refused_by_row(tmp_path: Path, words: object) -> None:
    with pytest.raises(ManifestError, match=r"m\.jsonl: a: words"):
        emission.read_timed_manifest(_manifest(tmp_path, words))
