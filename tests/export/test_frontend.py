"""The front end as a graph computes the features that the model was trained on."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch

from asr.errors import AsrError
from asr.features import FRAME_SHIFT, compute_features
from export.frontend import MIRRORED, OVERLAP, PROGRAM_FRAMES, FrontEnd, frontend_graph, main
from tests.samples import SAMPLES, read_samples

MAX_ERROR = 1e-3


def mirrored(samples: np.ndarray) -> np.ndarray:
    """The stream with what the filter bank puts before it, cut to whole frames."""
    stream = np.concatenate([samples[:MIRRORED][::-1], samples])
    frames = (len(stream) - OVERLAP) // FRAME_SHIFT
    return stream[: frames * FRAME_SHIFT + OVERLAP]


def noise(level: float, offset: float = 0.0) -> np.ndarray:
    samples = np.random.default_rng(0).standard_normal(16_000)
    return (level * samples + offset).astype(np.float32)


@pytest.mark.parametrize(
    "samples",
    [noise(0.1), noise(0.01, offset=0.1), noise(1e-5), np.zeros(4000, np.float32)],
    ids=["noise", "offset", "nearly silent", "silent"],
)
def test_equals_the_filter_bank(samples: np.ndarray) -> None:
    found = FrontEnd()(torch.from_numpy(mirrored(samples))[None])[0].numpy()
    expected = compute_features(samples)[: len(found)]
    assert len(found) >= len(samples) // FRAME_SHIFT - 1
    assert np.abs(found - expected).max() < MAX_ERROR


@pytest.fixture(scope="module")
def session() -> ort.InferenceSession:
    return ort.InferenceSession(frontend_graph().SerializeToString())


def test_the_graph_gives_the_features_of_speech_in_calls_of_any_size(
    session: ort.InferenceSession,
) -> None:
    samples = read_samples(SAMPLES[0])
    stream, done, found = mirrored(samples), 0, []
    for frames in (35, 1, 32, 7, 64):
        call = stream[done * FRAME_SHIFT : (done + frames) * FRAME_SHIFT + OVERLAP]
        found.append(session.run(None, {"samples": call[None]})[0][0])
        assert found[-1].shape == (frames, 80)
        done += frames
    expected = compute_features(samples)[:done]
    assert np.abs(np.concatenate(found) - expected).max() < MAX_ERROR


def test_the_program_for_executorch_gives_them_too(tmp_path: Path) -> None:
    portable_lib = pytest.importorskip("executorch.extension.pybindings.portable_lib")
    main(tmp_path / "frontend.pte")
    method = portable_lib._load_program(str(tmp_path / "frontend.pte")).load_method("features")
    stream = mirrored(noise(0.1))[: PROGRAM_FRAMES * FRAME_SHIFT + OVERLAP]
    found = method.call((torch.from_numpy(stream)[None],))[0][0].numpy()
    assert np.abs(found - compute_features(noise(0.1))[:PROGRAM_FRAMES]).max() < MAX_ERROR


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AsrError, match=r"frontend\.tflite"):
        main(tmp_path / "frontend.tflite")
