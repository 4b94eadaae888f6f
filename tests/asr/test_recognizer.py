"""The public API on a whole bundle: one call to load, one to transcribe, or a stream."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import asr
from asr import calibration
from asr.audio import read_blocks
from asr.bundle import open_bundle
from asr.calibration import Profile
from asr.engines import Engine, open_engine
from asr.recognizer import Recognizer
from tests.asr.language_models import random_arrays, spell
from tests.asr.signals import noise
from tests.asr.tiny_bundle import write_manifest
from tests.watched_engines import CountingEngine
from training.language_model import model_arrays

Write = Callable[..., Path]


def test_transcribing_a_file_equals_streaming_it(tiny_bundle: Path, write_speech: Write) -> None:
    recognizer = asr.load(tiny_bundle)
    path = write_speech("a.wav", 5.0, 44_100)
    result = recognizer.transcribe(path)
    assert len(result.words) > 5, "the tiny model should have something to say"
    assert result.duration_s == 5.0
    stream = recognizer.stream()
    samples = np.concatenate([block for block, _ in read_blocks(path)])
    for block in np.array_split(samples, 23):
        stream.accept(block, sample_rate=44_100)
    assert stream.finish().result == result


def test_chunks_are_those_that_the_engine_takes(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Programs for ExecuTorch have a method for each size; a governor must not move past them."""
    monkeypatch.setattr(
        calibration,
        "calibrate",
        lambda engine, searched, opened, points, settling: Profile(
            dict.fromkeys(points, 0.1), dict.fromkeys(points, 1.0)
        ),
    )
    bundle = open_bundle(tiny_bundle)
    engine, graphs = open_engine(bundle, "int8"), bundle.graphs("int8")
    for name, longest_ms in (("executorch", 640), ("onnx", 2560)):
        variant = replace(graphs, engine=name)
        recognizer = Recognizer(replace(bundle, variants=(variant,)), engine, variant)
        assert max(point.chunk_ms for point in recognizer.calibrated_rtf()) == longest_ms
    with pytest.raises(asr.AsrError, match=r"a chunk of 1280 ms; expected .* up to 640, which"):
        Recognizer(bundle, engine, replace(graphs, engine="executorch"), chunk_ms=1280)


def test_streams_are_independent(tiny_bundle: Path, write_speech: Write) -> None:
    recognizer = asr.load(tiny_bundle)
    path = write_speech("a.wav", 3.0)
    expected = recognizer.transcribe(path)
    one, two = recognizer.stream(), recognizer.stream()
    for samples, rate in read_blocks(path):
        one.accept(samples, rate)
        two.accept(samples[::-1].copy(), rate)
    assert one.finish().result == expected
    assert two.finish().result != expected


def test_streams_may_run_in_threads(tiny_bundle: Path) -> None:
    recognizer = asr.load(tiny_bundle)
    signals = [noise(2.0) * level for level in (0.25, 0.5, 0.75, 1.0)]

    def recognise(samples: np.ndarray) -> asr.Result:
        stream = recognizer.stream()
        for block in np.array_split(samples, 50):
            stream.accept(block)
        return stream.finish().result

    with ThreadPoolExecutor(len(signals)) as pool:
        assert list(pool.map(recognise, signals)) == [recognise(signal) for signal in signals]


def test_a_result_is_json(tiny_bundle: Path, write_speech: Write) -> None:
    result = asr.load(tiny_bundle).transcribe(write_speech("a.wav"))
    content = json.loads(json.dumps(result.to_dict()))
    assert content["text"] == result.text
    assert content["words"][0].keys() == {"text", "start_s", "end_s", "confidence"}


def test_another_engine_is_asked_and_the_recognizer_stays_as_it_was(
    tiny_bundle: Path, write_speech: Write
) -> None:
    path, recognizer = write_speech("speech.wav", 1.0), asr.load(tiny_bundle)
    engines: list[CountingEngine] = []

    def wrap(engine: Engine) -> CountingEngine:
        engines.append(CountingEngine(engine))
        return engines[0]

    watched = recognizer.with_engine(wrap)
    assert watched.transcribe(path) == recognizer.transcribe(path)
    assert engines[0].frames == 29  # of one of the two: a second, and the tail


@pytest.mark.parametrize("chunk_ms", [40, 160, 640, 1000])
def test_chunk_ms_is_honoured(tiny_bundle: Path, chunk_ms: int) -> None:
    recognizer = asr.load(tiny_bundle, chunk_ms=chunk_ms)
    stream = recognizer.stream()
    # The first chunk needs 4C + 3 feature frames; the last of them ends 12.5 ms + 5 ms later.
    needed = 160 * (chunk_ms // 10 + 3)
    stream.push(np.zeros(needed - 160, np.int16))
    assert stream.next_window() is None
    stream.push(np.zeros(320, np.int16))
    assert len(stream.next_window()) == chunk_ms // 10 + 3


def test_without_chunk_ms_the_bundle_decides(tiny_bundle: Path) -> None:
    assert asr.load(tiny_bundle).chunk_ms == 320
    bundle = asr.open_bundle(tiny_bundle)
    slower = replace(bundle, streaming=replace(bundle.streaming, chunk_frames=16))
    recognizer = asr.Recognizer(slower, open_engine(slower), slower.graphs("int8"))
    assert recognizer.chunk_ms == 640
    assert recognizer.stream().chunk_frames == 16


@pytest.mark.parametrize("chunk_ms", [0, -320, 100, 330, 257 * 40])
def test_impossible_chunk_ms(tiny_bundle: Path, chunk_ms: int) -> None:
    with pytest.raises(asr.AsrError, match=f"chunk of {chunk_ms} ms; expected a multiple of 40"):
        asr.load(tiny_bundle, chunk_ms=chunk_ms)


def test_a_model_that_fails_its_self_test_is_not_loaded(tiny_bundle: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    with np.load(path / "golden.npz") as golden:
        content = {key: golden[key] for key in golden}
    content["encoder_out.int8"] = content["encoder_out.int8"] + 0.01
    np.savez(path / "golden.npz", **content)
    write_manifest(path)
    with pytest.raises(asr.BundleError, match="self-test failed"):
        asr.load(path)


def test_transcribe_refuses_what_read_blocks_refuses(tiny_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(asr.AudioError, match="no such file"):
        asr.load(tiny_bundle).transcribe(tmp_path / "nowhere.wav")


def test_import_is_cheap() -> None:
    """`import asr` must stay far under half a second: it may load nothing large."""
    code = """
import sys, asr
heavy = {"numpy", "onnxruntime", "soundfile", "soxr", "kaldi_native_fbank", "typer", "rich"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
assert set(asr.__all__) <= set(dir(asr))
for name in asr.__all__:
    getattr(asr, name)
assert not {"torch", "scipy", "pandas", "rich"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="'asr' has no attribute 'Recogniser'"):
        _ = asr.Recogniser


@pytest.fixture
def reading_bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    """The tiny bundle with a language model of its tokens."""
    folder = tmp_path / "reading"
    shutil.copytree(tiny_bundle, folder)
    vocab_size = len(open_bundle(tiny_bundle).read_tokens())
    arrays = model_arrays([["2 3", "4 5"]] * 20, spell, vocab_size, (1, 1, 1))
    np.savez(folder / "language_model.npz", allow_pickle=False, **arrays)
    write_manifest(folder)
    edit(folder, {"file": "language_model.npz", "weight": 1.0, **TAKEN_OFF})
    return folder


TAKEN_OFF = {"internal_weight": 0.1, "transcript_weight": 0.1}


def edit(bundle: Path, language_model: object) -> None:
    path = bundle / "bundle.json"
    content = json.loads(path.read_text()) | {"language_model": language_model}
    path.write_text(json.dumps(content))


def test_a_language_model_is_asked_unless_search_is_greedy(
    tiny_bundle: Path, reading_bundle: Path, write_speech: Write
) -> None:
    path = write_speech("a.wav", 5.0, 16_000)
    assert asr.load(tiny_bundle).search == "greedy"
    assert asr.load(reading_bundle).search == "two-pass"
    texts = [
        asr.load(bundle, search=search).transcribe(path).text
        for bundle in (tiny_bundle, reading_bundle)
        for search in ("greedy", "beam")
    ]
    assert texts[0] == texts[2], "greedy search asks nobody"
    assert texts[3] not in texts[:3], "what it has read is something else"
    with pytest.raises(asr.AsrError, match="the search 'bean'; expected two-pass, beam or greedy"):
        asr.load(reading_bundle, search="bean")


def test_streams_with_a_language_model_are_cut_anywhere(
    reading_bundle: Path, write_speech: Write
) -> None:
    recognizer = asr.load(reading_bundle)
    path = write_speech("a.wav", 5.0, 16_000)
    samples = np.concatenate([block for block, _ in read_blocks(path)])
    stream = recognizer.stream()
    told = ""
    for block in np.array_split(samples, 23):
        for event in stream.accept(block):
            if isinstance(event, asr.Partial):
                assert event.text.startswith(event.stable_text)
                assert event.stable_text.startswith(told), "what is stable stays"
                told = event.stable_text
    assert stream.finish().result == recognizer.transcribe(path)


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({"file": "absent.npz"}, "missing key 'language_model.weight'"),
        ({"file": "lm.npz", "weight": 0.5, **TAKEN_OFF}, "names 'lm.npz', which is not"),
        ({"file": "tokens.txt", "weight": 0.5, **TAKEN_OFF}, "can't be used"),
        ({"file": "golden.npz", "weight": 0.5, **TAKEN_OFF}, "no language model for"),
        ({"file": "tokens.txt", "weight": -1, **TAKEN_OFF}, "expected 0 to 1, got -1"),
        ("lm.npz", "expected an object"),
    ],
)
def test_a_language_model_that_can_not_be_used_is_named(
    reading_bundle: Path, stated: object, message: str
) -> None:
    edit(reading_bundle, stated)
    with pytest.raises(asr.BundleError, match=message):
        asr.load(reading_bundle)


def test_a_language_model_of_other_tokens_is_refused(reading_bundle: Path) -> None:
    arrays = random_arrays(20, seed=1)
    np.savez(reading_bundle / "language_model.npz", allow_pickle=False, **arrays)
    write_manifest(reading_bundle)
    edit(reading_bundle, {"file": "language_model.npz", "weight": 0.5, **TAKEN_OFF})
    with pytest.raises(asr.BundleError, match="20 tokens, the graphs 12"):
        asr.load(reading_bundle)
